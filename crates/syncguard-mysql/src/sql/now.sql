-- Reads the clock when it is evaluated, which in an UPDATE is after the wait for the row. NOW() would
-- be the time at which the statement began.
--
-- In:  nothing; the time zone of the connection must be UTC
-- Out: an expression: Unix milliseconds
TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000
