-- Forgets a task.
--
-- KEYS     1 head  2 queue  3 waiters  4 tasks  5 beats: see beat.lua
-- ARGV     1 the id of the task
-- returns  how many were forgotten: 0 or 1
--
-- picture.lua stands in front of this.

call('ZREM', KEYS[5], ARGV[1])
return call('HDEL', KEYS[4], ARGV[1])
