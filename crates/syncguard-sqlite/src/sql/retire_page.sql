-- Reads the last of the keys that a step of retiring counters examines.
--
-- In:  ?1 last key of the previous step, '' at first, ?2 number of keys
-- Out: one row (last), or none if there are no more keys
SELECT page.key AS last
FROM (SELECT key FROM syncguard_locks WHERE key > ?1 ORDER BY key LIMIT ?2) AS page
ORDER BY page.key DESC
LIMIT 1
