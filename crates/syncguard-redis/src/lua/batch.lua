-- Runs several calls at once, each as if it had been sent by itself.
--
-- This text is preceded by the table SCRIPTS: the bodies of the scripts as functions of KEYS and ARGV.
--
-- KEYS    the keys of all calls, one call after the other
-- ARGV    for each call: the number of its script, how many keys and how many arguments it has, and
--         its arguments
--
-- Reply   for each call: {1, reply}, or {0, error} if its script ended with an error
--
-- A call that ends with an error has written nothing, and does not stop the calls after it. A server that
-- has become a replica refuses every write. That error is the reply to the whole batch, because the client
-- must see it to look for the primary.

local replies, key, arg = {}, 0, 0
while arg < #ARGV do
  local script, last_key, last_arg = SCRIPTS[tonumber(ARGV[arg + 1])], key + ARGV[arg + 2], arg + 3 + ARGV[arg + 3]
  -- Built from a list, a table is allocated once. Filled item by item, it is allocated several times.
  local keys, arguments = {unpack(KEYS, key + 1, last_key)}, {unpack(ARGV, arg + 4, last_arg)}
  key, arg = last_key, last_arg
  local ok, reply = pcall(script, keys, arguments)
  if not ok then
    -- The error is a table with the server's message, or the message alone, sometimes preceded by its line.
    reply = type(reply) == 'table' and reply.err or tostring(reply)
    reply = string.gsub(reply, '^@?user_script:%s?%d+: %-?', '')
    if string.find(reply, '^READONLY') then return redis.error_reply(reply) end
  end
  replies[#replies + 1] = {ok and 1 or 0, reply}
end
return replies
