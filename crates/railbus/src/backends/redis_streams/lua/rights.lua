-- Tells which of the commands that a group needs the user may not run: each is tried where it changes nothing
-- that stays.
local key, missing = base .. 'rights', {}
local function try(name, ...)
  local said = redis.pcall(name, ...)
  local err = type(said) == 'table' and said.err
  if err and (string.find(err, "can't run this command", 1, true) or string.find(err, 'permissions to run', 1, true)) then
    missing[#missing + 1] = string.lower(name)
  end
end
local hash, set, sorted, log = key .. ':h', key .. ':s', key .. ':z', key .. ':x'
try('TIME')
try('HSET', hash, 'f', '1')
try('HGET', hash, 'f')
try('HMGET', hash, 'f')
try('HGETALL', hash)
try('HEXISTS', hash, 'f')
try('HINCRBY', hash, 'f', 1)
try('INCR', hash)
try('HDEL', hash, 'f')
try('SADD', set, 'a')
try('SMEMBERS', set)
try('SREM', set, 'a')
try('ZADD', sorted, 0, 'a')
try('ZRANGE', sorted, 0, -1)
try('ZRANGEBYSCORE', sorted, 0, 1)
try('ZRANGEBYLEX', sorted, '-', '+')
try('ZSCORE', sorted, 'a')
try('ZCARD', sorted)
try('ZREM', sorted, 'a')
try('XADD', log, 'NOMKSTREAM', '*', 'a', '1')
try('XLEN', log)
try('XRANGE', log, '-', '+')
try('XINFO', 'STREAM', log)
try('XGROUP', 'CREATE', log, 'g', '0')
try('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 1, 'STREAMS', log, '>')
try('XREAD', 'COUNT', 1, 'STREAMS', log, '0')
try('XPENDING', log, 'g')
try('XCLAIM', log, 'g', 'c', 0, '0-1', 'JUSTID')
try('XACK', log, 'g', '0-1')
try('XDEL', log, '0-1')
try('XTRIM', log, 'MAXLEN', 0)
try('PUBLISH', base .. 'wake', '')
try('EXISTS', hash)
try('UNLINK', hash)
try('DEL', hash, set, sorted, log)
return missing
