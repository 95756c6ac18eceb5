-- Tests whether a claim is counted: whether the key has, or had, a counter.
--
-- In:  nothing; the counter is named `seen`, and the row of the key `past`
-- Out: a condition, never NULL
seen.fence IS NOT NULL OR coalesce(past.fence, lpad('0', 15, '0')) <> lpad('0', 15, '0')
