-- A document, unless it still has the version that is known.
--
-- KEYS     1 the document: hash, `version`, `text`, and `clock` and `skew` as in a head
-- ARGV     1 the version that is known; before the first write it is 0
-- returns  { now, version, text, or nothing if the version is the known one }
--
-- picture.lua stands in front of this: to its clock the document is a head.

local known = call('HMGET', head, 'clock', 'skew', 'version')
local now = digits(clock(known[1], known[2]))
local version = known[3] or '0'
return { now, version, version ~= ARGV[1] and call('HGET', head, 'text') }
