-- Tells how a group stands. ARGV: group.
local g = group(ARGV[1])
if not g then return {} end
local t, leased = now(), 0
for _, padded in ipairs(call('ZRANGEBYSCORE', g.due, '(' .. whole(t), '(+inf', 'LIMIT', 0, 100000)) do
  local state = call('HGET', g.kept, plain(padded))
  if state and string.match(state, '^%d+ %d+ 1') then leased = leased + 1 end
end
local pending = redis.pcall('XPENDING', stream, g.native)
pending = pending.err and 0 or pending[1]
local about = call('HMGET', g.meta, 'interest', 'seen', 'dead')
local kept = call('ZCARD', g.due)
return {
  g.native, about[1], about[2], about[3] or '0', pending, kept, pending + leased, read_until(g) or '0-0',
}
