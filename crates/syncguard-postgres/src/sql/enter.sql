-- Enters the line of a key (see `schema_line.sql`). The commit does not wait for the disk.
--
-- In:  $1 key as stored, $2 waiter, $3 place or NULL, $4 room, $5 for how long in ms
-- Out: one row: own_transaction; place
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    CASE WHEN {own_transaction} THEN {enter}($1, $2, $3, $4, $5) END AS place
