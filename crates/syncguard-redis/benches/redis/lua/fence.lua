-- Only a key and a fence: the minimum for a lock on Redis.
--
-- KEYS[1] the lock           KEYS[2] its fence counter
-- ARGV[1] the lock id        ARGV[2] the ttl in ms

if not redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 0 end
return redis.call('INCR', KEYS[2])
