-- The shared holders of a lock. Part of the scripts that find the record of shared holders, or look for it.
--
-- KEYS[1] the lock           KEYS[2] the entry of the lock id
-- KEYS[3] the shared holders: a hash with the fields that the README describes
-- ARGV[1] the head of the id's records: {"lockId":"…","expiresAtMs":
--
-- The **head** is the record of a lock that is shared. The hash counts only while it names the head: a grant that
-- is made after the head has expired stores another record, which voids the hash without reading it.
--
-- Three fields save reading all holders: `last` is the id of the holder whose expiry the head has, so the expiry
-- of the head changes only if that holder leaves or extends. `firstMs` is at most the time at which the first
-- holder ceases to be live, so until then all of them are.
--
-- Everything is read, and found to be readable, before anything is written.

local UNREADABLE = -4
local id = string.match(ARGV[1], '^{"lockId":"(.-)"')

-- Returns the time at which a holder's grant expires, and the one at which its grace is over; nil if the value
-- cannot be read.
local function times(value)
  local expires, free = string.match(value, '^{"expiresAtMs":(%d+),"freeAtMs":(%d+),"acquiredAtMs":%d+,')
  return tonumber(expires), tonumber(free)
end

-- Returns the time at which an announcement ends, and the value of the fence counter when it was made; nil if it
-- cannot be read.
local function announced(writer)
  local ends, counter = string.match(writer, '^{"lockId":"[%w_-]+","untilMs":(%d+),"counter":(%d+)}$')
  return tonumber(ends), counter
end

-- Reads the head and the fields of the hash. Returns nil if they do not belong together.
local function read_shared()
  local permits, head, expires, rest, acquired =
    string.match(record, '^{"shared":(%d+),"lockId":"([%w_-]+)","expiresAtMs":(%d+),("acquiredAtMs":(%d+),.*)$')
  local fields = call('HMGET', KEYS[3], 'head', 'firstMs', 'last', 'writer', id)
  local first = tonumber(fields[2])
  if fields[1] ~= head or not first or not fields[3] then return nil end
  local writer_until = 0
  if fields[4] then
    writer_until = announced(fields[4])
    if not writer_until then return nil end
  end
  return {permits = permits, head = head, expires = tonumber(expires), rest = rest, acquired = acquired,
    first = first, last = fields[3], writer = fields[4], writer_until = writer_until, own = fields[5]}
end

-- Reads the holders other than `except`. Returns how many of them are live, their first and latest times, and the
-- ids of those that are not; nil if one of them cannot be read.
local function survey(now, except)
  local found = {count = 0, expires = 0, free = 0, gone = {}}
  local fields = call('HGETALL', KEYS[3])
  for i = 1, #fields, 2 do
    local holder = fields[i]
    if #holder == 22 and holder ~= except then
      local expires, free = times(fields[i + 1])
      if not expires then return nil end
      if free <= now then
        found.gone[#found.gone + 1] = holder
      else
        found.count = found.count + 1
        found.free = math.max(found.free, free)
        found.first = math.min(found.first or free, free)
        if expires >= found.expires then found.expires, found.last = expires, holder end
      end
    end
  end
  return found
end

-- Removes the holders that a survey found to be no longer live.
local function prune(found)
  for _, holder in ipairs(found.gone) do call('HDEL', KEYS[3], holder) end
end

-- Keeps the head for this long, and the hash at least as long, and as long as the announcement stands.
local function keep(now, head, lifetime, writer_until)
  call('SET', KEYS[1], head, 'PX', lifetime)
  call('PEXPIRE', KEYS[3], math.max(lifetime, writer_until - now))
end

-- Returns the text of the head with another expiry.
local function with_expiry(shared, expires)
  return string.format('{"shared":%s,"lockId":"%s","expiresAtMs":%d,%s', shared.permits, shared.head, expires,
    shared.rest)
end

-- Ends the grant of the id, which is a holder. Returns how many waiters may be granted the lock now, at most 64, or
-- false if none may; nil if a holder cannot be read.
local function leave(now, shared)
  local others
  if shared.last == id or shared.first <= now then
    others = survey(now, id)
    if not others then return nil end
  end
  if others and others.count == 0 then
    call('DEL', KEYS[1], KEYS[3])
    -- The announcement outlives the holders.
    if shared.writer_until > now then
      call('HSET', KEYS[3], 'writer', shared.writer)
      call('PEXPIRE', KEYS[3], shared.writer_until - now)
    end
    return 64
  end
  call('HDEL', KEYS[3], id)
  if others then
    prune(others)
    call('HSET', KEYS[3], 'firstMs', others.first, 'last', others.last)
    keep(now, with_expiry(shared, others.expires), others.free - now, shared.writer_until)
  end
  return shared.permits ~= '0' and 1
end
