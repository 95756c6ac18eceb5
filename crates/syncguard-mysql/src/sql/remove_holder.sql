-- Removes a holder from the head of a shared key. With the last holder, the head ends.
--
-- In:  $1 lock id
-- Out: the beginning of a statement, up to its condition
--
-- Assignments are made from left to right: the expiry is that of the holders that stay.
UPDATE {locks}
SET
    holders = JSON_REMOVE(holders, CONCAT('$."id:', CONVERT($1 USING utf8mb4), '"')),
    expires_at_ms = {latest_expiry},
    holders = IF(expires_at_ms = 0, NULL, holders),
    permits = IF(expires_at_ms = 0, NULL, permits),
    lock_id = IF(expires_at_ms = 0, NULL, lock_id)
