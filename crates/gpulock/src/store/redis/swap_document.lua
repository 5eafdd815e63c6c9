-- Writes a document if it still has the expected version; otherwise answers with the present one
-- and leaves it as it is.
--
-- KEYS     1 the document: see document.lua
-- ARGV     1 the expected version  2 the text
-- returns  { now, version } if it is written, else { now, version, text }
--
-- picture.lua stands in front of this: to its clock the document is a head.

local known = call('HMGET', head, 'clock', 'skew', 'version')
local now = clock(known[1], known[2])
local version = known[3] or '0'
if version ~= ARGV[1] then
  return { digits(now), version, call('HGET', head, 'text') }
end
-- As in swap.lua: a time, which no server can have given to this document before.
local last = tonumber(version)
local raised = digits(last < now and now or last + 1)
call('HSET', head, 'version', raised, 'clock', digits(now), 'text', ARGV[2])
return { digits(now), raised }
