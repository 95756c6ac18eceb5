-- Ends the grant of the id, and notifies the next waiters. Ends with next.lua, release_next.lua, holders.lua and
-- release_shared.lua.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- KEYS[3] the shared holders; may be left out if the lock is not shared
-- KEYS[#KEYS - 1], KEYS[#KEYS]                               the line of its waiters, as in next.lua; they may be
--                            left out too, and everyone is notified
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] SPUBLISH or ""; PUBLISH if it is left out
--
-- Reply   1                  released
--         0                  the id does not hold this lock
--         -1                 it did, but its grant has expired
--         -3                 the record cannot be read
--         -4                 the shared holders cannot be read
--         -5                 the lock is shared, and a key is missing
--
-- An exclusive record that is stored is live: it is stored for its ttl and at most the grace, by the same clock.

local call, publish = redis.call, ARGV[2] or 'PUBLISH'
local record = call('GET', KEYS[1])
if not record then return 0 end

-- As in record.lua.
local own = string.find(record, ARGV[1], 1, true) == 1
if not own and not string.find(record, '^{"shared":%d+,"lockId":"[%w_-]+","expiresAtMs":%d+,') then
  if string.find(record, '^{"lockId":"[%w_-]+","expiresAtMs":') then return 0 end
  local ok, foreign = pcall(cjson.decode, record)
  if not ok or type(foreign) ~= 'table' or type(foreign.lockId) ~= 'string' then return -3 end
  if foreign.lockId ~= string.match(ARGV[1], '^{"lockId":"(.-)"') then return 0 end
  own = true
end
if own then
  -- A lock for which no one waits costs no command more than without a line.
  local gone = #KEYS > 2 and call('DEL', KEYS[1], KEYS[2], KEYS[#KEYS - 1]) or call('DEL', KEYS[1], KEYS[2])
  if publish == '' then return 1 end
  if gone < 3 then
    -- Publishing without subscribers costs less than checking for subscribers. If the user may not publish, the
    -- lock is released nevertheless.
    redis.pcall(publish, KEYS[1] .. ':released', '')
    return 1
  end
elseif not KEYS[5] then
  return -5
end
