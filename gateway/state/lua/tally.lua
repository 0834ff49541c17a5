-- KEYS: the series' slots by when they are over, figures of one slot, its groups. ARGV: now, keep_until (epoch seconds),
-- slot, most groups (-1: any number), group, row of the group, row of the others, then of each figure: field, amount.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local row, most = ARGV[6], tonumber(ARGV[4])
if most >= 0 and redis.call('SISMEMBER', KEYS[3], ARGV[5]) == 0 then
  if redis.call('SCARD', KEYS[3]) < most then redis.call('SADD', KEYS[3], ARGV[5]) else row = ARGV[7] end
end
local sums = cjson.decode(redis.call('HGET', KEYS[2], row) or '{}')
for i = 8, #ARGV, 2 do sums[ARGV[i]] = (sums[ARGV[i]] or 0) + tonumber(ARGV[i + 1]) end
redis.call('HSET', KEYS[2], row, cjson.encode(sums))
local ends = math.max(tonumber(redis.call('ZSCORE', KEYS[1], ARGV[3]) or '0'), tonumber(ARGV[2]))
redis.call('ZADD', KEYS[1], string.format('%.17g', ends), ARGV[3])
local seconds = math.max(1, math.ceil(ends - tonumber(ARGV[1])))
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) < seconds then redis.call('EXPIRE', key, seconds) end
end
