-- Grants a lock as the TypeScript client does.
--
-- KEYS[1] the lock           KEYS[2] its fence counter       KEYS[3] the index of the lock id
-- ARGV[1] the lock id        ARGV[2] the ttl in ms           ARGV[3] the key
--
-- Reply   1                  granted
--         0                  another id holds it

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).expiresAtMs > now - 1000 then return 0 end
local fence = string.format('%015d', redis.call('INCR', KEYS[2]))
redis.call('SET', KEYS[1], cjson.encode({
  lockId = ARGV[1],
  expiresAtMs = now + ARGV[2],
  acquiredAtMs = now,
  key = ARGV[3],
  fence = fence,
}), 'PX', ARGV[2])
redis.call('SET', KEYS[3], KEYS[1], 'PX', ARGV[2])
return 1
