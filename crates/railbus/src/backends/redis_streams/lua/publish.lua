-- Publishes what takes more than an entry: all or nothing. ARGV: how many inputs move, and for each its
-- name, from where, to where, and the fingerprint there; then for each event: `e`, or `r` if it
-- never became one, its id, its run and its delay, or nothing, how many fields and values, and these.
-- Returns ok, or which input is elsewhere.
local inputs, at = tonumber(ARGV[1]), 2
for _ = 1, inputs do
  local stored = call('HGET', base .. 'inputs', ARGV[at])
  if (stored and string.match(stored, '^%d+') or '0') ~= ARGV[at + 1] then return { 'stale', ARGV[at] } end
  at = at + 4
end
local late = 0
while ARGV[at] do
  local what, event, run, delay, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local fields = {}
  for i = 1, count do fields[i] = ARGV[at + 4 + i] end
  at = at + 5 + count
  local id = call('XADD', what == 'r' and base .. 'dead' or stream, '*', unpack(fields))
  if what == 'r' then
    if run ~= '' and call('EXISTS', base .. 'run:' .. run) == 1 then
      call('HINCRBY', base .. 'run:' .. run, 'rejected', 1)
    end
  elseif delay ~= '' then
    local due = whole(tonumber(string.match(id, '^%d+')) + delay)
    -- By the event's id, whose length says where it ends, and by when it is due.
    local line = #event .. ':' .. event .. ' ' .. id .. ' ' .. due
    call('ZADD', base .. 'late:ids', 0, line)
    call('ZADD', base .. 'late:due', due, line)
    late = late + 1
  end
end
at = 2
for _ = 1, inputs do
  call('HSET', base .. 'inputs', ARGV[at], ARGV[at + 2] .. ' ' .. ARGV[at + 3])
  at = at + 4
end
-- What is due can't be withdrawn: twice as much is forgotten as comes.
if late > 0 then
  for _, line in ipairs(call('ZRANGEBYSCORE', base .. 'late:due', '-inf', whole(now()), 'LIMIT', 0, 2 * late)) do
    call('ZREM', base .. 'late:ids', line)
    call('ZREM', base .. 'late:due', line)
  end
end
return { 'ok' }
