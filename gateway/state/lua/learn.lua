-- KEYS: evidence. ARGV: now, keep_until (epoch seconds), model, half-life (seconds), how many values, the values, then the
-- positions (from 1) to set to 0 before. Keeps "keep_until learned_at sum sum ...".
local now, count = tonumber(ARGV[1]), tonumber(ARGV[5])
local known, sums = {}, {}
for word in (redis.call('HGET', KEYS[1], ARGV[3]) or ''):gmatch('%S+') do known[#known + 1] = tonumber(word) end
local keep = 0.5 ^ (math.max(0, now - (known[2] or now)) / tonumber(ARGV[4]))
for i = 1, count do sums[i] = (known[i + 2] or 0) * keep end
for i = 6 + count, #ARGV do
  if tonumber(ARGV[i]) <= count then sums[tonumber(ARGV[i])] = 0 end
end
for i = 1, count do sums[i] = string.format('%.17g', sums[i] + tonumber(ARGV[5 + i])) end
redis.call('HSET', KEYS[1], ARGV[3], table.concat({ARGV[2], ARGV[1], unpack(sums)}, ' '))
