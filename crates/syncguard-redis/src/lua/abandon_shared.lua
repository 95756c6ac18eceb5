-- Ends the grant of a shared holder and its announcement. The end of abandon.lua.

if is_shared then
  local time = call('TIME')
  local ok, shared = pcall(read_shared)
  if ok and shared and shared.own then
    frees = leave(math.floor(time[1] * 1000 + time[2] / 1000), shared)
  end
  -- If something else in the hash cannot be read, the grant ends nevertheless.
  redis.pcall('HDEL', KEYS[3], id)
end

local writer = redis.pcall('HGET', KEYS[3], 'writer')
if type(writer) == 'string' and string.find(writer, '{"lockId":"' .. id .. '"', 1, true) == 1 then
  call('HDEL', KEYS[3], 'writer')
  -- The hash no longer outlives the head.
  local lifetime = call('PTTL', KEYS[1])
  if lifetime > 0 then call('PEXPIRE', KEYS[3], lifetime) end
  frees = true
end

-- The tombstone is last, because a server that is out of memory refuses it unless something was deleted
-- before.
call('SET', KEYS[2], '', 'PX', ARGV[3])
if frees and ARGV[2] ~= '' then redis.pcall(ARGV[2], KEYS[1] .. ':released', '') end
return frees and 1 or 0
