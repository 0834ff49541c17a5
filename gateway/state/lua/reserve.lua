-- KEYS: counters. ARGV, three a counter: amount, limit, expiry (epoch seconds). Adds all of them or none:
-- returns 0, or the number (from 1) of the first counter that would pass its limit.
for i, key in ipairs(KEYS) do
  local used = tonumber(redis.call('GET', key) or '0')
  if used + tonumber(ARGV[3 * i - 2]) > tonumber(ARGV[3 * i - 1]) then return i end
end
for i, key in ipairs(KEYS) do
  redis.call('INCRBY', key, ARGV[3 * i - 2])
  redis.call('EXPIREAT', key, ARGV[3 * i])
end
return 0
