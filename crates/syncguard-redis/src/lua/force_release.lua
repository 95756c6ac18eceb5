-- Ends the grant of the holder of a lock, and returns its record. A value that cannot be read is removed as
-- well.
--
-- KEYS[1] the lock
-- ARGV[1] the channel of the lock                            ARGV[2] PUBLISH, SPUBLISH or ""
--
-- Reply   {now, record}      ended, if the record is live at now
--         {now, nil}         no id held it
--         {now, -3}          the value was of another type, such as a list; removed
--
-- The entry of the holder's id is not a key of this script, because the id is not known in advance. It stays
-- until it expires. A request that follows it finds that the id does not hold the lock.

local time = redis.call('TIME')
local record = redis.pcall('GET', KEYS[1])
if type(record) == 'table' then
  if not string.find(record.err, '^WRONGTYPE') then return record end
  record = -3
end
if record then
  redis.call('DEL', KEYS[1])
  if ARGV[2] ~= '' then redis.pcall(ARGV[2], ARGV[1], '') end
end
return {math.floor(time[1] * 1000 + time[2] / 1000), record}
