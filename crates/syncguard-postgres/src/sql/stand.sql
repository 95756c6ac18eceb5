-- Reads the row that prevents a grant: the first part of `acquire`, or a statement of its own.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms
-- Out: one row: own_transaction; the row that prevents a grant (lock_id, fence, expires_at_ms, owner), if it is
--      live or belongs to the id itself; notifies: whether a client of this library wrote it; shared: the
--      holders and the announcement as JSON, if the key is in shared mode; now_ms
SELECT
    {own_transaction} AS own_transaction,
    locks.lock_id,
    locks.fence,
    locks.expires_at_ms,
    {owner} AS owner,
    {notifies} AS notifies,
    {shared} AS shared,
    clock.now_ms
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
LEFT JOIN {locks} AS locks
    ON locks.key = $1 AND (locks.expires_at_ms > clock.now_ms - $3 OR locks.lock_id = $2)
