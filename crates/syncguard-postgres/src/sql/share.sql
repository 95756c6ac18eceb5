-- Grants a key in shared mode, or returns its holders: one call of a function (see `schema_share.sql`).
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms, $4 ttl in ms, $5 key of the fence counter,
--      $6 user key, $7 fence limit, $8 owner or NULL, $9 number of permits or 0, $10 lock id of a new head,
--      $11 key of the row of the id
-- Out: one row: own_transaction; the columns that the function returns
SELECT
    {own_transaction} AS own_transaction,
    sharing.*
FROM (SELECT) AS connection
LEFT JOIN {share}(
    {own_transaction}, $1, $2, $3, $4, $5, $6, $7, $8, nullif($9, 0), $10, $11
) AS sharing ON true
