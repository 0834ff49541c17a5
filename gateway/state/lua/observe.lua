-- KEYS: one counter. ARGV: what the provider says is used, expiry (epoch seconds). Raises the counter, never lowers it.
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('EXPIREAT', KEYS[1], ARGV[2])
return 0
