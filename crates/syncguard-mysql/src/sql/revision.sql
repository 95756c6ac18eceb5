-- Reads the revision of the table, and which clients may use it.
--
-- In:  nothing
-- Out: a row if they are recorded: recorded, the least version of a client, a comma, and the revision
SELECT owner AS recorded FROM {locks} WHERE lock_key = X'FF736368656D61'
