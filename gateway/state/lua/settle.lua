-- KEYS: counters. ARGV, two a counter: change, expiry (epoch seconds). A counter never falls below zero.
for i, key in ipairs(KEYS) do
  if redis.call('INCRBY', key, ARGV[2 * i - 1]) < 0 then redis.call('SET', key, 0) end
  redis.call('EXPIREAT', key, ARGV[2 * i])
end
return 0
