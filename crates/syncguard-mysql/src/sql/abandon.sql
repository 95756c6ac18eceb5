-- Leaves the mark of an abandoned id, or ends the grant that stands in its way. Two statements that are
-- sent together; each is a transaction by itself.
--
-- In:  $1 lock id, $2 key of the mark
-- Out: one row: marked; if it is 0, a grant under the id was ended, and the mark is still to be made
--
-- See `release.rs` for why nothing slips through.
INSERT INTO {locks} (lock_key, fence, lock_id, acquired_at_ms, expires_at_ms)
VALUES ($2, 0, $1, {now}, 0)
ON DUPLICATE KEY UPDATE
    -- The row that has the id already: that of a key, or that of the mark, which stays as it is.
    -- Assignments are made from left to right.
    owner = IF(lock_id = $1, NULL, owner),
    expires_at_ms = IF(lock_id = $1, 0, expires_at_ms),
    lock_id = IF(lock_id = $1 AND lock_key <> $2, NULL, lock_id);

SELECT COUNT(*) AS marked FROM {locks} WHERE lock_key = $2
