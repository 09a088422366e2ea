-- What all scripts know. KEYS: the stream, and what all other keys begin with.
--
-- A group `name` has, beside the consumer group of the stream:
--   g:name  its generation, interest and counts; a replay begins a generation with a consumer group
--           of its own, so that no lease from before settles anything
--   m:name  its members, with the length of their leases in ms
--   d:name  what was tried, held back or left to other members: by id `attempt fence leased lost`,
--           id:h its history, id:f who is through with it, id:x who can't handle it, id:b its fields
--           once the stream has lost them
--   t:name  the same ids by the time at which they can be fetched again: of a leased one, its end
--   i:name  the same ids in order, but those whose fields are kept in d:name
--   r:name  what was not settled when it was replayed, and so is not seen again
--   l:name  of events with dead letters: how many, and who is through with them
-- An event that was read and not touched since is in the consumer group's pending list alone: it is
-- leased from when it was read, for as long as its consumer's leases are.
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

local function group(name)
  local meta = base .. 'g:' .. name
  local gen = call('HGET', meta, 'gen')
  if not gen then return nil end
  return {
    name = name,
    meta = meta,
    gen = gen,
    native = gen == '0' and name or name .. '#replay-' .. gen,
    -- The fence of an event that was read and not touched since.
    fresh = whole(tonumber(gen) * 4294967296),
    members = base .. 'm:' .. name,
    kept = base .. 'd:' .. name,
    due = base .. 't:' .. name,
    order = base .. 'i:' .. name,
    replayed = base .. 'r:' .. name,
    letters = base .. 'l:' .. name,
  }
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

local function drop(g, id)
  call('HDEL', g.kept, id, id .. ':h', id .. ':f', id .. ':x', id .. ':b')
  local padded = pad(id)
  call('ZREM', g.due, padded)
  call('ZREM', g.order, padded)
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

-- The last place that a consumer group has read.
local function read_until(g)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then return nil end
  for _, flat in ipairs(groups) do
    local about = map(flat)
    if about.name == g.native then return about['last-delivered-id'] end
  end
end
