-- Reads the record of a lock. The beginning of acquire.lua and of share.lua.
--
-- KEYS[1] the lock
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
--
-- Defines record             the record if it is live, and nil if the lock is free
--         own                whether an exclusive record is that of the id
--         shared             whether the record stands for shared holders
--         now                the server's time in ms
--
-- Reply   -3                 the record cannot be read
--
-- "%s" would end at a NUL, but JSON text has none. `now` has a fraction of a millisecond. "%d" and the reply
-- cut it off, and comparisons with whole numbers give the same result with or without it.

local GRACE, LIMIT = 1000, 900000000000000
local call = redis.call
local record = call('GET', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local own, shared

if record then
  -- The match is anchored at the start: by the grammar of JSON, these are the first two members of the object
  -- itself, whatever text or objects follow. Any other form, such as that of cjson, is decoded.
  -- A plain find creates no new string, as extracting the beginning would.
  own = string.find(record, ARGV[1], 1, true) == 1
  local expires = tonumber(string.match(record, '^{"lockId":"[%w_-]+","expiresAtMs":(%d+),'))
  -- The record of shared holders begins differently, so it is never taken for that of an id, whatever id it has.
  if not expires then
    expires = tonumber(string.match(record, '^{"shared":%d+,"lockId":"[%w_-]+","expiresAtMs":(%d+),'))
    shared = expires ~= nil
  end
  local foreign
  -- A record that a grant is about to replace is decoded as well: a valid beginning is not a valid record. By
  -- default, the decoder accepts NaN and hexadecimal numbers, which JSON does not have.
  if not expires or expires <= now - GRACE then
    local json, ok = cjson.new()
    json.decode_invalid_numbers(false)
    ok, foreign = pcall(json.decode, record)
    if not ok or type(foreign) ~= 'table' then return -3 end
    own = not shared and foreign.lockId == string.match(ARGV[1], '^{"lockId":"(.-)"')
    expires = foreign.expiresAtMs
    -- The remainder of an infinite number is not 0 either.
    if type(expires) ~= 'number' or expires % 1 ~= 0 then return -3 end
  end
  if expires <= now - GRACE then
    -- The record has expired, and was decoded. The decoder also accepts `1.` and `-.5`, a NUL as the end, and
    -- control characters in strings. These remain after strings and the points between digits are removed.
    local bare = string.gsub(string.gsub(record, '\\.', ''), '"[^"%z\1-\31]*"', '')
    local acquired = foreign.acquiredAtMs
    if string.find(string.gsub(bare, '%d%.%d', ''), '[%."%z]') or type(foreign.lockId) ~= 'string'
      or type(foreign.key) ~= 'string' or type(foreign.fence) ~= 'string'
      or type(acquired) ~= 'number' or acquired % 1 ~= 0 then
      return -3
    end
    record = nil
  end
end
