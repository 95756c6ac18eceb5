-- Grants a key in shared mode to one request or to several, or returns its holders: one call of a function (see
-- `schema_share.sql`).
--
-- In:  $1 key as stored, $2 lock ids, $3 their ttls in ms, $4 their owners, '' for none, $5 grace in ms, $6 key of
--      the fence counter, $7 user key, $8 fence limit, $9 number of permits or 0, $10 lock id of a new head
-- Out: one row: own_transaction; the columns that the function returns
SELECT
    {own_transaction} AS own_transaction,
    sharing.*
FROM (SELECT) AS connection
LEFT JOIN {share}(
    {own_transaction}, $1, $2, $3, $4, $5, $6, $7, $8, nullif($9, 0), $10
) AS sharing ON true
