-- KEYS: index, when slots were swept, then hashes of values that begin with when they are over. ARGV: now (epoch seconds),
-- what stands before a counter in its key, how often to sweep (seconds). Returns JSON, one string being read faster than
-- thousands: the server's time (seconds, microseconds), [counter, [slot, "used counts_until", ...], ...], and
-- [name, value, ...] of each hash, without what is over. Slots that are over go with the next sweep: it looks at each.
local now = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local sweeps = math.abs(now - tonumber(redis.call('GET', KEYS[2]) or '0')) >= tonumber(ARGV[3])
if sweeps then redis.call('SET', KEYS[2], ARGV[1], 'EX', 3600) end
local counts = {}
for _, counter in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if sweeps then living(ARGV[2] .. counter, now) end
  counts[#counts + 1] = counter
  counts[#counts + 1] = redis.call('HGETALL', ARGV[2] .. counter)
end
local answer = {redis.call('TIME'), counts}
for i = 3, #KEYS do
  local all, kept = redis.call('HGETALL', KEYS[i]), {}
  for j = 1, #all, 2 do
    if tonumber(all[j + 1]:match('^%S+')) < now then
      redis.call('HDEL', KEYS[i], all[j])
    else
      kept[#kept + 1] = all[j]
      kept[#kept + 1] = all[j + 1]
    end
  end
  answer[#answer + 1] = kept
end
return cjson.encode(answer)
