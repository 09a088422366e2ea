-- The accounts of runs. ARGV: what, and of which run:
--   begin  no run but its groups in full, and then their names: returns the run
--   end    forgets it
--   beat   whoever runs it lives: returns up to where it is to be counted, so that it can be trimmed
--   look   returns what is counted already, and how each group stands to the rest
--   save   from where, to where, what is counted by now, how many are open still, these, and for the
--          outcomes that were counted: group and id
-- Beside the stream are the numbers of runs (run, runs: when each was last heard of), and of each:
--   run:N      its groups, the stream's end when it began, how far it is counted (at), and what (swept)
--   open:N     `group id flag`: what was not settled then; c, when it began, or n, when it was counted
-- While there is a run, o:name has by id what became of an event in a group, but where it went well.
local what, run = ARGV[1], ARGV[2]
local t = now()

local function forget(n)
  call('DEL', base .. 'run:' .. n, base .. 'open:' .. n)
  call('ZREM', base .. 'runs', n)
  if call('EXISTS', base .. 'runs') == 0 then
    for _, name in ipairs(call('SMEMBERS', base .. 'groups')) do call('DEL', base .. 'o:' .. name) end
  end
end

local function pending_of(g)
  local ids, from = {}, '-'
  while true do
    local out = redis.pcall('XPENDING', stream, g.native, from, '+', 512)
    if out.err then return ids end
    for _, one in ipairs(out) do
      ids[#ids + 1] = one[1]
      from = '(' .. one[1]
    end
    if #out < 512 then return ids end
  end
end

local function begin()
  -- Those that never ended, be it that they still run, are bounded.
  local open = call('ZRANGE', base .. 'runs', 0, -1)
  for i = 1, #open - 15 do forget(open[i]) end
  run = whole(call('INCR', base .. 'run'))
  local key, about = base .. 'run:' .. run, redis.pcall('XINFO', 'STREAM', stream)
  local last = about.err and '0-0' or map(about)['last-generated-id']
  local at = last
  for i = 3, #ARGV do
    local n, g = i - 2, group(ARGV[i])
    local from = g and read_until(g) or '0-0'
    call('HSET', key, 'name:' .. n, ARGV[i])
    if g then
      call('HSET', key, 'from:' .. n, from)
      for _, padded in ipairs(call('ZRANGE', g.due, 0, -1)) do
        call('SADD', base .. 'open:' .. run, n .. ' ' .. plain(padded) .. ' c')
      end
      for _, id in ipairs(pending_of(g)) do call('SADD', base .. 'open:' .. run, n .. ' ' .. id .. ' c') end
    end
    if pad(from) < pad(at) then at = from end
  end
  call('HSET', key, 'groups', ARGV[2], 'count', #ARGV - 2, 'begin', last, 'at', at)
  call('ZADD', base .. 'runs', t, run)
  return run
end

local function look()
  local key = base .. 'run:' .. run
  local about = call('HMGET', key, 'groups', 'begin', 'at', 'swept', 'rejected', 'count')
  if not about[1] then return {} end
  local all = {}
  for n = 1, tonumber(about[6]) do
    local name = call('HGET', key, 'name:' .. n)
    local g = group(name)
    local from = call('HGET', key, 'from:' .. n) or g and call('HGET', g.meta, 'start') or '0-0'
    local kept = {}
    for _, padded in ipairs(g and call('ZRANGE', g.due, 0, -1) or {}) do
      local id = plain(padded)
      kept[#kept + 1] = id
      kept[#kept + 1] = string.match(call('HGET', g.kept, id) or '0', '^%d+')
    end
    local done = call('HGETALL', base .. 'o:' .. name)
    all[n] = { g and 1 or 0, from, g and read_until(g) or '0-0', g and pending_of(g) or {}, kept, done }
  end
  return { about[1], about[2], about[3], about[4] or '', about[5] or '0', call('SMEMBERS', base .. 'open:' .. run), all }
end

local function save()
  local key, at, count = base .. 'run:' .. run, ARGV[4], tonumber(ARGV[6])
  if call('HGET', key, 'at') ~= ARGV[3] then return 0 end
  call('HSET', key, 'at', at, 'swept', ARGV[5])
  call('DEL', base .. 'open:' .. run)
  for i = 7, 6 + count do call('SADD', base .. 'open:' .. run, ARGV[i]) end
  for _, other in ipairs(call('ZRANGE', base .. 'runs', 0, -1)) do
    local place = call('HGET', base .. 'run:' .. other, 'at')
    if place and pad(place) < pad(at) then at = place end
  end
  -- What another run has not counted yet, that one removes.
  for i = 7 + count, #ARGV, 2 do
    if pad(ARGV[i + 1]) <= pad(at) then call('HDEL', base .. 'o:' .. ARGV[i], ARGV[i + 1]) end
  end
  return 1
end

if what == 'begin' then return begin() end
if what == 'look' then return look() end
if what == 'save' then return save() end
if what == 'beat' then
  call('ZADD', base .. 'runs', 'XX', t, run)
  return call('HGET', base .. 'run:' .. run, 'sweep') or ''
end
forget(run)
return 1
