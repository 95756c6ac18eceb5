-- Sets the expiry of a lock that the id holds to now + ttl. Ends with holders.lua and extend_shared.lua.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- KEYS[3] the shared holders; without it, only an exclusive lock is changed
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] the ttl in ms      ARGV[3] ttl + grace in ms
--
-- Reply   now                extended, until now + ttl
--         0                  the id does not hold this lock
--         -1                 it did, but its grant has expired
--         -3                 the record cannot be read
--         -4                 the shared holders cannot be read
--         -5                 the lock is shared, and KEYS[3] is missing

local GRACE = 1000
local call = redis.call
local record = call('GET', KEYS[1])
if not record then return 0 end
local time = call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)

local own = string.find(record, ARGV[1], 1, true) == 1
local expires, rest = string.match(record, '^{"lockId":"[%w_-]+","expiresAtMs":(%d+)(,.*)$')
local extended
if expires then
  -- The number is replaced in place, so every other member stays unchanged, byte by byte.
  extended = string.format('%s%d', ARGV[1], now + ARGV[2]) .. rest
elseif not string.find(record, '^{"shared":%d+,"lockId":"[%w_-]+","expiresAtMs":%d+,') then
  -- As the TypeScript client does: the other members keep their values, but not their order and format.
  -- Invalid numbers are detected as in record.lua.
  local json = cjson.new()
  json.decode_invalid_numbers(false)
  local ok, foreign = pcall(json.decode, record)
  if not ok or type(foreign) ~= 'table' or type(foreign.lockId) ~= 'string' then return -3 end
  own = foreign.lockId == string.match(ARGV[1], '^{"lockId":"(.-)"')
  expires = foreign.expiresAtMs
  if type(expires) ~= 'number' or expires % 1 ~= 0 then return -3 end
  foreign.expiresAtMs = now + ARGV[2]
  -- Infinite numbers can be read but not written.
  ok, extended = pcall(json.encode, foreign)
  if not ok then return -3 end
end
if extended then
  if not own then return 0 end
  if tonumber(expires) <= now - GRACE then return -1 end
  call('SET', KEYS[1], extended, 'PX', ARGV[3])
  call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3])
  return now
end
if not KEYS[3] then return -5 end
