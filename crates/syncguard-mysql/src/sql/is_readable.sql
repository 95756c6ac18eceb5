-- Tests whether the expiry of each holder of a row can be read. If not, the latest of them is unknown.
--
-- In:  nothing
-- Out: a condition
NOT EXISTS (
    SELECT *
    FROM JSON_TABLE(
        holders, '$.*' COLUMNS (expires_at_ms BIGINT PATH '$.expires_at_ms')
    ) AS holder
    WHERE holder.expires_at_ms IS NULL
)
