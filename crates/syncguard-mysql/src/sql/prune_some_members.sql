-- Deletes some of the old rows of members whose heads do not name them any more. One statement that follows those
-- that prune some grants and tombstones, and like them waits for no other client.
--
-- In:  $1 lock id, $2 minimum age of a row in ms, $3 number of rows to examine
-- Out: no rows; the number of deleted rows
--
-- See `prune_members.sql` for why no grant loses its member, and `prune_some.sql` for the order of the joins. The
-- join of the head is an inner one, so that the members of a head that is skipped, because another client has locked
-- it, stay.
DELETE readers FROM (
    SELECT reader.lock_key
    FROM {locks} AS reader
    JOIN (
        SELECT lock_key FROM {locks}
        WHERE lock_key > CONCAT(X'FE', $1) AND lock_key < X'FF'
        ORDER BY lock_key
        LIMIT $3
    ) AS seen ON reader.lock_key = seen.lock_key
    JOIN {locks} AS head ON head.lock_key = reader.member_of
    WHERE reader.acquired_at_ms <= {now} - $2
        AND NOT {names_member}
    LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS old
STRAIGHT_JOIN {locks} AS readers ON readers.lock_key = old.lock_key
WHERE readers.acquired_at_ms <= {now} - $2
