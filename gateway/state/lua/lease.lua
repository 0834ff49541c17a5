-- KEYS: leases. ARGV: now, until (epoch seconds), names. Takes all of them or none: returns 1 or 0.
for i = 3, #ARGV do
  if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') > tonumber(ARGV[1]) then return 0 end
end
for i = 3, #ARGV do redis.call('HSET', KEYS[1], ARGV[i], ARGV[2]) end
return 1
