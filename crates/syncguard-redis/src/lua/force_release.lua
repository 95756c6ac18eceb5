-- Ends the grant of whoever holds a lock, and gives its record. What cannot be read is removed as well.
--
-- KEYS[1] the lock
-- ARGV[1] the channel of the lock                            ARGV[2] PUBLISH, SPUBLISH or ""
--
-- Reply   {now, record}      ended, if the record is live at now
--         {now, nil}         nobody held it
--         {now, -3}          what was stored is no record at all, such as a list; removed
--
-- The mark of the holder's id is no key of this script, because the id is not known before. It stays
-- until it expires; whoever follows it finds that the lock is not the id's.

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
