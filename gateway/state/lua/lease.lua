-- KEYS: leases. ARGV: now, until (epoch seconds), token, names. Takes all of them or none: returns 1 or 0. Keeps "until token".
for i = 4, #ARGV do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if known and tonumber(known:match('^%S+')) > tonumber(ARGV[1]) then return 0 end
end
for i = 4, #ARGV do redis.call('HSET', KEYS[1], ARGV[i], ARGV[2] .. ' ' .. ARGV[3]) end
return 1
