-- Forgets a group with its place, its unsettled events and its dead letters. ARGV: group.
local name = ARGV[1]
local g = group(name)
if not g then return 0 end
redis.pcall('XGROUP', 'DESTROY', stream, g.native)
local from = '-'
while true do
  local letters = call('XRANGE', base .. 'dead', from, '+', 'COUNT', 256)
  for _, letter in ipairs(letters) do
    if map(letter[2]).group == name then call('XDEL', base .. 'dead', letter[1]) end
    from = '(' .. letter[1]
  end
  if #letters < 256 then break end
end
call('UNLINK', g.meta, g.members, g.kept, g.due, g.order, g.letters, g.replayed, g.holders, g.waiting, g.left,
  g.claims, g.outcomes)
call('SREM', base .. 'groups', name)
-- Who opens it anew begins a generation, so that no lease from before settles anything.
call('HSET', base .. 'pruned', name, whole(tonumber(g.gen) + 1))
redis.pcall('PUBLISH', base .. 'wake', name)
return 1
