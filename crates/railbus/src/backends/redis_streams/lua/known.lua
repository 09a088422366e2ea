-- After a replay: takes out of the pending list what the group has not settled from before, which
-- stays as it is. ARGV: group, ids. Returns 1 for each that was taken out.
local g = group(ARGV[1])
local known = {}
for i = 2, #ARGV do
  local is = g and is_known(g, ARGV[i])
  if is then call('XACK', stream, g.native, ARGV[i]) end
  known[#known + 1] = is and 1 or 0
end
return known
