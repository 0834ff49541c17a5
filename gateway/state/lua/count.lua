-- KEYS: counter. ARGV: now (epoch seconds), slot, amount, limit, counts_until (epoch seconds). Returns 0, how much is left and
-- when the first of what is taken comes back (epoch seconds); or, where it does not fit, 1 and what counts: slot,
-- "used counts_until", and so on.
local function sooner(a, b) if not a or tonumber(b) < tonumber(a) then return b else return a end end

local now, amount, ends, own, first = tonumber(ARGV[1]), tonumber(ARGV[3]), ARGV[5], 0, nil
local sum, latest, refusal = amount, tonumber(ends), {1}
for _, slot in ipairs(living(KEYS[1], now)) do
  sum = sum + slot.used
  latest = math.max(latest, tonumber(slot.ends))
  if slot.number == ARGV[2] then
    own = slot.used
    if tonumber(slot.ends) > tonumber(ends) then ends = slot.ends end
  else
    first = sooner(first, slot.ends)
  end
  refusal[#refusal + 1] = slot.number
  refusal[#refusal + 1] = slot.packed
end
if sum > tonumber(ARGV[4]) then return refusal end
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f ', own + amount) .. ends)
redis.call('PEXPIRE', KEYS[1], math.max(1, math.ceil((latest - now) * 1000)))
return {0, tonumber(ARGV[4]) - sum, sooner(first, ends)}
