-- Ends several shared grants of one key, and notifies the waiters of the key (see `schema_leave.sql`).
--
-- In:  $1 lock ids, $2 key as stored, $3 grace in ms, $4 channel, $5 class of the advisory locks of waiters
-- Out: one row: own_transaction; released: for each lock id whether its grant was live, NULL if it has another
--      one, which stays
--
-- As in `release`, the commit does not wait for the disk.
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    CASE WHEN {own_transaction} THEN {leave}($1, $2, $3, $4, $5) END AS released
