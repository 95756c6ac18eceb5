-- Reads which parts of the tables exist.
--
-- In:  $1 lock table, quoted, $2 counter table, quoted, $3 table of the revision, quoted
-- Out: one row: own_transaction; locks, counters: whether the tables exist; usable: whether they have the
--      columns of the TypeScript client, and the unique indexes by which statements find a row or insert one;
--      has_owner_columns: whether the lock table also has the columns of the owner;
--      has_shared_mode: whether it also has the columns of shared mode, and the functions exist;
--      versioned: whether the table of the revision exists
SELECT
    {own_transaction} AS own_transaction,
    to_regclass($1) IS NOT NULL AS locks,
    to_regclass($2) IS NOT NULL AS counters,
    to_regclass($3) IS NOT NULL AS versioned,
    (
        SELECT count(*) = 9
        FROM pg_attribute
        WHERE NOT attisdropped AND (
            (attrelid = to_regclass($1) AND attname IN (
                'key', 'lock_id', 'expires_at_ms', 'acquired_at_ms', 'fence', 'user_key'
            ))
            OR (attrelid = to_regclass($2) AND attname IN ('fence_key', 'fence', 'key_debug'))
        )
    ) AND (
        SELECT count(DISTINCT pg_attribute.attname) = 3
        FROM pg_index
        JOIN pg_attribute
            ON pg_attribute.attrelid = pg_index.indrelid
            AND pg_attribute.attnum = pg_index.indkey[0]
        WHERE pg_index.indisunique AND pg_index.indisvalid AND pg_index.indnatts = 1
            AND pg_index.indpred IS NULL
            AND (
                (indrelid = to_regclass($1) AND attname IN ('key', 'lock_id'))
                OR (indrelid = to_regclass($2) AND attname = 'fence_key')
            )
    ) AS usable,
    (
        SELECT count(*) = 2
        FROM pg_attribute
        WHERE NOT attisdropped
            AND attrelid = to_regclass($1) AND attname IN ('owner', 'owner_lock_id')
    ) AS has_owner_columns,
    (
        SELECT count(*) = 6
        FROM pg_attribute
        WHERE NOT attisdropped
            AND attrelid = to_regclass($1)
            AND attname IN (
                'shared_id', 'permits', 'holders', 'announced_by', 'announced_until_ms', 'head_key'
            )
    ) AND NOT EXISTS (
        SELECT FROM unnest({functions}) AS signature WHERE to_regprocedure(signature) IS NULL
    ) AS has_shared_mode
