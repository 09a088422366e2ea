-- Removes events from the stream's beginning that no group needs any more. ARGV: at most so many
-- events or -1, how old they get in ms, whether the length counts alone, at most how many at once.
-- Returns whether there may be more to remove.
-- What was tried or is held back has its fields kept beside the stream, so it holds up nothing.
local most, age, hard, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local length = redis.pcall('XLEN', stream)
if type(length) ~= 'number' or length == 0 then return 0 end
if hard then
  call('XTRIM', stream, 'MAXLEN', '~', most)
  return 0
end
-- What is kept beside the stream takes memory, and what is removed gives more of it back.
call('SREM', base .. 'groups', '')
local floor, more
local function keep(id)
  local padded = pad(id)
  if not floor or padded < floor then floor = padded end
end
local groups = {}
for _, flat in ipairs(call('XINFO', 'GROUPS', stream)) do
  local about = map(flat)
  groups[about.name] = about
end
for _, name in ipairs(call('SMEMBERS', base .. 'groups')) do
  local g = group(name)
  local about = g and groups[g.native]
  if about then
    keep(about['last-delivered-id'])
    if about.pending > 0 then keep(call('XPENDING', stream, g.native)[2]) end
  end
end
local old = whole(math.max(now() - age, 0)) .. '-0'
local over = most >= 0 and length - most or 0
for _, name in ipairs(call('SMEMBERS', base .. 'groups')) do
  local g = group(name)
  local kept = g and call('ZRANGE', g.order, 0, 199) or {}
  for at, padded in ipairs(kept) do
    if floor and padded >= floor or over <= 0 and padded >= pad(old) then break end
    if at == 200 then
      -- The rest has its turn the next time.
      keep(plain(padded))
      more = true
    else
      local id = plain(padded)
      local fields = fields_of(g, id)
      if fields then call('HSET', g.kept, id .. ':b', cmsgpack.pack(fields)) end
      call('ZREM', g.order, padded)
    end
  end
end
-- What a run has not counted yet is kept until it has, as long as whoever runs it lives.
local function count_first(id)
  local least
  for _, run in ipairs(call('ZRANGEBYSCORE', base .. 'runs', whole(now() - 60000), '+inf')) do
    local at = call('HGET', base .. 'run:' .. run, 'at')
    if at and pad(at) < pad(id) then
      local wanted = call('HGET', base .. 'run:' .. run, 'sweep')
      if not wanted or pad(wanted) < pad(id) then call('HSET', base .. 'run:' .. run, 'sweep', id) end
      if not least or pad(at) < pad(least) then least = at end
    end
  end
  return least or id
end
local function cut(id, most)
  if floor and pad(id) > floor then id = plain(floor) end
  id = count_first(id)
  local count = call('XTRIM', stream, 'MINID', '~', id, 'LIMIT', most)
  -- Whole nodes are removed, so that there may be some left of the limit.
  more = more or count > limit / 2
  return count
end
local trimmed = 0
if over > 0 then
  local last = map(call('XINFO', 'STREAM', stream))['last-generated-id']
  trimmed = cut(floor and plain(floor) or last, math.min(over, limit))
end
if trimmed < limit then cut(old, limit) end
return more and 1 or 0
