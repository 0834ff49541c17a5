-- KEYS: index, counter, limits. ARGV: now (epoch seconds), counter, the slot of corrections, limit, limit_until (epoch
-- seconds), used, until (epoch seconds). An empty limit or used was not said.
local now = tonumber(ARGV[1])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], ARGV[2], ARGV[5] .. ' ' .. ARGV[4]) end
if ARGV[6] ~= '' then
  local missing = tonumber(ARGV[6])
  for _, slot in ipairs(living(KEYS[2], now)) do
    if slot.number ~= ARGV[3] then missing = missing - slot.used end
  end
  put(KEYS[2], KEYS[1], ARGV[2], ARGV[3], missing, ARGV[7], now)
end
