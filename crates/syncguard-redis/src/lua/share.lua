-- Grants a lock in shared mode, or describes its holders. Begins with record.lua, holders.lua and enter.lua.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- KEYS[3] the shared holders KEYS[4] the fence counter
-- KEYS[5], KEYS[6]           optional: the line of its waiters, which the client enters or leaves; see enter.lua
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] the ttl in ms      ARGV[3] ttl + grace in ms
-- ARGV[4] the tail of the record of all holders: "key", "owner" and the closing brace
-- ARGV[5] the tail of the holder's own record: "owner", if it has one, and the closing brace
-- ARGV[6] the number of permits, or 0 for any number of holders
-- ARGV[7] optional: as ARGV[6] of acquire.lua
-- ARGV[8] … ARGV[10]         with KEYS[6]: as in enter.lua
--
-- Reply   {fence, now}       granted by this call, until now + ttl
--         {now, holder}      the id is already a holder
--         {now, record, pttl}         another id holds it in exclusive mode
--         {now, record, count, free}  refused by holders or by an announcement, at most until free; the record is
--                                     empty if there is only an announcement
--         the same with five items    the last is the place in line, or nil; the fourth may be nil
--         -1 … -4            as in acquire.lua
--
-- Nothing but the line is written unless the lock is granted.

now = math.floor(now)
if call('GET', KEYS[2]) == '' then return -1 end

-- As many as 64 can leave the line together.
local permits = tonumber(ARGV[6])
local room = permits > 0 and math.min(permits, 64) or 64
if record and not shared then
  if not KEYS[6] then return {now, record, call('PTTL', KEYS[1])} end
  return {now, record, call('PTTL', KEYS[1]), false, enter(room)}
end

-- Without a head, nothing of the hash counts but its announcement.
local shared = record and read_shared()
if record and not shared then return UNREADABLE end
local held, found, writer = shared, nil, nil
if shared then
  if shared.own then
    local _, free = times(shared.own)
    if not free then return UNREADABLE end
    if free > now then return {now, shared.own} end
  end
  if shared.first <= now then
    found = survey(now)
    if not found then return UNREADABLE end
    held = found.count > 0
  end
  writer = shared.writer
else
  writer = call('HGET', KEYS[3], 'writer')
end

-- Returns how many holders are live.
local function count()
  if found then return found.count end
  return held and call('HLEN', KEYS[3]) - (writer and 4 or 3) or 0
end

if held and shared.permits ~= ARGV[6] then return {now, record, count(), now} end

-- An announcement is void once the counter has moved: every grant moves it, and no shared one is made while the
-- announcement stands. So an exclusive grant ends an announcement without a command of its own.
local refused_until = 0
if writer then
  local ends, counter = announced(writer)
  if not ends then return UNREADABLE end
  if ends > now and counter == call('GET', KEYS[4]) then refused_until = ends end
end
if permits > 0 and count() >= permits then
  found = found or survey(now)
  if not found then return UNREADABLE end
  refused_until = math.max(refused_until, found.first)
end
if refused_until > 0 then return {now, record or '', count(), refused_until, enter(room)} end

local fence = call('INCR', KEYS[4])
if fence < 1 or fence > LIMIT then
  call('DECR', KEYS[4])
  return -2
end
if ARGV[7] and ARGV[7] ~= '' then
  fence = math.max(fence, now)
  if ARGV[7] == '0' then
    call('SET', KEYS[4], fence)
  else
    call('SET', KEYS[4], fence, 'PX', fence - now + ARGV[7])
  end
end
local expires, free = now + ARGV[2], now + ARGV[3]
local holder = string.format('{"expiresAtMs":%d,"freeAtMs":%d,"acquiredAtMs":%d,"fence":"%015d"%s', expires, free,
  now, fence, ARGV[5])
local head, acquired, first, last, latest
if held then
  head, acquired = shared.head, shared.acquired
  local others = found or shared
  first, last, latest = math.min(others.first, free), others.last, others.expires
  if found then prune(found) end
  -- It has ended, or the grant would have been refused.
  if writer then call('HDEL', KEYS[3], 'writer') end
  if expires >= latest then last, latest = id, expires end
else
  -- The id of a head holds nothing. It has the form of an id, and differs from those of all earlier heads.
  head, acquired = string.format('shared-%015d', fence), now
  first, last, latest = free, id, expires
  call('DEL', KEYS[3])
end
call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3])
call('HSET', KEYS[3], 'head', head, 'firstMs', first, 'last', last, id, holder)
keep(now, string.format('{"shared":%d,"lockId":"%s","expiresAtMs":%d,"acquiredAtMs":%s,"fence":"%015d",%s',
  permits, head, latest, acquired, fence, ARGV[4]), latest - now + (free - expires), 0)
if KEYS[6] then redis.pcall('ZREM', KEYS[6], ARGV[8]) end
return {fence, now}
