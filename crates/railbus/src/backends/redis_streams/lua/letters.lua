-- Hands a dead letter back to its subscription, or deletes it. ARGV: its id, redrive or purge, what
-- to add to those who are through: that this one is not. Returns whether it was there to do.
local found = call('XRANGE', base .. 'dead', ARGV[1], ARGV[1])[1]
if not found then return 0 end
local letter = map(found[2])
local g = letter.group and group(letter.group)
if ARGV[2] == 'redrive' then
  if not g then return 0 end
  local id, state = letter.id, call('HGET', g.kept, letter.id)
  -- Until it is claimed it has the fence of its last lease, and is not leased.
  local fence = call('HGET', g.letters, id .. ':c') or letter.fence
  if state then
    local attempt, last, leased = string.match(state, '^(%d+) (%d+) (%d)')
    -- Another subscription of the group is still working on it.
    if leased == '1' or attempt ~= '0' then return 0 end
    fence = last
  elseif #(redis.pcall('XPENDING', stream, g.native, id, id, 1)) > 0 then
    return 0
  end
  local through = state and call('HGET', g.kept, id .. ':f') or call('HGET', g.letters, id) or ''
  call('HSET', g.kept, id .. ':f', through .. ARGV[3])
  if not call('XRANGE', stream, id, id)[1] then
    local fields = letter.packed and cmsgpack.unpack(letter.packed) or {}
    for i = 1, letter.packed and 0 or #found[2], 2 do
      local name = string.match(found[2][i], '^f:(.*)$')
      if name then
        fields[#fields + 1] = name
        fields[#fields + 1] = found[2][i + 1]
      end
    end
    call('HSET', g.kept, id .. ':b', cmsgpack.pack(fields))
  end
  call('HDEL', g.kept, id .. ':h', id .. ':x')
  local noted = call('HGET', g.outcomes, id)
  if noted then call('HSET', g.outcomes, id, '0 ' .. string.sub(noted, -1)) end
  park(g, id, 0, fence, 0, 0, 0)
  redis.pcall('PUBLISH', base .. 'wake', g.name)
end
call('XDEL', base .. 'dead', ARGV[1])
if g then
  call('HINCRBY', g.meta, 'dead', -1)
  if call('HINCRBY', g.letters, letter.id .. ':n', -1) <= 0 then
    call('HDEL', g.letters, letter.id, letter.id .. ':n', letter.id .. ':c')
  end
end
return 1
