-- Leases what can be fetched again. ARGV: group, member, at most, lease in ms, at most bytes.
-- Returns how soon there may be more, how many had lost their fields, and the events.
local g = group(ARGV[1])
if not g then return { 'gone' } end
local me, max, lease, room = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local t, soon, gone = now(), nil, 0
local function sooner(at)
  if not soon or at < soon then soon = at end
end

-- An event that was read, and whose reader's lease ran out.
local function expire(id, idle)
  call('XACK', stream, g.native, id)
  if is_known(g, id) then return end
  local fields = fields_of(g, id)
  if not fields then
    gone = gone + 1
    return
  end
  local due = due_of(id, fields)
  if due and due > t - idle then
    -- It was not due when it was read: nobody has begun it.
    return park(g, id, 0, g.fresh, 0, 0, due)
  end
  park(g, id, 1, g.fresh, 0, 1, 0)
  lengthen(g, id, '!1 ' .. whole(t) .. '\n')
end

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, g.native)
if consumers.err then return { 'gone' } end
call('HSET', g.meta, 'seen', whole(t))
for _, flat in ipairs(consumers) do
  local about = map(flat)
  local held = tonumber(call('HGET', g.members, about.name)) or lease
  if about.pending > 0 then
    local out = call('XPENDING', stream, g.native, 'IDLE', held, '-', '+', 256, about.name)
    for _, one in ipairs(out) do expire(one[1], one[3]) end
    if #out < about.pending then
      local first = call('XPENDING', stream, g.native, '-', '+', 1, about.name)[1]
      if first then sooner(t + held - first[3]) end
      sooner(t + held)
    end
  elseif about.name ~= me and about.idle > 24 * 60 * 60 * 1000 then
    call('XGROUP', 'DELCONSUMER', stream, g.native, about.name)
    call('HDEL', g.members, about.name)
  end
end

local found, bytes, skip = {}, 0, 0
local function is_full()
  return #found >= max or bytes >= room or skip > 2000
end
while not is_full() do
  local batch = call('ZRANGEBYSCORE', g.due, '-inf', whole(t), 'LIMIT', skip, 128)
  if #batch == 0 then break end
  for _, padded in ipairs(batch) do
    if is_full() then break end
    local id = plain(padded)
    local not_for = call('HGET', g.kept, id .. ':x')
    if not_for and string.find(not_for, ' ' .. me .. ' ', 1, true) then
      skip = skip + 1
    else
      local fields, state = fields_of(g, id), call('HGET', g.kept, id)
      if not fields or not state then
        gone = gone + 1
        drop(g, id)
      else
        local attempt, fence, leased, lost = string.match(state, '^(%d+) (%d+) (%d) (%d)$')
        if leased == '1' then
          lost = '1'
          lengthen(g, id, '!' .. attempt .. ' ' .. whole(t) .. '\n')
        end
        attempt, fence = whole(tonumber(attempt) + 1), whole(tonumber(fence) + 1)
        park(g, id, attempt, fence, 1, 0, t + lease)
        for i = 2, #fields, 2 do bytes = bytes + #fields[i] end
        local through = call('HGET', g.kept, id .. ':f') or ''
        found[#found + 1] = { id, attempt, fence, lost, through, fields }
      end
    end
  end
end
if is_full() and skip <= 2000 then sooner(t) end
local next_one = call('ZRANGEBYSCORE', g.due, '(' .. whole(t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if next_one[2] then sooner(tonumber(next_one[2])) end
return { 'ok', soon and math.max(soon - t, 0) or -1, gone, found }
