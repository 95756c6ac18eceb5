-- Adds the columns of shared mode to a table that was created without them. It can be run repeatedly.
--
-- In:  nothing
-- Out: nothing
--
-- It waits for other sessions that use the table for at most 4 s, because meanwhile new ones wait behind it. The
-- server then only changes its description of the table, not the rows. Clients that are connected keep working.
SET @syncguard_lock_wait_timeout = @@SESSION.lock_wait_timeout;
SET SESSION lock_wait_timeout = 4;
SET @syncguard_sharing = IF(
    EXISTS (
        SELECT * FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = {name} AND COLUMN_NAME = 'member_of'
    ),
    'DO 0',
    'ALTER TABLE {locks}
        ADD COLUMN permits INT UNSIGNED NULL,
        ADD COLUMN holders LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
        ADD COLUMN announced_id VARBINARY(22) NULL,
        ADD COLUMN announced_fence BIGINT UNSIGNED NULL,
        ADD COLUMN announced_until_ms BIGINT NULL,
        ADD COLUMN member_of VARBINARY(512) NULL'
);
PREPARE syncguard_sharing FROM @syncguard_sharing;
EXECUTE syncguard_sharing;
DEALLOCATE PREPARE syncguard_sharing;
SET SESSION lock_wait_timeout = @syncguard_lock_wait_timeout
