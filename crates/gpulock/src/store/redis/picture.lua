-- What all scripts begin with: the store's clock, and the picture of a pool.
--
-- A pool is three keys and a journal, all in one hash slot:
--
--   head     hash: `format` (of all this), `leases` and `queue` (the versions of its two parts), `clock` and `skew` (see
--            below), `arrivals` (the last arrival number), `ledger` (JSON), and one field for
--            each lease: its id, with the lease as JSON
--   queue    sorted set, all scores 0, so that members sort as text: `LANE PLACE ID`, where the
--            place is one digit of rank (0 goes first) and sixteen of arrival
--   waiters  hash: a waiter's id, with `LANE PLACE`, a line break and the waiter as JSON; and
--            its id with `:seen`, with the time at which it last asked
--
-- Beside them stand `tasks` and `beats`, what is remembered of tasks; beat.lua has their layout.
--
-- Nothing here knows what a lease or a waiter is. All times are microseconds since the Unix epoch.
--
-- In front of this stand the numbers that Rust and Lua share: LOOK_AHEAD, how many waiters to show
-- of each lane; JOURNAL_CAP, about how many events to keep; FORMAT, of all this; TASK_RECORD_CAP,
-- how many tasks to remember.

local head, queue, waiters = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call

-- Lua would print large numbers with an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

-- Redis refuses commands that take memory when it is full, but only as long as a script has not
-- written anything. What must get through begins with a deletion.
local function write_although_full()
  call('HDEL', head, '')
end

-- The server's clock, moved on by `skew`: when somebody sets the server's clock back, it goes on
-- from the latest time that was written. That is written down at once, so that it does go on.
local function clock(latest, skew)
  local time = call('TIME')
  latest, skew = tonumber(latest or 0), tonumber(skew or 0)
  local now = time[1] * 1000000 + time[2] + skew
  if now < latest then
    write_although_full()
    call('HSET', head, 'skew', digits(skew + latest - now))
    return latest
  end
  return now
end

-- The first waiters of every lane, each as body and time seen, and the lanes.
local function window()
  local shown, lanes, from = {}, {}, '-'
  while true do
    local members = call('ZRANGEBYLEX', queue, from, '+', 'LIMIT', 0, LOOK_AHEAD)
    if #members == 0 then
      return shown, lanes
    end
    local lane = string.match(members[1], '^%S+')
    local fields = {}
    for _, member in ipairs(members) do
      local its_lane, id = string.match(member, '^(%S+) %d+ (%x+)$')
      if its_lane ~= lane then
        break
      end
      fields[#fields + 1] = id
      fields[#fields + 1] = id .. ':seen'
    end
    for _, value in ipairs(call('HMGET', waiters, unpack(fields))) do
      shown[#shown + 1] = value
    end
    lanes[#lanes + 1] = lane
    -- The next text after the blank: whatever follows belongs to other lanes.
    from = '(' .. lane .. '!'
  end
end

-- The asker as body and time seen, and how many go before it; nothing if it does not wait.
local function asker(id, lanes)
  local body = id ~= '' and call('HGET', waiters, id)
  if not body then
    return {}
  end
  local place = string.match(body, '^%S+ (%d+)\n')
  local ahead = 0
  for _, lane in ipairs(lanes) do
    ahead = ahead + call('ZLEXCOUNT', queue, '[' .. lane .. ' ', '(' .. lane .. ' ' .. place)
  end
  return { body, call('HGET', waiters, id .. ':seen'), digits(ahead) }
end

-- { 'picture', now, fields and values of the head, bodies and times seen of the first waiters,
--   how many wait in all, { body, time seen, how many before it } of the asker or {} }
local function picture(now, asking)
  local length = call('ZCARD', queue)
  local shown, asks = {}, {}
  if length > 0 then
    local lanes
    shown, lanes = window()
    asks = asker(asking, lanes)
  end
  return { 'picture', digits(now), call('HGETALL', head), shown, digits(length), asks }
end
