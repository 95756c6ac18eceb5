-- The grants of a claim: part of `acquire`. A claim is counted if the key has a counter, or a record that shows that it
-- had one, which is an error. Otherwise it is granted under fence 0, and no counter is stored.
--
-- In:  as in `acquire`
-- Out: one row for a grant: fence, now_ms
(
    SELECT counted.fence, counted.now_ms FROM counted
    UNION ALL
    SELECT 0, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM turn
    LEFT JOIN {counters} AS seen ON seen.fence_key = $5
    LEFT JOIN {locks} AS past ON past.key = $1
    WHERE turn.taken AND NOT ({is_counted})
) AS counted
