-- Reads the revision of the tables, and which clients may use them.
--
-- In:  nothing
-- Out: one row: sound; version: the least revision that a client must know; revision. Both are NULL if the
--      table has no row
SELECT
    {sound} AS sound,
    stored.version,
    stored.revision
FROM (SELECT) AS connection
LEFT JOIN {schema} AS stored ON stored.id = 1
