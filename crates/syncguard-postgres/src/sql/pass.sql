-- Notifies the next waiters in line, in place of one that does not want its turn any more. The commit does not
-- wait for the disk.
--
-- In:  $1 key as stored, $2 channel
-- Out: one row: own_transaction
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    CASE WHEN {own_transaction} THEN pg_notify($2, {next}($1, 1, false))::text END AS notified
