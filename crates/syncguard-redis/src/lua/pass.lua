-- Notifies the next waiter of a lock, in place of one that does not want its turn any more. Begins with next.lua.
--
-- KEYS[1] the lock
-- KEYS[2], KEYS[3]           the line of its waiters, as in next.lua
-- ARGV[1] PUBLISH or SPUBLISH
--
-- Reply   1

redis.pcall(ARGV[1], KEYS[1] .. ':released', next_in_line(1))
return 1
