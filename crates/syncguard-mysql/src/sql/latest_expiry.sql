-- Reads the latest expiry of the holders of a row, which is that of the head.
--
-- In:  nothing
-- Out: an expression: Unix milliseconds, 0 without holders
COALESCE(
    (
        SELECT MAX(holder.expires_at_ms)
        FROM JSON_TABLE(
            holders, '$.*' COLUMNS (expires_at_ms BIGINT PATH '$.expires_at_ms')
        ) AS holder
    ),
    0
)
