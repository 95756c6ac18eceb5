-- Sets the expiry of a shared holder to now + ttl. The end of extend.lua, for a lock that is shared.

local shared = read_shared()
if not shared then return UNREADABLE end
if not shared.own then return 0 end
local before, free_before = times(shared.own)
if not before then return UNREADABLE end
if free_before <= now then return -1 end

local expires, free = now + ARGV[2], now + ARGV[3]
local others = shared
-- Only a survey tells who is last after the last holder if that one has shortened its grant.
if shared.first <= now or (shared.last == id and expires < before) then
  others = survey(now, id)
  if not others then return UNREADABLE end
  prune(others)
end
local last, latest = others.last, others.expires
if expires >= latest then last, latest = id, expires end
call('HSET', KEYS[3], 'firstMs', math.min(others.first or free, free), 'last', last, id,
  (string.gsub(shared.own, '^{"expiresAtMs":%d+,"freeAtMs":%d+',
    string.format('{"expiresAtMs":%d,"freeAtMs":%d', expires, free))))
call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3])
keep(now, with_expiry(shared, latest), latest - now + (free - expires), shared.writer_until)
return now
