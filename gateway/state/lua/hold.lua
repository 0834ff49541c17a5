-- KEYS: leases. ARGV: now, name, token, until (epoch seconds). Lets a lease that the token holds end then; empty: at once.
local known = redis.call('HGET', KEYS[1], ARGV[2])
if not known then return end
local ends, holder = known:match('^(%S+) (%S+)$')
if holder ~= ARGV[3] or tonumber(ends) <= tonumber(ARGV[1]) then return end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[2])
else
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[4] .. ' ' .. ARGV[3])
end
