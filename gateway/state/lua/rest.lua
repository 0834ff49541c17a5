-- KEYS: one rest. ARGV: until (epoch seconds), failures, reason, seconds to keep it after its end. A later end stays.
local known = tonumber(redis.call('HGET', KEYS[1], 'until') or '0')
local ends = ARGV[1]
if known > tonumber(ends) then ends = redis.call('HGET', KEYS[1], 'until') end
redis.call('HSET', KEYS[1], 'until', ends, 'failures', ARGV[2], 'reason', ARGV[3])
local now = tonumber(redis.call('TIME')[1])
redis.call('EXPIREAT', KEYS[1], math.ceil(math.max(now, tonumber(ends)) + tonumber(ARGV[4])))
return 0
