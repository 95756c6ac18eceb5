-- Tests that no announcement of a writer stands for a key.
--
-- In:  nothing
-- Out: a further condition
AND NOT (announced_fence <=> fence AND announced_until_ms > {now})
