-- Opens a group, or widens its interest if it still has the version given.
-- ARGV: group, interest, where a new one starts, member, lease in ms, version, whether a group that
-- was pruned may come back.
local name, interest, start, me, lease, version, anew = unpack(ARGV)
if anew == '1' then
  call('HDEL', base .. 'pruned', name)
elseif call('HEXISTS', base .. 'pruned', name) == 1 then
  return { 'pruned' }
end
local g = group(name)
local state = 'old'
if not g then
  local made = redis.pcall('XGROUP', 'CREATE', stream, name, start, 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  local t = whole(now())
  call('HSET', base .. 'g:' .. name, 'gen', 0, 'interest', interest, 'version', 1, 'seen', t)
  call('SADD', base .. 'groups', name)
  g, state = group(name), 'new'
else
  -- Who deleted the stream, or the consumer group, has left what is beside it.
  local made = redis.pcall('XGROUP', 'CREATE', stream, g.native, '0', 'MKSTREAM')
  if not made.err then
    state = 'lost'
  elseif not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
  end
end
call('HSET', g.members, me, lease)
if state == 'old' and version == call('HGET', g.meta, 'version') then
  call('HSET', g.meta, 'interest', interest)
  call('HINCRBY', g.meta, 'version', 1)
end
local about = call('HMGET', g.meta, 'version', 'interest', 'until')
return { state, g.gen, g.native, about[1], about[2], about[3] or '' }
