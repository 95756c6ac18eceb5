-- Reads from a row the number of permits, which counts only if the row is shared. To read the holders would cost
-- more.
--
-- In:  nothing; the row is named `locks`
-- Out: an expression: permits: NULL for any number
locks.permits
