-- KEYS[1] the lock
-- ARGV[1] the lock id

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
