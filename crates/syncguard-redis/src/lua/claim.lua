-- Grants a lock that has no fence counter, and creates none. Part of claim requests, after record.lua and before
-- acquire.lua, which is left to do everything else, with the same keys and arguments.
--
-- Reply   {0, now}           granted by this call under fence 0, until now + ttl
--         -1                 the id was abandoned
--
-- A lock that is shared or announced has a counter, unless that was retired or has expired; then the hash of shared
-- holders is void, because an announcement names the value of the counter. It stays void: a later counter begins
-- above the retired one.

if not record and call('EXISTS', KEYS[4]) == 0 then
  -- As in acquire.lua. A value of another type is not read: this error ends the script.
  if not call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3], 'NX') then
    if call('GET', KEYS[2]) == '' then return -1 end
    call('SET', KEYS[2], KEYS[1], 'PX', ARGV[3])
  end
  local numbers = string.format('%d,"acquiredAtMs":%d,"fence":"%015d",', now + ARGV[2], now, 0)
  call('SET', KEYS[1], ARGV[1] .. numbers .. ARGV[4], 'PX', ARGV[3])
  if KEYS[6] then redis.pcall('ZREM', KEYS[6], ARGV[7]) end
  return {0, now}
end
