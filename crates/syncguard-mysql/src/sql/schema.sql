-- Creates the table where it is missing. It can be run again and again, and by many at once: the
-- server lets one of them create it, the others wait and find it there.
--
-- In:  nothing
-- Out: nothing
--
-- A row for each key that was ever granted, for ever: its fence must never repeat. Beside the fence it
-- holds the grant of the key, if there is one: `lock_id` is NULL and `expires_at_ms` 0 where there is
-- none. So a grant is a change of one row. A row whose key begins with the byte FF, which no text in
-- UTF-8 does, marks an abandoned id.
--
-- Keys and ids are bytes: they are equal where their bytes are, whatever the collation of the
-- database. An id holds one key at the most, and what is abandoned stays abandoned, by the unique
-- index.
CREATE TABLE IF NOT EXISTS {locks} (
    lock_key VARBINARY(512) NOT NULL,
    fence BIGINT UNSIGNED NOT NULL,
    lock_id VARBINARY(22) NULL,
    owner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    acquired_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    PRIMARY KEY (lock_key),
    UNIQUE KEY lock_id (lock_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
