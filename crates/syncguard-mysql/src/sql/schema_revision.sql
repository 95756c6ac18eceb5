-- Records the revision of the table, and which clients may use it. It can be run again and again.
--
-- In:  nothing
-- Out: nothing
--
-- One row, of a key that no text in UTF-8 is, so that whoever may read the table may read it. Its owner is the
-- least revision that a client must know, which is called the version, a comma, and the revision. A table
-- without the row is of revision 1. The row is never old, so that it is not pruned with the marks.
INSERT INTO {locks} (lock_key, fence, owner, acquired_at_ms, expires_at_ms)
VALUES (X'FF736368656D61', 0, '1,2', 9223372036854775807, 0)
ON DUPLICATE KEY UPDATE lock_key = lock_key
