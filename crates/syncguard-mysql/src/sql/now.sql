-- Reads the clock at the time of evaluation, which in an UPDATE is after the wait for the row. NOW() would be
-- the start time of the statement.
--
-- In:  nothing; the time zone of the connection must be UTC
-- Out: an expression: Unix milliseconds
TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000
