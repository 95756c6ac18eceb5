-- Reads the key of which an id is a member.
--
-- In:  $1 lock id
-- Out: an expression: NULL if the id is no member
(SELECT member_of FROM {locks} WHERE lock_key = CONCAT(X'FE', $1))
