-- Forgets a member that holds nothing. ARGV: group, member.
local g = group(ARGV[1])
if not g then return 0 end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, g.native)
if consumers.err then return 0 end
for _, flat in ipairs(consumers) do
  local about = map(flat)
  if about.name == ARGV[2] and about.pending > 0 then return 0 end
end
redis.pcall('XGROUP', 'DELCONSUMER', stream, g.native, ARGV[2])
call('HDEL', g.claims, ARGV[2])
return call('HDEL', g.members, ARGV[2])
