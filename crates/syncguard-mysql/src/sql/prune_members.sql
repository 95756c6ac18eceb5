-- Deletes some of the old rows of members whose heads do not name them any more. One statement that follows those
-- that prune grants and tombstones.
--
-- In:  $2 minimum age of a row in ms, $3 maximum number of rows
-- Out: no rows; the number of deleted rows
--
-- A grant writes the member and the head at once. An old row that the head does not name therefore belongs to no
-- grant, and to none in the future, because it keeps its id from being granted.
DELETE members FROM {locks} AS members
JOIN (
    SELECT member.lock_key
    FROM {locks} AS member
    LEFT JOIN {locks} AS head ON head.lock_key = member.member_of
    WHERE member.lock_key >= X'FE'
        AND member.lock_key < X'FF'
        AND member.acquired_at_ms <= {now} - $2
        AND NOT {names_member}
    LIMIT $3
) AS old ON members.lock_key = old.lock_key
WHERE members.acquired_at_ms <= {now} - $2
