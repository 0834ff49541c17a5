-- KEYS: the series' slots. ARGV: what stands before a slot in the key of its figures, first slot, last slot.
-- Returns JSON: slot, [field, amount, ...], and so on.
local found = {}
for _, slot in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if tonumber(slot) >= tonumber(ARGV[2]) and tonumber(slot) <= tonumber(ARGV[3]) then
    found[#found + 1] = slot
    found[#found + 1] = redis.call('HGETALL', ARGV[1] .. slot)
  end
end
return cjson.encode(found)
