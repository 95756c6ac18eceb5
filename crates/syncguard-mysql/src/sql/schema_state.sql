-- Reads which parts of the table exist.
--
-- In:  $1 name of the table
-- Out: one row: present: whether there is a table of this name; complete: whether it has all columns, keys and
--      ids are bytes, each of these two has a unique index of its own, and its engine is InnoDB; shared: whether
--      it has the columns of shared mode
SELECT
    EXISTS (
        SELECT * FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = $1
    ) AS present,
    (
        SELECT COUNT(*) = 6 AND SUM(
            DATA_TYPE = 'varbinary'
                AND CHARACTER_MAXIMUM_LENGTH >= IF(COLUMN_NAME = 'lock_key', 512, 22)
        ) = 2
        FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = $1 AND COLUMN_NAME IN (
            'lock_key', 'fence', 'lock_id', 'owner', 'acquired_at_ms', 'expires_at_ms'
        )
    ) AND (
        SELECT COUNT(DISTINCT COLUMN_NAME) = 2
        FROM information_schema.STATISTICS AS one
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = $1 AND NON_UNIQUE = 0
            AND SUB_PART IS NULL
            AND COLUMN_NAME IN ('lock_key', 'lock_id')
            AND NOT EXISTS (
                SELECT *
                FROM information_schema.STATISTICS AS other
                WHERE other.TABLE_SCHEMA = one.TABLE_SCHEMA
                    AND other.TABLE_NAME = one.TABLE_NAME
                    AND other.INDEX_NAME = one.INDEX_NAME
                    AND other.SEQ_IN_INDEX > 1
            )
    ) AND (
        SELECT COUNT(*) = 1
        FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = $1 AND ENGINE = 'InnoDB'
    ) AS complete,
    (
        SELECT COUNT(*) = 6
        FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = $1 AND COLUMN_NAME IN (
            'permits', 'holders', 'announced_id', 'announced_fence', 'announced_until_ms', 'member_of'
        )
    ) AS shared
