-- Leases what can be fetched again. ARGV: group, member, at most, lease in ms, at most bytes, up to
-- where it has looked at what was left, the fence of the claim, drawn at random: a server that has
-- forgotten a lease gives no other under the same. Asked again with the same, what was handed out with
-- it is part of the answer.
-- Returns how soon there may be more, how many had lost their fields, the events, where the order of
-- keys is kept the place up to which all was taken in, and up to where it has looked by now.
local g = group(ARGV[1])
if not g then return { 'gone' } end
local me, max, lease, room = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local seen, claim = tonumber(ARGV[6]), ARGV[7]
local DAY = 24 * 60 * 60 * 1000
local t, soon, gone = now(), nil, 0
local function sooner(at)
  if not soon or at < soon then soon = at end
end

-- An event that was read, and whose reader's lease ran out.
local function expire(id, idle)
  local is_new = not is_known(g, id)
  local fields = is_new and fields_of(g, id)
  if fields then
    local due = due_of(id, fields)
    if due and due > t - idle then
      -- It was not due when it was read: nobody has begun it.
      park(g, id, 0, g.fresh, 0, 0, due)
    else
      park(g, id, 1, g.fresh, 0, 1, 0)
      lengthen(g, id, '!1 ' .. whole(t) .. '\n')
    end
  elseif is_new then
    gone = gone + 1
  end
  -- At last: what fails before it leaves the event where it is.
  call('XACK', stream, g.native, id)
end

-- Looks for leases of what was read that ran out, and for members that are long gone. Whoever reads
-- holds for as long as its leases are, so until the first of them can run out nobody looks again.
local function look_at_readers()
  local quiet = tonumber(call('HGET', g.meta, 'quiet') or 0)
  if quiet > t and quiet - t < DAY then return sooner(quiet) end
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, g.native)
  if consumers.err then return true end
  local first_end, there = t + lease, {}
  for _, flat in ipairs(consumers) do
    local about = map(flat)
    local held = lease_of(g, about.name, lease)
    there[about.name] = true
    if about.pending > 0 then
      local out = call('XPENDING', stream, g.native, 'IDLE', held, '-', '+', 256, about.name)
      for _, one in ipairs(out) do expire(one[1], one[3]) end
      if #out < about.pending then
        local first = call('XPENDING', stream, g.native, '-', '+', 1, about.name)[1]
        if first then first_end = math.min(first_end, t + held - first[3]) end
      end
    elseif about.name ~= me and about.idle > DAY then
      call('XGROUP', 'DELCONSUMER', stream, g.native, about.name)
      there[about.name] = nil
    end
  end
  local members = call('HGETALL', g.members)
  for i = 1, #members, 2 do
    local held, since = string.match(members[i + 1], '^(%d+) ?(%d*)$')
    first_end = math.min(first_end, t + tonumber(held))
    -- Who is there has read within the day.
    if not there[members[i]] and members[i] ~= me and t - (tonumber(since) or 0) > DAY then
      call('HDEL', g.members, members[i])
      call('HDEL', g.claims, members[i])
    end
  end
  -- Where to go on should the consumer group be lost: before what is not settled.
  local first = call('XPENDING', stream, g.native)[2]
  local place = first and before(first) or read_until(g)
  call('HSET', g.meta, 'quiet', whole(first_end), 'place', place or '0-0')
  sooner(first_end)
end

-- Takes in what is new where the order of keys is kept: what is read here is nobody's yet, so that it
-- is leased in order, whoever dies. Tells how many there were, or none if the group is not there.
local taken, taken_bytes = 0, 0
local function take_in()
  local said = redis.pcall('XREADGROUP', 'GROUP', g.native, 'keys', 'COUNT', 64, 'NOACK', 'STREAMS', stream, '>')
  if said and said.err then return nil end
  local entries = said and said[1][2] or {}
  local upto = #entries > 0 and call('HGET', g.meta, 'until')
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    if not (upto and pad(id) <= pad(upto) and is_known(g, id)) then
      local due, key = due_of(id, fields), key_of(fields)
      if due and due > t then
        park(g, id, 0, g.fresh, 0, 0, due)
      else
        park(g, id, 0, g.fresh, 0, 0, (not key or hold(g, key, id)) and 0 or math.huge)
      end
    end
    for i = 2, #fields, 2 do taken_bytes = taken_bytes + #fields[i] end
    call('HSET', g.meta, 'taken', id)
  end
  taken = taken + #entries
  return #entries
