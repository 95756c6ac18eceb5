-- Has the same effect as acquire.lua, written simply: records are tables, encoded and decoded by cjson.
--
-- KEYS[1] the lock           KEYS[2] its fence counter       KEYS[3] the entry of the lock id
-- ARGV[1] the lock id        ARGV[2] the ttl in ms           ARGV[3] ttl + grace in ms
-- ARGV[4] the key            ARGV[5] the owner, or ""

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local mark = redis.call('GET', KEYS[3])
if mark == '' then return cjson.encode({outcome = 'abandoned'}) end
local json = redis.call('GET', KEYS[1])
if json then
  local record = cjson.decode(json)
  if record.expiresAtMs > now - 1000 then
    local outcome = record.lockId == ARGV[1] and 'granted' or 'contended'
    return cjson.encode({outcome = outcome, now = now, record = record})
  end
end
local counter = tonumber(redis.call('GET', KEYS[2]) or '0')
if counter >= 900000000000000 then return cjson.encode({outcome = 'limit'}) end
local fence = string.format('%015d', redis.call('INCR', KEYS[2]))
local record = {
  lockId = ARGV[1],
  expiresAtMs = now + tonumber(ARGV[2]),
  acquiredAtMs = now,
  key = ARGV[4],
  fence = fence,
}
if ARGV[5] ~= '' then record.owner = ARGV[5] end
redis.call('SET', KEYS[1], cjson.encode(record), 'PX', ARGV[3])
redis.call('SET', KEYS[3], KEYS[1], 'PX', ARGV[3])
return cjson.encode({outcome = 'granted', now = now, record = record})
