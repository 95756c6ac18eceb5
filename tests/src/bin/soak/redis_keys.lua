-- Counts the keys of a database by what they are. Lists those that must not stay one by one.
--
-- Reply   one line for each kind: the number of keys, a space, the kind

local counts = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = 'key ' .. key
  if string.find(key, '^syncguard:fence:') then
    kind = 'fence counters'
  elseif string.find(key, '^syncguard:id:') and redis.call('GET', key) == '' then
    kind = 'tombstones of abandoned ids'
  end
  counts[kind] = (counts[kind] or 0) + 1
end
local lines = {}
for kind, count in pairs(counts) do lines[#lines + 1] = count .. ' ' .. kind end
return table.concat(lines, '\n')
