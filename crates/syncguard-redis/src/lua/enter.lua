-- Enters the line of the waiters of a lock. Part of the scripts that refuse a request.
--
-- KEYS[5] optional: a mark that says that someone is in line
-- KEYS[6] optional: the line, a sorted set of the clients that wait. An entry is not a grant.
-- ARGV[#ARGV - 2] the client ARGV[#ARGV - 1] its place if it comes back, or ""
-- ARGV[#ARGV]                the fence of its last exclusive grant, or "": it does not wait for itself
--
-- The score of a client consists of its place, in ms, its room, and the round of 20 s in which it entered last. The
-- room is how many such clients can hold the lock together, at most 64; 1 for a writer. See next.lua.

-- Returns the place; false if the client is not in line; nothing without KEYS[6].
local function enter(room)
  if not KEYS[6] then return end
  local own_fence = ARGV[#ARGV]
  if own_fence ~= '' and string.find(record or '', '"fence":"' .. own_fence .. '"', 1, true) then return false end
  now = math.floor(now)
  local place = tonumber(ARGV[#ARGV - 1]) or now
  local score = (place * 64 + room - 1) * 32 + math.floor(now / 20000) % 32
  -- A user without the right to use the line is refused nevertheless.
  local entered = redis.pcall('ZADD', KEYS[6], 'CH', string.format('%d', score), ARGV[#ARGV - 2])
  if type(entered) == 'table' then return false end
  -- A client that is refused again within a round changes nothing.
  if entered > 0 then
    redis.pcall('PEXPIRE', KEYS[6], 80000)
    redis.pcall('SET', KEYS[5], '', 'PX', 80000)
  end
  return place
end
