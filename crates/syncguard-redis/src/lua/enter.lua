-- Enters the line of the waiters of a lock. Part of the scripts that refuse a request.
--
-- KEYS[5]                    optional: the line, a sorted set of the clients that wait. An entry is not a grant.
-- ARGV[#ARGV - 2] the client ARGV[#ARGV - 1] its place if it comes back, or ""
-- ARGV[#ARGV]                the fence of its last exclusive grant, or "": it does not wait for itself
--
-- The score of a client is its place, in ms, its room, and when it entered last, each in fewer bits. The room is how
-- many such clients can hold the lock together, at most 64; 1 for a writer. See next.lua.

-- Returns the place; false if the client is not in line; nothing without KEYS[5].
local function enter(room)
  if not KEYS[5] then return end
  local own_fence = ARGV[#ARGV]
  if own_fence ~= '' and string.find(record or '', '"fence":"' .. own_fence .. '"', 1, true) then return false end
  now = math.floor(now)
  local place = tonumber(ARGV[#ARGV - 1]) or now
  local score = (place * 64 + room - 1) * 32 + math.floor(now / 20000) % 32
  -- A user without the right to use the line is refused nevertheless.
  local entered = redis.pcall('ZADD', KEYS[5], string.format('%d', score), ARGV[#ARGV - 2])
  if type(entered) == 'table' then return false end
  redis.pcall('PEXPIRE', KEYS[5], 80000)
  return place
end
