-- Sets a lock key that is free, or extends one that is ours.
--
-- KEYS     1 the key
-- ARGV     1 our value  2 how long it lasts, in milliseconds  3 the value that it may replace, or ''
-- returns  nothing if it is ours now, else { value, milliseconds left, or -1 }

local present = redis.call('GET', KEYS[1])
if present == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif not present or (ARGV[3] ~= '' and present == ARGV[3]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  return { present, redis.call('PTTL', KEYS[1]) }
end
return {}
