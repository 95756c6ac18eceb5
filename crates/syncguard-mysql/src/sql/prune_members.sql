-- Deletes some of the old rows of members whose heads do not name them any more. One statement that follows those
-- that prune grants and tombstones.
--
-- In:  $2 minimum age of a row in ms, $3 maximum number of rows
-- Out: no rows; the number of deleted rows
--
-- A grant writes the member and the head at once. An old row that the head does not name therefore belongs to no
-- grant, and to none in the future, because it keeps its id from being granted.
DELETE readers FROM {locks} AS readers
JOIN (
    SELECT reader.lock_key
    FROM {locks} AS reader
    LEFT JOIN {locks} AS head ON head.lock_key = reader.member_of
    WHERE reader.lock_key >= X'FE'
        AND reader.lock_key < X'FF'
        AND reader.acquired_at_ms <= {now} - $2
        AND NOT {names_member}
    LIMIT $3
) AS old ON readers.lock_key = old.lock_key
WHERE readers.acquired_at_ms <= {now} - $2
