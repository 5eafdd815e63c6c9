-- Deletes a lock key that is ours, and tells those who listen.
--
-- KEYS     1 the key
-- ARGV     1 our value  2 the channel  3 the news
-- returns  1, or 0 if it is not ours

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
-- Those who are not told find out by themselves.
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return 1
