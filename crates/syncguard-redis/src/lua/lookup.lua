-- Reads locks together with the server's time.
--
-- KEYS    the locks
--
-- Reply   {now, {record, …}} a record is nil where there is none

local time = redis.call('TIME')
return {math.floor(time[1] * 1000 + time[2] / 1000), redis.call('MGET', unpack(KEYS))}