end

let_through(g)
if not g.keyed and look_at_readers() then return { 'gone' } end
call('HSET', g.meta, 'seen', whole(t))

local found, record, bytes, walked = {}, {}, 0, 0
local function is_full()
  return #found >= max or bytes >= room or walked >= 2000
end

local function hand_out(id, attempt, fence, lost, fields)
  park(g, id, attempt, fence, 1, 0, t + lease)
  for i = 2, #fields, 2 do bytes = bytes + #fields[i] end
  local through = call('HGET', g.kept, id .. ':f') or ''
  found[#found + 1] = { id, attempt, fence, lost, through, fields }
  record[#record + 1] = id .. ' ' .. lost
end

-- Hands out once more what is leased by this claim already: the answer was lost. If less is asked for
-- now, it may have been too large: the rest comes with the next claims, as it would have.
local function hand_out_again()
  local lines = call('HGET', g.claims, me)
  if not lines or string.match(lines, '^[^\n]*') ~= claim then return end
  for id, lost in string.gmatch(lines, '\n(%S+) (%d)') do
    local attempt, last, leased = string.match(call('HGET', g.kept, id) or '', '^(%d+) (%d+) (%d)')
    local is_leased = leased == '1' and last == claim
    if is_leased and is_full() then
      park(g, id, tonumber(attempt) - 1, claim, 0, lost, 0)
    else
      local fields = is_leased and fields_of(g, id)
      if fields then hand_out(id, attempt, claim, lost, fields) end
    end
  end
end

local function can_not(id)
  local not_for = call('HGET', g.kept, id .. ':x')
  return not_for and string.find(not_for, ' ' .. me .. ' ', 1, true)
end

local function take(padded)
  local id = plain(padded)
  local fields, state = fields_of(g, id), call('HGET', g.kept, id)
  local key = g.keyed and fields and key_of(fields)
  call('ZREM', g.left, padded)
  if not fields or not state then
    gone = gone + 1
    drop(g, id)
  elseif key and not hold(g, key, id) then
    call('ZADD', g.due, '+inf', padded)
  else
    local attempt, leased, lost = string.match(state, '^(%d+) %d+ (%d) (%d)$')
    if leased == '1' then
      lost = '1'
      lengthen(g, id, '!' .. attempt .. ' ' .. whole(t) .. '\n')
    end
    hand_out(id, whole(tonumber(attempt) + 1), claim, lost, fields)
  end
end

local function may_take_in()
  return g.keyed and taken < 4096 and taken_bytes < room
end
hand_out_again()
while not is_full() do
  -- Each is due no more once it was looked at.
  local batch = call('ZRANGEBYSCORE', g.due, '-inf', whole(t), 'LIMIT', 0, 128)
  if #batch == 0 then
    local new = may_take_in() and take_in() or 0
    if not new then return { 'gone' } end
    if new == 0 then break end
  end
  for _, padded in ipairs(batch) do
    if is_full() then break end
    walked = walked + 1
    if can_not(plain(padded)) then leave(g, padded) else take(padded) end
  end
end
while not is_full() do
  local batch = call('ZRANGEBYSCORE', g.left, '(' .. whole(seen), '+inf', 'WITHSCORES', 'LIMIT', 0, 128)
  if #batch == 0 then break end
  for i = 1, #batch, 2 do
    if is_full() then break end
    walked, seen = walked + 1, tonumber(batch[i + 1])
    -- One that came free otherwise is due, and not left any more.
    local is_left = call('ZSCORE', g.due, batch[i]) == 'inf'
    if is_left and not can_not(plain(batch[i])) then take(batch[i]) end
  end
end
if #found > 0 then
  call('HSET', g.claims, me, claim .. '\n' .. table.concat(record, '\n'))
end
if is_full() or g.keyed and not may_take_in() then sooner(t) end
local next_one = call('ZRANGEBYSCORE', g.due, '(' .. whole(t), '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if next_one[2] then sooner(tonumber(next_one[2])) end
local last = g.keyed and (call('HGET', g.meta, 'taken') or read_until(g)) or ''
return { 'ok', soon and math.max(soon - t, 0) or -1, gone, found, last, whole(seen) }
