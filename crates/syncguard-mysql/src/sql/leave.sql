-- Ends one grant in shared mode, or removes one that has expired, and deletes the row of its member. Two
-- statements that are sent together; each is a transaction by itself.
--
-- In:  $1 lock id, $2 key, $3 grace in ms, $4 1 for a grant that is live, 0 for one that has expired
-- Out: no rows; the number of rows changed by both
{remove_holder}
WHERE lock_key = $2
    AND LENGTH(lock_id) = {head_bytes}
    AND $4 = (
        CAST(
            JSON_EXTRACT(holders, CONCAT('$."id:', CONVERT($1 USING utf8mb4), '".expires_at_ms')) AS SIGNED
        ) > {now} - $3
    )
    AND {is_readable};

-- Until it is deleted, the row of the member keeps its id from being granted again. Therefore no grant loses its
-- member here.
DELETE FROM {locks} WHERE lock_key = CONCAT(X'FE', $1) AND ROW_COUNT() > 0
