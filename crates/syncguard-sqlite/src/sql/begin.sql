-- Begins a transaction that writes. It takes the write lock, so that what the transaction reads stays as it is
-- until the transaction ends.
--
-- In:  nothing
-- Out: nothing
BEGIN IMMEDIATE
