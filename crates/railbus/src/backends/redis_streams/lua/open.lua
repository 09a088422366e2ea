-- Opens a group, or widens its interest if it still has the version given.
-- ARGV: group, interest, where a new one starts, member, lease in ms, version, whether a group that
-- was pruned may come back, whether the order of keys is kept from here on.
local name, interest, start, me, lease, version, anew, keyed = unpack(ARGV)

-- Lets the events that are not settled hold their keys, or wait for them.
local function keep_order(g)
  local all, t = call('ZRANGE', g.due, 0, -1), now()
  table.sort(all)
  for pass = 1, 2 do
    for _, padded in ipairs(all) do
      local id = plain(padded)
      local state = call('HGET', g.kept, id) or ''
      local attempt, leased = string.match(state, '^(%d+) %d+ (%d)')
      local is_begun = attempt ~= '0' or leased == '1'
      local is_due = tonumber(call('ZSCORE', g.due, padded)) <= t
      local fields = (is_begun == (pass == 1)) and (is_begun or is_due) and fields_of(g, id)
      local key = fields and key_of(fields)
      -- Several may have begun: each goes on, and only one of them comes again at once.
      if key and not hold(g, key, id) and not is_begun then call('ZADD', g.due, '+inf', padded) end
    end
  end
end

local function create(gen, start)
  return redis.pcall('XGROUP', 'CREATE', stream, native_of(name, gen), start, 'MKSTREAM')
end

-- Begins a generation where the consumer group was deleted, or the stream with it: what is beside it
-- is there, and tells where to go on, unless it is another stream.
local function find_again(g)
  local about = redis.pcall('XINFO', 'STREAM', stream)
  local last = about.err and '0-0' or map(about)['last-generated-id']
  local place = call('HGET', g.meta, g.keyed and 'taken' or 'place') or '0-0'
  if pad(place) > pad(last) then place = '0-0' end
  local gen = whole(tonumber(g.gen) + 1)
  local made = create(gen, place)
  if made.err then return made end
  -- What was tried stays as it is.
  call('HSET', g.meta, 'gen', gen, 'until', last)
  call('HDEL', g.meta, 'taken', 'quiet')
  return made
end

local gone = call('HGET', base .. 'pruned', name)
if gone and anew ~= '1' then return { 'pruned' } end
local g = group(name)
local state = 'old'
if not g then
  local gen = gone or '0'
  local made = create(gen, start)
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  local t = whole(now())
  call('HSET', base .. 'g:' .. name, 'gen', gen, 'interest', interest, 'version', 1, 'seen', t)
  call('SADD', base .. 'groups', name)
  if keyed == '1' then call('HSET', base .. 'g:' .. name, 'keyed', 1) end
  g, state = group(name), 'new'
  call('HSET', g.meta, 'start', read_until(g))
elseif not read_until(g) then
  local made = find_again(g)
  if made.err then return made end
  g, state = group(name), 'lost'
end
if gone then call('HDEL', base .. 'pruned', name) end
if keyed == '1' and not g.keyed then
  -- Who reads from the stream without regard to keys is ended by it, and opens the group again.
  call('HSET', g.meta, 'keyed', 1)
  begin_generation(g, read_until(g))
  g = group(name)
  keep_order(g)
  redis.pcall('PUBLISH', base .. 'wake', name)
end
call('HSET', g.members, me, lease .. ' ' .. whole(now()))
-- Its leases may be shorter than all others.
call('HDEL', g.meta, 'quiet')
if state == 'old' and version == call('HGET', g.meta, 'version') then
  call('HSET', g.meta, 'interest', interest)
  call('HINCRBY', g.meta, 'version', 1)
end
local about = call('HMGET', g.meta, 'version', 'interest', 'until')
return { state, g.gen, g.native, about[1], about[2], about[3] or '', g.keyed and 1 or 0 }
