-- Grants a lock, or tells who has it.
--
-- KEYS[1] the lock           KEYS[2] its fence counter       KEYS[3] the mark of the lock id
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
-- ARGV[2] the ttl in ms      ARGV[3] ttl + grace in ms
-- ARGV[4] the tail of the record: "key", "owner" and the brace
-- ARGV[5] optional: "seed" to start a new counter at the server's milliseconds
--
-- Reply   {fence, now}            granted just now, until now + ttl
--         {now, record}           the id holds the lock already
--         {now, record, pttl}     somebody else does; nothing was written
--         -1                      the id was abandoned
--         -2                      the counter is at its limit, or below zero
--         -3                      the record cannot be read
--
-- A counter that is no number makes INCR fail, which ends the script before anything is stored.
-- JSON text has no NUL, at which "%s" would end. `now` has a fraction of a millisecond, which "%d" and the
-- reply cut off, and which whole numbers compare alike with or without.

local GRACE, LIMIT = 1000, 900000000000000
local call = redis.call
local record = call('GET', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000 + time[2] / 1000

if record then
  -- Anchored at the start: by the grammar of JSON these are the first two members of the object
  -- itself, whatever text or objects follow. Any other shape, such as cjson's, is decoded.
  -- A plain find makes no new string, as taking the beginning out would.
  local own = string.find(record, ARGV[1], 1, true) == 1
  local expires = tonumber(string.match(record, '^{"lockId":"[%w_-]+","expiresAtMs":(%d+),'))
  local foreign
  -- One that is about to be granted over is decoded as well: a beginning is not a record. By default the
  -- decoder takes NaN and hexadecimal numbers, which JSON does not have.
  if not expires or expires <= now - GRACE then
    local json, ok = cjson.new()
    json.decode_invalid_numbers(false)
    ok, foreign = pcall(json.decode, record)
    if not ok or type(foreign) ~= 'table' then return -3 end
    own = foreign.lockId == string.match(ARGV[1], '^{"lockId":"(.-)"')
    expires = foreign.expiresAtMs
    -- An infinite number has no remainder either.
    if type(expires) ~= 'number' or expires % 1 ~= 0 then return -3 end
  end
  if expires > now - GRACE then
    if own then return {now, record} end
    if call('GET', KEYS[3]) == '' then return -1 end
    return {now, record, call('PTTL', KEYS[1])}
  end
  -- It is over, and was decoded. The decoder also takes `1.` and `-.5`, a NUL for the end, and control
  -- characters in strings. These are left over where strings and the points between digits are taken out.
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
-- The mark is empty for an id that was abandoned, and names a lock otherwise.
if not call('SET', KEYS[3], KEYS[1], 'PX', ARGV[3], 'NX') then
  local mark = redis.pcall('GET', KEYS[3])
  if mark == '' or type(mark) == 'table' then
    call('DECR', KEYS[2])
    if mark == '' then return -1 end
    -- Something other than a mark is stored under its name, such as a list: this error ends the script.
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
