-- What a fleet has in common beside events. ARGV: what, and
--   claim    space, key, holder, lease: -1 if it is the holder's, 0 if it is done, else for how long it
--            is another's
--   commit   space, key, holder, window: whether it is done now
--   release  space, key, holder
--   draw     bucket, rate, burst, want, back, came, ago: how many tokens, or less than 0, for how long
--            there are none
-- Times are in ms. Beside the stream are of each space and each bucket:
--   k:space  by key, `until holder`, without a holder if it is done
--   e:space  the same keys by when they end
--   b:name   how many tokens there were (level), and when (at)
-- No command is needed that a group does not need as well.
local what, t = ARGV[1], now()

local function draw(name, rate, burst, want, back, came, ago)
  local bucket = base .. 'b:' .. name
  local was = call('HMGET', bucket, 'level', 'at')
  local level = tonumber(was[1] or burst)
  local passed = math.max(t - tonumber(was[2] or t), 0)
  local since = math.min(ago, passed)
  level = math.min(level + rate * (passed - since) / 1000, burst) + back
  level = math.min(level, math.max(burst - came, 0))
  level = math.min(level + rate * since / 1000, burst)
  local n = level >= 1 and math.min(math.floor(level), want) or 0
  level = level - n
  call('HSET', bucket, 'level', string.format('%.17g', level), 'at', whole(t))
  if n > 0 then return n end
  return -math.min(math.max(math.ceil((1 - level) / rate * 1000), 1), 9e15)
end

if what == 'draw' then
  local n = {}
  for i = 3, 8 do n[i] = tonumber(ARGV[i]) end
  return draw(ARGV[2], n[3], n[4], math.max(n[5], 1), n[6], n[7], n[8])
end

local marks, ends = base .. 'k:' .. ARGV[2], base .. 'e:' .. ARGV[2]
local key, holder, time = ARGV[3], ARGV[4], tonumber(ARGV[5] or 0)

local function found()
  local said = call('HGET', marks, key)
  if not said then return nil end
  local till, who = string.match(said, '^(%d+) (.*)$')
  if tonumber(till) > t then return who, tonumber(till) end
end

local function put(who)
  call('HSET', marks, key, whole(t + time) .. ' ' .. who)
  call('ZADD', ends, whole(t + time), key)
end

local who, till = found()
if what == 'release' then
  if who == holder then
    call('HDEL', marks, key)
    call('ZREM', ends, key)
  end
  return 0
end
if what == 'commit' then
  if who and who ~= holder then return who == '' and 1 or 0 end
  put('')
  return 1
end
if who == '' then return 0 end
if who and who ~= holder then return till - t end
put(holder)
-- A few of those that are over, so that they don't become more.
for _, old in ipairs(call('ZRANGEBYSCORE', ends, '-inf', whole(t), 'LIMIT', 0, 8)) do
  call('HDEL', marks, old)
  call('ZREM', ends, old)
end
return -1
