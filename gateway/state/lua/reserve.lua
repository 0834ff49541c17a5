-- KEYS: index, the counter of each charge. ARGV: now (epoch seconds), then of each charge: counter, slot, amount, limit,
-- counts_until (epoch seconds). Adds all or none: returns nothing, or the number (from 1) of the first charge that does not
-- fit and what counts of its counter: slot, "used counts_until", and so on.
local now = tonumber(ARGV[1])
for i = 2, #KEYS do
  local at = 5 * i - 8
  local sum, refusal = tonumber(ARGV[at + 2]), {i - 1}
  for _, slot in ipairs(living(KEYS[i], now)) do
    sum = sum + slot.used
    refusal[#refusal + 1] = slot.number
    refusal[#refusal + 1] = slot.packed
  end
  if sum > tonumber(ARGV[at + 3]) then return refusal end
end
for i = 2, #KEYS do
  local at = 5 * i - 8
  add(KEYS[i], KEYS[1], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 4], now)
end
return {}
