-- Takes some of the grants off their rows that are long over, and deletes some of the marks of
-- abandoned ids that are old. Rows of keys stay, with their fences. Two statements that are sent
-- together; each is a transaction by itself.
--
-- In:  $1 how long over in ms, $2 how old a mark must be in ms, $3 most rows for each
-- Out: nothing; the number of rows that were changed by both
UPDATE {locks} FORCE INDEX (lock_id)
SET lock_id = NULL, owner = NULL, expires_at_ms = 0
WHERE lock_id IS NOT NULL AND expires_at_ms > 0 AND expires_at_ms <= {now} - $1
LIMIT $3;

DELETE FROM {locks}
WHERE lock_key >= X'FF' AND acquired_at_ms <= {now} - $2
LIMIT $3
