-- Writes what a step changed, if what it was based on still holds; otherwise answers with the
-- present picture and leaves everything as it is.
--
-- KEYS     1 head  2 queue  3 waiters  4 journal (stream)
-- ARGV     1 version of the leases  2 version of the queue: as expected, or '' for what the step
--            did not read; a pool that was never written has 0
--          3 not before  4 not after: the times of the store between which it is right, or ''
--          5 the id of a lease that there must not be, or ''
--          6 'full' if it is to be written although the memory is full, or ''
--          7 the id of the asker, or ''
--          and then the changes, one after the other:
--            drop ID · event BODY · ledger BODY · put ID BODY · join ID LANE RANK SEEN BODY ·
--            leave ID · wake CHANNEL LETTER · award CHANNEL LETTER ID: to the letter are added the
--            new version of the leases, that lease and the ledger
-- returns  { 'written', new version of the leases, of the queue: or nothing where it stays, now }
--          or a picture
--
-- picture.lua stands in front of this.

local journal = KEYS[4]
local present = call('HMGET', head, 'leases', 'queue', 'clock', 'skew', 'format')
local now = clock(present[3], present[4])

for part = 1, 2 do
  if ARGV[part] ~= '' and ARGV[part] ~= (present[part] or '0') then
    return picture(now, ARGV[7])
  end
end
local too_early = ARGV[3] ~= '' and now < tonumber(ARGV[3])
local too_late = ARGV[4] ~= '' and now >= tonumber(ARGV[4])
local leased = ARGV[5] ~= '' and call('HEXISTS', head, ARGV[5]) == 1
if too_early or too_late or leased then
  return picture(now, ARGV[7])
end

if ARGV[6] == 'full' then
  write_although_full()
end

-- Fields of the head are collected and written in few commands.
local fields, filled = {}, 0
local function write(field, value)
  if filled >= 1000 then
    call('HSET', head, unpack(fields))
    fields, filled = {}, 0
  end
  fields[filled + 1], fields[filled + 2] = field, value
  filled = filled + 2
end

local function join(id, lane, rank, seen, body)
  if call('HEXISTS', waiters, id) == 0 then
    local arrival = call('HINCRBY', head, 'arrivals', 1)
    local place = lane .. ' ' .. rank .. string.format('%016.0f', arrival)
    call('HSET', waiters, id, place .. '\n' .. body, id .. ':seen', seen)
    call('ZADD', queue, 0, place .. ' ' .. id)
  end
end

local function leave(id)
  local body = call('HGET', waiters, id)
  if body then
    call('ZREM', queue, string.match(body, '^%S+ %d+') .. ' ' .. id)
    call('HDEL', waiters, id, id .. ':seen')
  end
end

-- A wake-up is only a hint: that nobody may listen is no reason to stop half way.
local function publish(channel, letter)
  redis.pcall('PUBLISH', channel, letter)
end

local at, last, raises_leases, raises_queue = 8, #ARGV, false, false
local ledger, leases, awards = '', {}, {}
while at < last do
  local change, first = ARGV[at], ARGV[at + 1]
  if change == 'event' then
    call('XADD', journal, 'MAXLEN', '~', JOURNAL_CAP, '*', 'e', first)
    at = at + 2
  elseif change == 'ledger' then
    ledger = first
    write('ledger', first)
    raises_leases, at = true, at + 2
  elseif change == 'put' then
    leases[first] = ARGV[at + 2]
    write(first, ARGV[at + 2])
    raises_leases, at = true, at + 3
  elseif change == 'drop' then
    call('HDEL', head, first)
    raises_leases, at = true, at + 2
  elseif change == 'join' then
    join(first, unpack(ARGV, at + 2, at + 5))
    raises_queue, at = true, at + 6
  elseif change == 'leave' then
    leave(first)
    raises_queue, at = true, at + 2
  elseif change == 'wake' then
    publish(first, ARGV[at + 2])
    at = at + 3
  else
    awards[#awards + 1] = at
    at = at + 4
  end
end

-- A version is the time of its writing, or one more than the last: two records that two servers
-- have made of one pool never agree by chance.
local written_at = digits(now)
local function raised(part, field)
  local last = tonumber(present[part] or 0)
  local version = last < now and written_at or digits(last + 1)
  write(field, version)
  return version
end
local new_leases = raises_leases and raised(1, 'leases')
local new_queue = raises_queue and raised(2, 'queue')
if not present[5] then
  write('format', FORMAT)
end
write('clock', written_at)
call('HSET', head, unpack(fields))

for _, award in ipairs(awards) do
  local letter, lease = ARGV[award + 2], leases[ARGV[award + 3]]
  publish(ARGV[award + 1], letter .. ' ' .. new_leases .. ' [' .. lease .. ',' .. ledger .. ']')
end
return { 'written', new_leases, new_queue, written_at }
