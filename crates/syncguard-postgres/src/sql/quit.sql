-- Leaves the line of a key. The commit does not wait for the disk.
--
-- In:  $1 key as stored, $2 waiter
-- Out: one row: own_transaction
WITH gone AS (
    DELETE FROM {line} AS line
    WHERE {own_transaction} AND line.key = $1 AND line.waiter = $2
    RETURNING line.key
)
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    EXISTS (SELECT FROM gone) AS gone
