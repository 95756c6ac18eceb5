-- Reads locks together with the server's time.
--
-- KEYS    the locks, and then, in the same order, their shared holders
--
-- Reply   {now, {record, …}} a record is nil if there is none, and -3 if a value of another type is stored,
--                            such as a list. In shared mode it is {record, holders}: the fields of the hash
--                            and their values in turn, or -3.

local time = redis.call('TIME')
local records, count = {}, #KEYS / 2
for i = 1, count do
  local record = redis.pcall('GET', KEYS[i])
  if type(record) == 'table' then
    if not string.find(record.err, '^WRONGTYPE') then return record end
    record = -3
  elseif record and string.find(record, '^{"shared":%d+,"lockId":"[%w_-]+","expiresAtMs":%d+,') then
    local holders = redis.pcall('HGETALL', KEYS[count + i])
    record = {record, holders.err and -3 or holders}
  end
  records[i] = record
end
return {math.floor(time[1] * 1000 + time[2] / 1000), records}
