-- Tests whether the id of a row is that of a grant, and not that of the head of a shared key.
--
-- In:  nothing
-- Out: a condition
NOT shared_id <=> lock_id
