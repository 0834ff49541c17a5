-- KEYS: the series' slots by when they are over, figures of one slot. ARGV: now, keep_until (epoch seconds), slot, then of
-- each figure: field, amount.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[2], ARGV[i], ARGV[i + 1]) end
local ends = math.max(tonumber(redis.call('ZSCORE', KEYS[1], ARGV[3]) or '0'), tonumber(ARGV[2]))
redis.call('ZADD', KEYS[1], string.format('%.17g', ends), ARGV[3])
local seconds = math.max(1, math.ceil(ends - tonumber(ARGV[1])))
for _, key in ipairs(KEYS) do
  if redis.call('TTL', key) < seconds then redis.call('EXPIRE', key, seconds) end
end
