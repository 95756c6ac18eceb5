-- Removes some announcements that have ended.
--
-- In:  ?1 maximum number of announcements to remove
-- Out: nothing
DELETE FROM syncguard_announcements
WHERE key IN (
    SELECT key FROM syncguard_announcements
    WHERE until_ms <= CAST(round(unixepoch('subsec') * 1000) AS INTEGER)
    ORDER BY until_ms
    LIMIT ?1
)
