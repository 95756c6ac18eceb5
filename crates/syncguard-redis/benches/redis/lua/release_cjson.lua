-- Has the same effect as release.lua, written simply: records are tables, encoded and decoded by cjson, and
-- the lock is found by the id, as in the TypeScript client.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- ARGV[1] the lock id        ARGV[2] the channel of the lock

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local name = redis.call('GET', KEYS[2])
if not name then return cjson.encode({outcome = 'not found'}) end
local json = redis.call('GET', name)
if not json then return cjson.encode({outcome = 'not found'}) end
local record = cjson.decode(json)
if record.lockId ~= ARGV[1] then return cjson.encode({outcome = 'not found'}) end
if record.expiresAtMs <= now - 1000 then return cjson.encode({outcome = 'expired'}) end
redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[2], '')
return cjson.encode({outcome = 'released', record = record})
