-- Reads the time as the TypeScript client does.
--
-- In:  nothing
-- Out: one row (ms)
SELECT floor(extract(epoch FROM now()) * 1000)::bigint
