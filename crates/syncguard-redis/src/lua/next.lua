-- Takes the first waiters out of the line of a lock. Part of the scripts that free a lock.
--
-- KEYS[#KEYS - 1]            the mark that says that someone is in line; the script has deleted it
-- KEYS[#KEYS]                the line, as described in enter.lua
--
-- The line only decides whom a release notifies. If it cannot be read or changed, everyone is notified.

local MAX_NOTIFIED, SUBSTITUTES, ROUNDS_IN_LINE = 64, 3, 3

-- Returns those at the front of the line that are alive, as {client, room}. Removes the others.
local function front(count)
  local round = math.floor(redis.call('TIME')[1] / 20)
  while true do
    local found = redis.pcall('ZRANGE', KEYS[#KEYS], 0, count - 1, 'WITHSCORES')
    local alive, dead = {}, {}
    for i = 1, #found, 2 do
      local score = tonumber(found[i + 1])
      if (round - score) % 32 <= ROUNDS_IN_LINE then
        alive[#alive + 1] = {found[i], math.floor(score / 32) % 64 + 1}
      else
        dead[#dead + 1] = found[i]
      end
    end
    if #dead == 0 then return alive end
    if type(redis.pcall('ZREM', KEYS[#KEYS], unpack(dead))) == 'table' or #alive > 0 then return alive end
  end
end

-- Returns a notification: the clients whose turn it is, and after a space those behind them, who take their turn if
-- none of the first does. It is empty if no one is in line.
--
-- All who can hold the lock together leave the line at once: several readers, several permits, or one writer, but not
-- more than `free`. If a writer has announced itself, readers are behind writers. If there are more readers than can be
-- named, everyone is notified: no release follows for those who are left out.
local function next_in_line(free, writers_first)
  local ahead = front(writers_first and 1000 or MAX_NOTIFIED + SUBSTITUTES)
  if writers_first then
    local ordered = {}
    for _, of_writers in ipairs({true, false}) do
      for _, waiter in ipairs(ahead) do
        if (waiter[2] == 1) == of_writers then ordered[#ordered + 1] = waiter end
      end
    end
    ahead = ordered
  end
  if #ahead == 0 then return '' end
  local room, first, substitutes = ahead[1][2], {}, {}
  for _, waiter in ipairs(ahead) do
    if #substitutes == 0 and waiter[2] == room and #first < math.min(room, free) then
      first[#first + 1] = waiter[1]
    elseif #first == MAX_NOTIFIED and waiter[2] == room and #substitutes == 0 then
      redis.pcall('DEL', KEYS[#KEYS])
      return ''
    elseif #substitutes < SUBSTITUTES then
      substitutes[#substitutes + 1] = waiter[1]
    end
  end
  if type(redis.pcall('ZREM', KEYS[#KEYS], unpack(first))) == 'table' then return '' end
  if redis.pcall('EXISTS', KEYS[#KEYS]) == 1 then redis.pcall('SET', KEYS[#KEYS - 1], '', 'PX', 80000) end
  return table.concat(first, ',') .. ' ' .. table.concat(substitutes, ',')
end
