-- Makes an insignificant write, and waits until it is on the disk. The log is written in order, so everything
-- that was committed before is on the disk as well.
--
-- In:  nothing
-- Out: nothing
--
-- The row has the form of a tombstone without an id, and counts as old from the start.
INSERT INTO {locks} (lock_key, fence, acquired_at_ms, expires_at_ms)
VALUES (X'FF', 0, 1, 0)
ON DUPLICATE KEY UPDATE acquired_at_ms = acquired_at_ms + 1
