-- Acknowledges events that were read and not touched since. ARGV: group, generation, ids.
-- Returns how many were acknowledged, or -1 if the generation is another.
local g = group(ARGV[1])
if not g or g.gen ~= ARGV[2] then return -1 end
return call('XACK', stream, g.native, unpack(ARGV, 3))
