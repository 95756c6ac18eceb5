-- Reads the clock.
--
-- In:  nothing
-- Out: one row: Unix milliseconds
SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000
