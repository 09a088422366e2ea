-- Tells how a group stands. ARGV: group, whether to count what is leased.
local g = group(ARGV[1])
if not g then return {} end
local t, leased = now(), 0
local held = ARGV[2] == '1' and call('ZRANGEBYSCORE', g.due, '(' .. whole(t), '(+inf', 'LIMIT', 0, 100000) or {}
for _, padded in ipairs(held) do
  local state = call('HGET', g.kept, plain(padded))
  if state and string.match(state, '^%d+ %d+ 1') then leased = leased + 1 end
end
local pending = redis.pcall('XPENDING', stream, g.native)
pending = pending.err and 0 or pending[1]
local native = native_about(g) or {}
local about = call('HMGET', g.meta, 'interest', 'seen', 'dead')
local kept = call('ZCARD', g.due)
return {
  g.native, about[1], about[2], about[3] or '0', pending, kept, pending + leased,
  native['last-delivered-id'] or '0-0', native.lag or -1,
}
