-- Grants a key that no one holds.
--
-- In:  ?1 key, ?2 lock id, ?3 owner or NULL, ?4 ttl in ms, ?5 grace in ms, ?6 the counter as it was
--      read, NULL if there was none, ?7 1 if fences are seeded, otherwise 0, ?8 1 if the grant leaves a key
--      without a counter as it is, otherwise 0 or NULL
-- Out: one row (fence, expires_at_ms) if it was granted; none, and nothing written, if the key is held, the
--      id was abandoned, or the counter has changed since
--
-- Every grant increments the counter. So if the counter is still the one that was read, the record is too,
-- except for an extend or a release.
--
-- A claim creates no counter: if there is none, the fence is 0. Exclusion does not depend on it: if the key is held by
-- now, its expiry is not over. Of two claims that read the same state, the second finds the first.
--
-- A seeded fence is at least the time. If the counter was retired since it was read, the row is inserted again, with
-- a fence above all before.
--
-- `now_ms` is read when the statement runs, which is after it waited for the write lock: SQLite opens the
-- write transaction with the first instruction. `unixepoch('subsec')` is the quotient of whole milliseconds
-- and 1000. Rounding the product yields exactly those milliseconds; truncating it would sometimes yield one
-- less.
INSERT INTO syncguard_locks (key, fence, lock_id, owner, acquired_at_ms, expires_at_ms)
SELECT ?1, iif(?8, 0, max(1, ?7 * clock.now_ms)), ?2, ?3, clock.now_ms, clock.now_ms + ?4
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
WHERE NOT EXISTS (SELECT 1 FROM syncguard_abandoned WHERE lock_id = ?2)
ON CONFLICT (key) DO UPDATE SET
    fence = iif(fence = 0 AND ?8, 0, max(fence + 1, ?7 * excluded.acquired_at_ms)),
    lock_id = excluded.lock_id,
    owner = excluded.owner,
    acquired_at_ms = excluded.acquired_at_ms,
    expires_at_ms = excluded.expires_at_ms
WHERE fence = ?6
    AND (expires_at_ms IS NULL OR expires_at_ms <= excluded.acquired_at_ms - ?5)
RETURNING fence, expires_at_ms
