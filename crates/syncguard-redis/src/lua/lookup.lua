-- Reads locks together with the server's time.
--
-- KEYS    the locks
--
-- Reply   {now, {record, …}} a record is nil if there is none, and -3 if a value of another type is stored,
--                            such as a list

local time = redis.call('TIME')
local records = {}
for i = 1, #KEYS do
  local record = redis.pcall('GET', KEYS[i])
  if type(record) == 'table' then
    if not string.find(record.err, '^WRONGTYPE') then return record end
    record = -3
  end
  records[i] = record
end
return {math.floor(time[1] * 1000 + time[2] / 1000), records}
