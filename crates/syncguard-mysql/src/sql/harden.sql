-- Writes something that means nothing, and waits until it is on the disk. The log is written from its
-- beginning on, so all that was committed before is on the disk as well.
--
-- In:  nothing
-- Out: nothing
--
-- The row is that of a mark of no id, which is old from its beginning on.
INSERT INTO {locks} (lock_key, fence, acquired_at_ms, expires_at_ms)
VALUES (X'FF', 0, 1, 0)
ON DUPLICATE KEY UPDATE acquired_at_ms = acquired_at_ms + 1
