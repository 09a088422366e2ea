-- What all scripts know. KEYS: the stream, and what all other keys begin with.
--
-- A group `name` has, beside the consumer group of the stream:
--   g:name  its generation, interest and counts; a replay begins a generation with a consumer group
--           of its own, so that no lease from before settles anything
--   m:name  its members: the length of their leases in ms, and when they opened it
--   d:name  what was tried, held back or left to other members: by id `attempt fence leased lost`,
--           id:h its history, id:f who is through with it, id:x who can't handle it, id:b its fields
--           once the stream has lost them, id:k its key where the order of keys is kept
--   t:name  the same ids by the time at which they can be fetched again: of a leased one, its end;
--           never (+inf), of one that waits for its key, or was left to other members
--   i:name  the same ids in order, but those whose fields are kept in d:name
--   r:name  what was not settled when it was replayed, and so is not seen again
--   l:name  of events with dead letters: how many, and who is through with them
--   o:name  while a run is accounted for, what became of events: see runs.lua
--   h:name  where the order of keys is kept: by key, the event that holds it
--   w:name  the events that wait for it, as `key NUL id`
--   x:name  the events that were left to other members, by when they were
-- What a fleet has in common beside events has keys that begin with k:, e: and b:, see commons.lua.
--   c:name  by member, its last claim and what that handed out: the answer may be lost
-- An event that was read and not touched since is in the consumer group's pending list alone: it is
-- leased from when it was read, for as long as its consumer's leases are. What is leased otherwise has a
-- fence that its member has drawn at random, so that none is given twice, by whatever was forgotten.
local stream, base = KEYS[1], KEYS[2]
local call = redis.call

local function now()
  local t = call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function whole(n)
  return string.format('%.0f', n)
end

