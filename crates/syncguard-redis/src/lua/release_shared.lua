-- Ends the grant of a shared holder. The end of release.lua, for a lock that is shared.

local time = call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local shared = read_shared()
if not shared then return UNREADABLE end
if not shared.own then return 0 end
local _, free = times(shared.own)
if not free then return UNREADABLE end
if free <= now then return -1 end
local frees = leave(now, shared)
if frees == nil then return UNREADABLE end
local gone = frees and call('DEL', KEYS[2], KEYS[4]) or call('DEL', KEYS[2])
if frees and publish ~= '' then
  local names = gone > 1 and next_in_line(frees, shared.writer_until > now) or ''
  redis.pcall(publish, KEYS[1] .. ':released', names)
end
return 1
