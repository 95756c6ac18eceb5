-- Guarantees that the id does not hold this lock, now or in the future, and removes its announcement. Ends with
-- holders.lua and abandon_shared.lua.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- KEYS[3] the shared holders
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] PUBLISH, SPUBLISH or ""                            ARGV[3] the lifetime of the tombstone in ms
--
-- Reply   1                  the id held the lock, which is now free, or kept others from it
--         0                  it did not

local call = redis.call
local frees = false
local record = redis.pcall('GET', KEYS[1])

-- A value of another type, such as a list, is not a grant. The tombstone is written nevertheless, because the
-- acquire may arrive when the key is free again. Any other error ends the script.
if type(record) == 'table' then
  if not string.find(record.err, '^WRONGTYPE') then return call('GET', KEYS[1]) end
  record = false
end

-- As in record.lua. A record that cannot be read is not a grant of any id.
local is_shared = record and string.find(record, '^{"shared":%d+,"lockId":"[%w_-]+","expiresAtMs":%d+,')
if record and not is_shared then
  local own = string.find(record, ARGV[1], 1, true) == 1
  if not own then
    local ok, foreign = pcall(cjson.decode, record)
    own = ok and type(foreign) == 'table'
      and foreign.lockId == string.match(ARGV[1], '^{"lockId":"(.-)"')
  end
  if own then frees = call('DEL', KEYS[1]) == 1 end
end
