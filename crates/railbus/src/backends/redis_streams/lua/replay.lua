-- Lets a group see again what it has settled since a place. ARGV: group, the place before.
-- Returns the place up to which it had read.
local g = group(ARGV[1])
if not g then return { 'gone' } end
local last = read_until(g)
if not last then return { 'gone' } end
local start = ARGV[2]
if start == '$' or pad(start) > pad(last) then start = last end
local before = call('HGET', g.meta, 'until')
local upto = last
if before and pad(before) > pad(last) then upto = before end
call('HSET', g.meta, 'until', upto)
begin_generation(g, start)
-- What was not settled stays as it is.
call('DEL', g.replayed)
local from = 0
while true do
  local kept = call('ZRANGE', g.due, from, from + 511)
  for i, padded in ipairs(kept) do kept[i] = plain(padded) end
  if #kept > 0 then call('SADD', g.replayed, unpack(kept)) end
  from = from + 512
  if #kept < 512 then break end
end
redis.pcall('PUBLISH', base .. 'wake', g.name)
return { 'ok', start, last }
