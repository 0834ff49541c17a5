-- KEYS: rests. ARGV: scope, began_at (epoch seconds).
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and tonumber(known:match('^%S+ %S+ (%S+)')) <= tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], ARGV[1]) end
