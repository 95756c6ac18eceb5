-- Creates the table if it is missing. It can be run repeatedly, and by many clients at once: the server lets
-- one of them create the table, and the others wait and find it.
--
-- In:  nothing
-- Out: nothing
--
-- It has a row for each key that was ever granted, because a fence must never repeat. Only rows whose fences are
-- seeded are ever deleted (see `retire.sql`), and those of claims, which were granted no fence: theirs is 0 (see
-- `prune.sql`). Beside the fence, the row holds the grant of the key. If there is no grant, `lock_id` is NULL and
-- `expires_at_ms` is 0. Therefore a grant changes one row. A row whose key begins with the byte FF, which no text in UTF-8 has, is
-- the tombstone of an abandoned id.
--
-- If the row is shared, `lock_id` is the id of the head, which is one byte shorter than that of a holder. `holders`
-- then contains the grants, and `expires_at_ms` is the latest of theirs. Each holder has a row of its own under a key
-- that begins with the byte FE, with its id and `member_of`, and an expiry of 0: it is not a lock. An announcement
-- of a writer stands until its time while `announced_fence` equals `fence`.
--
-- Keys and ids are bytes, compared as bytes, whatever the collation of the database. By the unique index, an
-- id holds at most one key, and an abandoned id stays abandoned.
CREATE TABLE IF NOT EXISTS {locks} (
    lock_key VARBINARY(512) NOT NULL,
    fence BIGINT UNSIGNED NOT NULL,
    lock_id VARBINARY(22) NULL,
    owner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    acquired_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    permits INT UNSIGNED NULL,
    holders LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    announced_id VARBINARY(22) NULL,
    announced_fence BIGINT UNSIGNED NULL,
    announced_until_ms BIGINT NULL,
    member_of VARBINARY(512) NULL,
    PRIMARY KEY (lock_key),
    UNIQUE KEY lock_id (lock_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
