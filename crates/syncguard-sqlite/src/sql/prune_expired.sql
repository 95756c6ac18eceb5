-- Clears some records whose grants expired unreleased, which removes them from the index of ids, and deletes those
-- with fence 0, which have no counter. It examines only a few records, those with the ids next to the given one.
-- Other fences stay, and so do records that cannot be read. An id has 22 characters of base64url; the length in
-- characters ends at a zero byte.
--
-- In:  ?1 lock id, ?2 grace in ms, ?3 number of records to examine
-- Out: nothing
UPDATE syncguard_locks
SET lock_id = NULL, owner = NULL, acquired_at_ms = NULL, expires_at_ms = NULL
WHERE key IN (
    SELECT key FROM syncguard_locks INDEXED BY syncguard_locks_by_id
    WHERE lock_id > ?1
    ORDER BY lock_id
    LIMIT ?3
)
    AND typeof(key) = 'text'
    AND typeof(fence) = 'integer' AND fence BETWEEN 1 AND 999999999999999
    AND typeof(acquired_at_ms) = 'integer'
    AND typeof(expires_at_ms) = 'integer'
    AND typeof(lock_id) = 'text'
    AND length(lock_id) = 22 AND octet_length(lock_id) = 22 AND lock_id NOT GLOB '*[^0-9A-Za-z_-]*'
    AND expires_at_ms <= CAST(round(unixepoch('subsec') * 1000) AS INTEGER) - ?2;

DELETE FROM syncguard_locks
WHERE key IN (
    SELECT key FROM syncguard_locks INDEXED BY syncguard_locks_by_id
    WHERE lock_id > ?1
    ORDER BY lock_id
    LIMIT ?3
)
    AND typeof(key) = 'text'
    AND fence = 0
    AND typeof(acquired_at_ms) = 'integer'
    AND typeof(expires_at_ms) = 'integer'
    AND typeof(lock_id) = 'text'
    AND length(lock_id) = 22 AND octet_length(lock_id) = 22 AND lock_id NOT GLOB '*[^0-9A-Za-z_-]*'
    AND expires_at_ms <= CAST(round(unixepoch('subsec') * 1000) AS INTEGER) - ?2
