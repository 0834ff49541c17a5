-- KEYS: index, counter. ARGV: now (epoch seconds), counter, slot, change, counts_until (epoch seconds).
add(KEYS[2], KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[1]))
