-- Notifies the next waiters of a lock that was held in exclusive mode. The end of release.lua, if there are any.

if own then
  redis.pcall(publish, KEYS[1] .. ':released', next_in_line(64))
  return 1
end