-- Ids of one length, whose order as text is their order.
local function pad(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end

local function plain(padded)
  local ms, seq = string.match(padded, '^0*(%d+)-0*(%d+)$')
  return ms .. '-' .. seq
end

-- The consumer group of a generation.
local function native_of(name, gen)
  return gen == '0' and name or name .. '#replay-' .. gen
end

local function group(name)
  local meta = base .. 'g:' .. name
  local about = call('HMGET', meta, 'gen', 'keyed')
  local gen = about[1]
  if not gen then return nil end
  return {
    name = name,
    meta = meta,
    gen = gen,
    native = native_of(name, gen),
    -- Stands for the fences of what was read and not touched since, which the members alone know.
    fresh = whole(tonumber(gen) * 4294967296),
    members = base .. 'm:' .. name,
    kept = base .. 'd:' .. name,
    due = base .. 't:' .. name,
    order = base .. 'i:' .. name,
    replayed = base .. 'r:' .. name,
    letters = base .. 'l:' .. name,
    outcomes = base .. 'o:' .. name,
    keyed = about[2] == '1',
    holders = base .. 'h:' .. name,
    waiting = base .. 'w:' .. name,
    left = base .. 'x:' .. name,
    claims = base .. 'c:' .. name,
  }
end

-- A full server lets a script write that has written before it came to what takes memory. What hands
-- out and settles makes room in the end, so it is let through.
local function let_through(g)
  call('HDEL', g.meta, '')
end

local function map(flat)
  local m = {}
  for i = 1, #flat, 2 do m[flat[i]] = flat[i + 1] end
  return m
end

local function fields_of(g, id)
  local found = call('XRANGE', stream, id, id)
  if found[1] then return found[1][2] end
  local packed = call('HGET', g.kept, id .. ':b')
  return packed and cmsgpack.unpack(packed)
end

-- When an event that was held back at its publishing is due.
local function due_of(id, fields)
  local delay = tonumber(map(fields)['delay'])
  return delay and tonumber(string.match(id, '^%d+')) + delay
end

local function park(g, id, attempt, fence, leased, lost, at)
  local padded = pad(id)
  call('HSET', g.kept, id, attempt .. ' ' .. fence .. ' ' .. leased .. ' ' .. lost)
  call('ZADD', g.due, whole(at), padded)
  if call('HEXISTS', g.kept, id .. ':b') == 0 then call('ZADD', g.order, 0, padded) end
end

-- Leaves an event to members that have not left it yet. Each member looks at those that were left
-- since it looked last, so that however many there are, nothing else waits behind them.
local function leave(g, padded)
  call('ZADD', g.due, '+inf', padded)
  call('ZADD', g.left, call('HINCRBY', g.meta, 'left', 1), padded)
end

-- Order by key: one event of a key holds it, from when it could be fetched until it is settled, and
-- the earliest of those that wait is next. Its key stands beside an event that was published with
-- one, else in the text.
local function key_of(fields)
  local m = map(fields)
  local key = m['key']
  if not key and m['event'] and string.find(m['event'], '"partitionkey"', 1, true) then
    local ok, event = pcall(cjson.decode, m['event'])
    key = ok and type(event) == 'table' and event['partitionkey']
    key = (type(key) == 'string' or type(key) == 'number') and tostring(key)
  end
  if key and key ~= '' and not string.find(key, '%z') then return key end
end

-- Tells whether the event holds its key; if another does, it waits.
local function hold(g, key, id)
  call('HSET', g.kept, id .. ':k', key)
  local holder = call('HGET', g.holders, key)
  if holder == id then return true end
  if not holder then
    call('HSET', g.holders, key, id)
    return true
  end
  call('ZADD', g.waiting, 0, key .. '\0' .. pad(id))
  return false
end

-- Hands a key on; tells whether somebody waited for it.
local function free(g, key, id)
  call('ZREM', g.waiting, key .. '\0' .. pad(id))
  if call('HGET', g.holders, key) ~= id then return false end
  local line = call('ZRANGEBYLEX', g.waiting, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 1)[1]
  if not line then
    call('HDEL', g.holders, key)
    return false
  end
  local padded = string.sub(line, #key + 2)
  call('ZREM', g.waiting, line)
  call('HSET', g.holders, key, plain(padded))
  -- One that was leased before the order was kept is due at the end of its lease.
  if call('ZSCORE', g.due, padded) == 'inf' then call('ZADD', g.due, 0, padded) end
  return true
end

-- Forgets an event; tells whether another can be fetched for it.
local function drop(g, id)
  local key = g.keyed and call('HGET', g.kept, id .. ':k')
  call('HDEL', g.kept, id, id .. ':h', id .. ':f', id .. ':x', id .. ':b', id .. ':k')
  local padded = pad(id)
  call('ZREM', g.due, padded)
  call('ZREM', g.order, padded)
  return key and free(g, key, id)
end

-- Adds lines to a history, keeping the latest twenty.
local function lengthen(g, id, lines)
  if lines == '' then return end
  local text = (call('HGET', g.kept, id .. ':h') or '') .. lines
  local _, count = string.gsub(text, '\n', '')
  for _ = 21, count do text = string.match(text, '^[^\n]*\n(.*)$') end
  call('HSET', g.kept, id .. ':h', text)
end

-- Tells of an event that was read after a replay, once, whether it was not settled before.
local function is_known(g, id)
  return call('SREM', g.replayed, id) == 1 or call('HEXISTS', g.kept, id) == 1
end

-- What the server knows of a consumer group.
local function native_about(g)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return nil end
  for _, flat in ipairs(groups) do
    local about = map(flat)
    if about.name == g.native then return about end
  end
end

-- The last place that a consumer group has read.
local function read_until(g)
  local about = native_about(g)
  return about and about['last-delivered-id']
end

-- The length of a member's leases; of one that is not known, what is given.
local function lease_of(g, member, default)
  local about = call('HGET', g.members, member)
  return about and tonumber(string.match(about, '^%d+')) or default
end

-- The place right before an event.
local function before(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. whole(tonumber(seq) - 1) end
  return whole(math.max(tonumber(ms) - 1, 0)) .. '-18446744073709551615'
end

-- Begins a generation behind a place: leases from before are under fences of their own from here on.
local function begin_generation(g, start)
  local t, from = now(), '-'
  while true do
    local out = call('XPENDING', stream, g.native, from, '+', 512)
    for _, one in ipairs(out) do
      local held = lease_of(g, one[2], 30000)
      if call('HEXISTS', g.kept, one[1]) == 0 then
        park(g, one[1], 1, g.fresh, 1, 0, t + held - one[3])
      end
      from = '(' .. one[1]
    end
    if #out < 512 then break end
  end
  call('XGROUP', 'DESTROY', stream, g.native)
  call('HDEL', g.meta, 'taken', 'quiet')
  call('HSET', g.meta, 'place', start)
  call('HINCRBY', g.meta, 'gen', 1)
  call('XGROUP', 'CREATE', stream, group(g.name).native, start)
end
