-- Reads the key that an id shares, or has announced itself for.
--
-- In:  $1 lock id, $3 key
-- Out: an expression: NULL if there is none
COALESCE(
    (SELECT member_of FROM {locks} WHERE lock_key = CONCAT(X'FE', $1)),
    (SELECT lock_key FROM {locks} WHERE lock_key = $3 AND announced_id = $1)
)
