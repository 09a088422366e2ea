-- Settles leases. ARGV: group, member, lease in ms, the version of the interest that was known or
-- nothing, then for each: id, fence, the fence of what was read in its generation if it was read and
-- not touched since by all the member knows, verb, number, what came of it and whether it was tried
-- again, who is through, history, how many dead letters, and for each of these its subscription and
-- reason.
-- Returns 1 for each that was settled, 0 for each that is there no more, be it that it was settled before,
-- 2 for each that was lost, 3 for each that nobody has read, by all the server knows; or the newer
-- interest.
local g = group(ARGV[1])
local me, lease, version = ARGV[2], tonumber(ARGV[3]), ARGV[4]
if not g then return { 'gone' } end
let_through(g)
if version ~= '' then
  local about = call('HMGET', g.meta, 'version', 'interest')
  if about[1] ~= version then return { 'wider', about[1], about[2] } end
end
local t, results, wakes, at = now(), {}, false, 5

local function bury(id, attempt, fence, subscription, reason)
  local letter = {
    'group', g.name, 'id', id, 'subscription', subscription, 'reason', reason,
    'attempt', attempt, 'fence', fence, 'history', call('HGET', g.kept, id .. ':h') or '',
  }
  local fields = fields_of(g, id) or {}
  -- There is a limit to how many a call takes.
  local is_many = #fields > 4000
  if is_many then
    letter[#letter + 1] = 'packed'
    letter[#letter + 1] = cmsgpack.pack(fields)
  end
  for i = 1, #fields, 2 do
    if not is_many or fields[i] == 'topic' or fields[i] == 'event' then
      letter[#letter + 1] = 'f:' .. fields[i]
      letter[#letter + 1] = fields[i + 1]
    end
  end
  call('XADD', base .. 'dead', '*', unpack(letter))
  call('HINCRBY', g.meta, 'dead', 1)
  call('HINCRBY', g.letters, id .. ':n', 1)
end

-- Returns who has an event that was read and not touched since, and whether nobody has read it: a server
-- that has forgotten who did may have given it to another, or not know yet that anybody did.
local function reader_of(id)
  local out = redis.pcall('XPENDING', stream, g.native, id, id, 1)
  if not out.err and #out == 1 then return out[1][2] end
  local place = read_until(g)
  if not place or pad(id) > pad(place) then
    return '', place and call('XRANGE', stream, id, id)[1] ~= nil
  end
end

-- Tells whether this was done before, and its answer lost.
local function is_noted(id, history)
  local noted = history ~= '' and call('HGET', g.kept, id .. ':h')
  return noted and string.sub(noted, -#history) == history
end

-- For the accounts of runs. What went well at once is not written down.
local counts = call('EXISTS', base .. 'runs') == 1
local function note(id, attempt, came, again, is_end)
  local before = call('HGET', g.outcomes, id)
  local was, had = string.match(before or '0 0', '^(%d) (%d)$')
  if was > came then came = was end
  if had == '1' or attempt > 1 then again = '1' end
  if is_end and came == '0' then came = '2' end
  if is_end and came == '2' and again == '0' then
    if before then call('HDEL', g.outcomes, id) end
  elseif came ~= '0' or again == '1' then
    call('HSET', g.outcomes, id, came .. ' ' .. again)
  end
end

while ARGV[at] do
  local id, fence, fresh, verb, number = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local came, again = string.match(ARGV[at + 5], '^(%d)(%d)$')
  local through, history, dead = ARGV[at + 6], ARGV[at + 7], tonumber(ARGV[at + 8])
  local letters = at + 9
  at = letters + 2 * dead
  local attempt, is_fresh, is_done, reader, is_unread
  local state = call('HGET', g.kept, id)
  if state then
    local tried, last, leased = string.match(state, '^(%d+) (%d+) (%d)')
    if last == fence or last == fresh then
      local noted = is_noted(id, history)
      if leased == '1' then
        attempt = tonumber(tried)
        if noted then history = '' end
        if noted and verb == 'x' then number = 0 end
      else
        is_done = noted and verb == 'n'
      end
    end
  elseif fresh == g.fresh then
    reader, is_unread = reader_of(id)
    if reader ~= me then
      -- It is not this member's.
    elseif verb == 'x' and number == 0 and through == '' and history == '' then
      local claimed = redis.pcall('XCLAIM', stream, g.native, me, 0, id, 'IDLE', 0, 'JUSTID')
      is_done = not claimed.err and #claimed == 1
    else
      attempt, is_fresh = 1, true
    end
  end
  if not attempt and not is_done and verb == 'a' and dead > 0 then
    is_done = call('HGET', g.letters, id .. ':c') == fence
  end
  if attempt then
    lengthen(g, id, history)
    if through ~= '' then
      call('HSET', g.kept, id .. ':f', (call('HGET', g.kept, id .. ':f') or '') .. through)
    end
    if counts then note(id, attempt, came, again, verb == 'a') end
    for i = letters, at - 1, 2 do bury(id, attempt, fence, ARGV[i], ARGV[i + 1]) end
    if verb == 'a' then
      if call('HEXISTS', g.letters, id .. ':n') == 1 then
        call('HSET', g.letters, id, call('HGET', g.kept, id .. ':f') or '', id .. ':c', fence)
      end
      wakes = drop(g, id) or wakes
    elseif verb == 'x' then
      park(g, id, attempt + number, fence, 1, 0, t + lease)
    elseif verb == 'n' then
      park(g, id, attempt, fence, 0, 0, t + number)
    else
      -- Given back; at once means before all that was never fetched.
      local due = number == 0 and 0 or t + number
      if verb == 'p' then due = tonumber(string.match(id, '^%d+')) + number end
      park(g, id, math.max(attempt - 1, 0), fence, 0, 0, due)
      if verb == 's' then
        local others = ' '
        for name in string.gmatch(call('HGET', g.kept, id .. ':x') or '', '%S+') do
          if call('HEXISTS', g.members, name) == 1 then others = others .. name .. ' ' end
        end
        call('HSET', g.kept, id .. ':x', others .. me .. ' ')
        leave(g, pad(id))
      end
    end
    -- At last: what fails before it leaves the event where it is.
    if is_fresh then call('XACK', stream, g.native, id) end
    wakes = wakes or verb == 'n' or verb == 'r' or verb == 's' or verb == 'p'
  end
  local lost = is_unread and 3 or (state or reader) and 2 or 0
  results[#results + 1] = (attempt or is_done) and 1 or lost
end
if wakes then redis.pcall('PUBLISH', base .. 'wake', g.name) end
return { 'ok', results }
