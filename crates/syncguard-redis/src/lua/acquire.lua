-- Grants a lock, or returns the record of its holder.
--
-- KEYS[1] the lock           KEYS[2] its fence counter       KEYS[3] the entry of the lock id
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] the ttl in ms      ARGV[3] ttl + grace in ms
-- ARGV[4] the tail of the record: "key", "owner" and the closing brace
-- ARGV[5] optional: "seed" to start a new counter at the server's milliseconds
--
-- Reply   {fence, now}            granted by this call, until now + ttl
--         {now, record}           the id already holds the lock
--         {now, record, pttl}     another id holds it; nothing was written
--         -1                      the id was abandoned
--         -2                      the counter is at its limit, or below zero
--         -3                      the record cannot be read
--
-- If the counter is not an integer, INCR fails, which ends the script before anything is stored.
-- "%s" would end at a NUL, but JSON text has none. `now` has a fraction of a millisecond. "%d" and the reply
-- cut it off, and comparisons with whole numbers give the same result with or without it.

local GRACE, LIMIT = 1000, 900000000000000
local call = redis.call
local record = call('GET', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000 + time[2] / 1000

if record then
  -- The match is anchored at the start: by the grammar of JSON, these are the first two members of the object
  -- itself, whatever text or objects follow. Any other form, such as that of cjson, is decoded.
  -- A plain find creates no new string, as extracting the beginning would.
  local own = string.find(record, ARGV[1], 1, true) == 1
  local expires = tonumber(string.match(record, '^{"lockId":"[%w_-]+","expiresAtMs":(%d+),'))
  local foreign
  -- A record that a grant is about to replace is decoded as well: a valid beginning is not a valid record. By
  -- default, the decoder accepts NaN and hexadecimal numbers, which JSON does not have.
  if not expires or expires <= now - GRACE then
    local json, ok = cjson.new()
    json.decode_invalid_numbers(false)
    ok, foreign = pcall(json.decode, record)
    if not ok or type(foreign) ~= 'table' then return -3 end
    own = foreign.lockId == string.match(ARGV[1], '^{"lockId":"(.-)"')
    expires = foreign.expiresAtMs
    -- The remainder of an infinite number is not 0 either.
    if type(expires) ~= 'number' or expires % 1 ~= 0 then return -3 end
  end
  if expires > now - GRACE then
    if own then return {now, record} end
    if call('GET', KEYS[3]) == '' then return -1 end
    return {now, record, call('PTTL', KEYS[1])}
  end
  -- The record has expired, and was decoded. The decoder also accepts `1.` and `-.5`, a NUL as the end, and
  -- control characters in strings. These remain after strings and the points between digits are removed.
  local bare = string.gsub(string.gsub(record, '\\.', ''), '"[^"%z\1-\31]*"', '')
  local acquired = foreign.acquiredAtMs
  if string.find(string.gsub(bare, '%d%.%d', ''), '[%."%z]') or type(foreign.lockId) ~= 'string'
    or type(foreign.key) ~= 'string' or type(foreign.fence) ~= 'string'
    or type(acquired) ~= 'number' or acquired % 1 ~= 0 then
    return -3
  end
end

local fence = call('INCR', KEYS[2])
if fence < 1 or fence > LIMIT then
  call('DECR', KEYS[2])
  return -2
end
-- The entry of the id is empty if the id was abandoned, and names a lock otherwise.
if not call('SET', KEYS[3], KEYS[1], 'PX', ARGV[3], 'NX') then
  local mark = redis.pcall('GET', KEYS[3])
  if mark == '' or type(mark) == 'table' then
    call('DECR', KEYS[2])
    if mark == '' then return -1 end
    -- A value of another type, such as a list, is stored in place of the entry. This error ends the script.
    return call('GET', KEYS[3])
  end
  call('SET', KEYS[3], KEYS[1], 'PX', ARGV[3])
end
if fence == 1 and ARGV[5] then
  fence = math.floor(now)
  call('SET', KEYS[2], fence)
end
call('SET', KEYS[1], string.format('%s%d,"acquiredAtMs":%d,"fence":"%015d",%s',
  ARGV[1], now + ARGV[2], now, fence, ARGV[4]), 'PX', ARGV[3])
return {fence, now}
