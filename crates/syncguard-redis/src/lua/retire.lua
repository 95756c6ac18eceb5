-- Deletes the counters of free locks that were not granted for a time.
--
-- KEYS    the locks and their counters, in turn
-- ARGV[1] the lowest value of a counter that is deleted
-- ARGV[2] how long the lock must not have been granted, in ms
--
-- Reply   the number of deleted counters
--
-- The value of a seeded counter is at least the server's time at the last grant. Values that are not numbers are left
-- alone. An announcement that is left of a lock without a counter is void.

local time = redis.call('TIME')
local latest = time[1] * 1000 + time[2] / 1000 - ARGV[2]
local retired = 0
for i = 1, #KEYS, 2 do
  local counter = redis.pcall('GET', KEYS[i + 1])
  local fence = type(counter) == 'string' and string.find(counter, '^%d+$') and tonumber(counter)
  if fence and fence >= tonumber(ARGV[1]) and fence <= latest and redis.call('EXISTS', KEYS[i]) == 0 then
    retired = retired + redis.call('DEL', KEYS[i + 1])
  end
end
return retired
