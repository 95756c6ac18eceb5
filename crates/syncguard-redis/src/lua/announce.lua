-- Announces a writer to the shared holders of a lock. The end of acquire.lua, for a lock that is shared.

now = math.floor(now)
local shared = read_shared()
if not shared then return UNREADABLE end
local count = call('HLEN', KEYS[3]) - (shared.writer and 4 or 3)
if shared.first <= now then
  local found = survey(now)
  if not found then return UNREADABLE end
  count = found.count
end
-- An announcement that ends later stays. One that stands was made at the present value of the counter: the holders
-- were granted before, and no grant was made since.
local ends = now + (ARGV[5] or 0)
local counter = ends > now and ends >= shared.writer_until and call('GET', KEYS[4])
if counter then
  local lifetime = call('PTTL', KEYS[3])
  call('HSET', KEYS[3], 'writer', string.format('{"lockId":"%s","untilMs":%d,"counter":%s}', id, ends, counter))
  if lifetime < ends - now then call('PEXPIRE', KEYS[3], ends - now) end
end
return {now, record, call('PTTL', KEYS[1]), count, enter(1)}
