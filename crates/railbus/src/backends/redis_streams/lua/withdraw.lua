-- Takes back what was published under an id and is not due yet. ARGV: the event's id. Returns whether
-- there was anything.
local known = #ARGV[1] .. ':' .. ARGV[1] .. ' '
local lines = call('ZRANGEBYLEX', base .. 'late:ids', '[' .. known, '(' .. known .. ':')
if not lines[1] then return 0 end
local t, groups, withdrawn = now(), {}, 0
for _, name in ipairs(call('SMEMBERS', base .. 'groups')) do groups[#groups + 1] = group(name) end

local function is_begun(id)
  for _, g in ipairs(groups) do
    local state = call('HGET', g.kept, id)
    if state and not string.match(state, '^0 %d+ 0') then return true end
  end
end

for _, line in ipairs(lines) do
  local id, due = string.match(string.sub(line, #known + 1), '^(%S+) (%S+)$')
  local is_late = tonumber(due) > t
  local is_open = is_late and is_begun(id)
  if is_late and not is_open then
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
  end
  if not is_open then
    call('ZREM', base .. 'late:ids', line)
    call('ZREM', base .. 'late:due', line)
  end
end
return withdrawn
