-- Tests whether a head names a member. A head whose holders cannot be read may name it.
--
-- In:  nothing; the rows are named `head` and `reader`
-- Out: a condition
IF(
    LENGTH(head.lock_id) = {head_bytes},
    IF(
        JSON_VALID(head.holders),
        JSON_CONTAINS_PATH(
            head.holders,
            'one',
            CONCAT('$."id:', CONVERT(SUBSTRING(reader.lock_key, 2) USING utf8mb4), '"')
        ),
        TRUE
    ),
    FALSE
)
