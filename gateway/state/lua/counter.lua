-- Stands before the scripts about counters: a hash each, slot -> "used counts_until" (epoch seconds).
-- `index` is a sorted set of counters by when the last of their slots is over.

-- Returns the slots that still count, and drops the others.
local function living(key, now)
  local slots = {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local used, ends = all[i + 1]:match('^(%S+) (%S+)$')
    if tonumber(ends) > now then
      slots[#slots + 1] = {number = all[i], used = tonumber(used), ends = ends, packed = all[i + 1]}
    else
      redis.call('HDEL', key, all[i])
    end
  end
  return slots
end

local function put(key, index, counter, slot, used, ends, now)
  redis.call('HSET', key, slot, string.format('%.0f ', math.max(0, used)) .. ends)
  local latest = math.max(tonumber(redis.call('ZSCORE', index, counter) or '0'), tonumber(ends))
  redis.call('ZADD', index, string.format('%.17g', latest), counter)
  redis.call('EXPIRE', key, math.max(1, math.ceil(latest - now)) + 3600)
end

local function add(key, index, counter, slot, amount, ends, now)
  local known = redis.call('HGET', key, slot)
  if known then
    local used, until_then = known:match('^(%S+) (%S+)$')
    if tonumber(until_then) > tonumber(ends) or tonumber(amount) <= 0 then ends = until_then end
    amount = tonumber(amount) + tonumber(used)
  end
  put(key, index, counter, slot, tonumber(amount), ends, now)
end
