-- Releases a lock as the TypeScript client does: it publishes nothing.
--
-- KEYS[1] the index of the lock id
-- ARGV[1] the lock id
--
-- Reply   1                  released
--         0                  the id does not hold it

local name = redis.call('GET', KEYS[1])
local stored = name and redis.call('GET', name)
if not stored or cjson.decode(stored).lockId ~= ARGV[1] then return 0 end
redis.call('DEL', name, KEYS[1])
return 1
