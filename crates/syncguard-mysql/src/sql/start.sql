-- Reads the clock at the start of the statement. A statement that only reads shows a state that is later, so
-- what it shows as held was held at that time. At the time of evaluation, that would not be certain.
--
-- In:  nothing; the time zone of the connection must be UTC
-- Out: an expression: Unix milliseconds
TIMESTAMPDIFF(MICROSECOND, '1970-01-01', NOW(3)) DIV 1000
