-- Ends all grants of a lock and its announcement, and returns the record. A value that cannot be read is removed
-- as well.
--
-- KEYS[1] the lock           KEYS[2] the shared holders
-- ARGV[1] PUBLISH, SPUBLISH or ""
--
-- Reply   {now, record}      ended, if the record is live at now; as in lookup.lua
--
-- The entries of the holders' ids are not keys of this script, because the ids are not known in advance. They stay
-- until they expire. A request that follows one finds that the id does not hold the lock.

local time = redis.call('TIME')
local record = redis.pcall('GET', KEYS[1])
local holders = redis.pcall('HGETALL', KEYS[2])
if type(record) == 'table' then
  if not string.find(record.err, '^WRONGTYPE') then return record end
  record = -3
elseif record and string.find(record, '^{"shared":%d+,"lockId":"[%w_-]+","expiresAtMs":%d+,') then
  record = {record, holders.err and -3 or holders}
end
if redis.call('DEL', KEYS[1], KEYS[2]) > 0 and ARGV[1] ~= '' then redis.pcall(ARGV[1], KEYS[1] .. ':released', '') end
return {math.floor(time[1] * 1000 + time[2] / 1000), record}
