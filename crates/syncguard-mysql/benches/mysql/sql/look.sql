-- Reads a row by its key: the least that a contended attempt could cost.
--
-- In:  the key
-- Out: a row if there is one: lock_id, expires_at_ms
SELECT lock_id, expires_at_ms FROM syncguard_locks WHERE lock_key = ?
