-- Sets the expiry of one live grant in shared mode to now plus the ttl, and that of the head to the latest.
--
-- In:  $1 lock id, $2 key, $3 ttl in ms, $4 grace in ms
-- Out: no rows; the number of changed rows, and the new expiry in ms as the last insert id
--
-- Assignments are made from left to right: the clock is read once, and the last expiry is computed from the
-- holders as they are then.
UPDATE {locks}
SET
    expires_at_ms = LAST_INSERT_ID({now} + $3),
    holders = JSON_SET(
        holders, CONCAT('$."id:', CONVERT($1 USING utf8mb4), '".expires_at_ms'), expires_at_ms
    ),
    expires_at_ms = {latest_expiry}
WHERE lock_key = $2
    AND LENGTH(lock_id) = {head_bytes}
    AND CAST(
        JSON_EXTRACT(holders, CONCAT('$."id:', CONVERT($1 USING utf8mb4), '".expires_at_ms')) AS SIGNED
    ) > {now} - $4
    AND {is_readable}
