-- Tells how many of these events are gone, up to the first that is there. ARGV: their ids.
for i, id in ipairs(ARGV) do
  if call('XRANGE', stream, id, id)[1] then return i - 1 end
end
return #ARGV
