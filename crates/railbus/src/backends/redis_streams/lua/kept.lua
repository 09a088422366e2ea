-- Returns the fields of events that were tried, held back or left. ARGV: group, ids.
local g = group(ARGV[1])
local all = {}
for i = 2, #ARGV do all[#all + 1] = g and fields_of(g, ARGV[i]) or 0 end
return all
