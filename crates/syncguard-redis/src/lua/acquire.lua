-- Grants a lock, or returns the record of its holder. Begins with record.lua, ends with enter.lua, refuse.lua,
-- holders.lua and announce.lua.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- KEYS[3] the shared holders KEYS[4] the fence counter
-- KEYS[5], KEYS[6]           optional: the line of its waiters, which the client enters or leaves; see enter.lua
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] the ttl in ms      ARGV[3] ttl + grace in ms
-- ARGV[4] the tail of the record: "key", "owner" and the closing brace
-- ARGV[5] optional: for how long to announce the id to shared holders in ms, or 0
-- ARGV[6] optional: to make the fence at least the server's milliseconds; for how long to keep the counter beyond
--         its value in ms, or 0 for ever. As if left out if it is empty
-- ARGV[7] … ARGV[9]          with KEYS[6]: as in enter.lua
--
-- Reply   {fence, now}       granted by this call, until now + ttl
--         {now, record}      the id already holds the lock
--         {now, record, pttl}         another id holds it; nothing was written
--         {now, record, pttl, count}  shared holders have it; nothing but the announcement was written
--         the same with five items    the last is the place in line, or nil; the fourth may be nil
--         -1                 the id was abandoned
--         -2                 the counter is at its limit, or below zero
--         -3                 the record cannot be read
--         -4                 the shared holders cannot be read
--
-- If the counter is not an integer, INCR fails, which ends the script before anything is stored.
--
-- The hash of shared holders is not touched here, although it may outlive them: it names the record to which it
-- belongs, and its announcement is void once the counter has moved.

if not record then
  local fence = call('INCR', KEYS[4])
  if fence < 1 or fence > LIMIT then
    call('DECR', KEYS[4])
    return -2
  end
  -- The entry of the id is empty if the id was abandoned, and names a lock otherwise.
  if not call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3], 'NX') then
    local mark = redis.pcall('GET', KEYS[2])
    if mark == '' or type(mark) == 'table' then
      call('DECR', KEYS[4])
      if mark == '' then return -1 end
      -- A value of another type, such as a list, is stored in place of the entry. This error ends the script.
      return call('GET', KEYS[2])
    end
    call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3])
  end
  -- A counter expires once the clock is that far beyond its value, as if it were retired then.
  if ARGV[6] and ARGV[6] ~= '' then
    fence = math.max(fence, math.floor(now))
    if ARGV[6] == '0' then
      call('SET', KEYS[4], fence)
    else
      call('SET', KEYS[4], fence, 'PX', fence - math.floor(now) + ARGV[6])
    end
  end
  local numbers = string.format('%d,"acquiredAtMs":%d,"fence":"%015d",', now + ARGV[2], now, fence)
  call('SET', KEYS[1], ARGV[1] .. numbers .. ARGV[4], 'PX', ARGV[3])
  if KEYS[6] then redis.pcall('ZREM', KEYS[6], ARGV[7]) end
  return {fence, now}
end
if own then return {now, record} end
if call('GET', KEYS[2]) == '' then return -1 end
if not shared and not KEYS[6] then return {now, record, call('PTTL', KEYS[1])} end
