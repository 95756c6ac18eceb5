-- Tests whether the holders of a row can be read, if it is a head.
--
-- In:  nothing; the row is named `candidate`
-- Out: a condition
IF(LENGTH(candidate.lock_id) = {head_bytes}, COALESCE(JSON_VALID(candidate.holders), FALSE), TRUE)
