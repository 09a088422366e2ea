-- Lets a group see again what it has settled since a place. ARGV: group, the place before.
-- Returns the place up to which it had read.
local g = group(ARGV[1])
if not g then return { 'gone' } end
local last = read_until(g)
if not last then return { 'gone' } end
local t, from = now(), '-'
while true do
  local out = call('XPENDING', stream, g.native, from, '+', 512)
  for _, one in ipairs(out) do
    local held = tonumber(call('HGET', g.members, one[2])) or 30000
    -- Whoever holds it goes on; its lease is under a fence of its own from here on.
    if call('HEXISTS', g.kept, one[1]) == 0 then
      park(g, one[1], 1, g.fresh, 1, 0, t + held - one[3])
    end
    from = '(' .. one[1]
  end
  if #out < 512 then break end
end
call('DEL', g.replayed)
from = 0
while true do
  local kept = call('ZRANGE', g.due, from, from + 511)
  for i, padded in ipairs(kept) do kept[i] = plain(padded) end
  if #kept > 0 then call('SADD', g.replayed, unpack(kept)) end
  from = from + 512
  if #kept < 512 then break end
end
local start = ARGV[2]
if start == '$' or pad(start) > pad(last) then start = last end
local before = call('HGET', g.meta, 'until')
local upto = last
if before and pad(before) > pad(last) then upto = before end
call('XGROUP', 'DESTROY', stream, g.native)
call('HSET', g.meta, 'until', upto)
call('HINCRBY', g.meta, 'gen', 1)
call('XGROUP', 'CREATE', stream, group(ARGV[1]).native, start)
redis.pcall('PUBLISH', base .. 'wake', g.name)
return { 'ok', start, last }
