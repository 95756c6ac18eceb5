-- Tests whether the holders of a head can be read. If not, no one knows how long it is held.
--
-- In:  nothing; a row has the column `holders`
-- Out: a condition
(
    SELECT
        COUNT(*) > 0
        -- What is not a number is NULL or 0, depending on the server.
        AND COUNT(*) = COUNT(
            IF(holder.fence > 0 AND holder.acquired_at_ms > 0 AND holder.expires_at_ms > 0, 1, NULL)
        )
    FROM JSON_TABLE(
        holders,
        '$.*' COLUMNS (
            fence BIGINT PATH '$.fence',
            acquired_at_ms BIGINT PATH '$.acquired_at_ms',
            expires_at_ms BIGINT PATH '$.expires_at_ms'
        )
    ) AS holder
)
