-- KEYS: the series' slots. ARGV: what stands before a slot in the key of its figures, first slot, last slot, what the rows
-- begin with. Returns JSON: slot, [row, amounts, ...], and so on.
local found, begins = {}, ARGV[4]
for _, slot in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if tonumber(slot) >= tonumber(ARGV[2]) and tonumber(slot) <= tonumber(ARGV[3]) then
    local figures, rows = redis.call('HGETALL', ARGV[1] .. slot), {}
    for i = 1, #figures, 2 do
      if string.sub(figures[i], 1, #begins) == begins then
        rows[#rows + 1] = figures[i]
        rows[#rows + 1] = figures[i + 1]
      end
    end
    found[#found + 1] = slot
    found[#found + 1] = rows
  end
end
return cjson.encode(found)
