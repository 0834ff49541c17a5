-- KEYS: rests. ARGV: now, scope, began_at, reason, seconds to remember, then how many seconds to rest at each failure
-- in a row. Moments are epoch seconds. Keeps and returns "forgotten_at until since failures failed_at reason".
local now = tonumber(ARGV[1])
local known = redis.call('HGET', KEYS[1], ARGV[2])
local ends, since, failures = '0', '0', 0
if known then
  local forgotten_at, known_ends, known_since, count = known:match('^(%S+) (%S+) (%S+) (%S+) ')
  if tonumber(forgotten_at) >= now then
    if tonumber(known_ends) > 0 and tonumber(known_since) > tonumber(ARGV[3]) then return known end
    ends, since, failures = known_ends, known_since, tonumber(count)
  end
end
failures = failures + 1
local seconds = tonumber(ARGV[math.min(5 + failures, #ARGV)])
if seconds > 0 then
  if now + seconds > tonumber(ends) then ends = string.format('%.17g', now + seconds) end
  since = ARGV[1]
end
local forgotten_at = string.format('%.17g', math.max(tonumber(ends), now) + tonumber(ARGV[5]))
local rest = table.concat({forgotten_at, ends, since, string.format('%d', failures), ARGV[1], ARGV[4]}, ' ')
redis.call('HSET', KEYS[1], ARGV[2], rest)
return rest
