-- Writes a sign of life of a task. If there are too many, the one that has been silent longest
-- is forgotten.
--
-- KEYS     1 head  2 queue  3 waiters
--          4 tasks: hash, a task's id with `STARTED UPDATED`, a line break and its last sign of
--            life as JSON
--          5 beats: sorted set, task ids by the time of their last sign of life
-- ARGV     1 the id of the task  2 'begins' if this is a new run of it, or ''  3 the sign as JSON
-- returns  { when the run started, now }
--
-- picture.lua stands in front of this.

local tasks, beats = KEYS[4], KEYS[5]
local task_id = ARGV[1]
local known = call('HMGET', head, 'clock', 'skew')
local now = digits(clock(known[1], known[2]))

local before = call('HGET', tasks, task_id)
local started = now
if before and ARGV[2] ~= 'begins' then
  started = string.match(before, '^%d+')
end
-- The clock goes on from here, also if this pool has never lent anything.
call('HSET', head, 'clock', now)
call('HSET', tasks, task_id, started .. ' ' .. now .. '\n' .. ARGV[3])
call('ZADD', beats, now, task_id)
local excess = call('ZCARD', beats) - TASK_RECORD_CAP
if excess > 0 then
  local popped = call('ZPOPMIN', beats, excess)
  for at = 1, #popped, 2 do
    call('HDEL', tasks, popped[at])
  end
end
return { started, now }
