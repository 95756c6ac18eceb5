-- Refuses a request because of an exclusive holder, and enters the line. Part of acquire.lua.

if not shared then return {now, record, call('PTTL', KEYS[1]), false, enter(1)} end
