-- Takes back what was published under an id and is not due yet. ARGV: the event's id. Returns whether
-- there was anything.
local known = call('HGET', base .. 'late', ARGV[1])
if not known then return 0 end
local t, groups, left, withdrawn = now(), {}, '', 0
for _, name in ipairs(call('SMEMBERS', base .. 'groups')) do groups[#groups + 1] = group(name) end

local function is_begun(id)
  for _, g in ipairs(groups) do
    local state = call('HGET', g.kept, id)
    if state and not string.match(state, '^0 %d+ 0') then return true end
  end
end

for id, due in string.gmatch(known, '(%S+) (%S+) ') do
  if tonumber(due) > t and not is_begun(id) then
    local was = call('XDEL', stream, id)
    for _, g in ipairs(groups) do
      redis.pcall('XACK', stream, g.native, id)
      call('SREM', g.replayed, id)
      if call('HEXISTS', g.kept, id) == 1 then
        drop(g, id)
        was = 1
      end
    end
    if was == 1 then withdrawn = 1 end
  elseif tonumber(due) > t then
    left = left .. id .. ' ' .. due .. ' '
  end
end
if left ~= '' then
  call('HSET', base .. 'late', ARGV[1], left)
else
  call('HDEL', base .. 'late', ARGV[1])
  call('ZREM', base .. 'late:due', ARGV[1])
end
return withdrawn
