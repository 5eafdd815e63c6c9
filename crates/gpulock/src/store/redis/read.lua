-- One consistent picture of a pool. Stamps the asker as seen, if it waits.
--
-- KEYS     1 head  2 queue  3 waiters
-- ARGV     1 the id of the asker, or ''
-- returns  a picture
--
-- picture.lua stands in front of this.

local known = call('HMGET', head, 'clock', 'skew')
local now = clock(known[1], known[2])
local asking = ARGV[1]
if asking ~= '' and call('HEXISTS', waiters, asking) == 1 then
  write_although_full()
  call('HSET', waiters, asking .. ':seen', digits(now))
end
return picture(now, asking)
