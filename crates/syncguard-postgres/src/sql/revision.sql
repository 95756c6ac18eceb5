-- Reads the revision of the tables, and which clients may use them.
--
-- In:  nothing
-- Out: one row: own_transaction; version: the lowest revision that a client must know; revision. Both are NULL
--      if the table has no row.
SELECT
    {own_transaction} AS own_transaction,
    stored.version,
    stored.revision
FROM (SELECT) AS connection
LEFT JOIN {schema} AS stored ON stored.id = 1
