/* What runs inside Redis: one take, and one refund, each atomic. The arithmetic is that of bucket.c; in Lua numbers
 * are doubles, which are exact for microseconds since 1970 until the year 2255.
 *
 * KEYS  the record: "FULL_AT DAY COUNT COUNT_BEFORE", and the leases: a hash of holders, "COUNT END" each
 * TAKE  interval capacity per_day concurrency wanted holder held lease_us running
 *       [full_in day count count_before untold_us untold]
 *       takes as many of `wanted` (0: only looks) as the limits allow; the holder has `held` leases before that, and its
 *       process `running`; the bracketed six are what the process knows, see struct memory_hint
 *       -> granted now, and before these were taken: full_at day count count_before running
 * HOLD  holder held lease_us: the holder has so many leases -> 1
 * REFUND  interval taken_at day -> 1 */
#ifndef WW_KV_REDIS_SCRIPT_H
#define WW_KV_REDIS_SCRIPT_H

enum { SCRIPT_TAKE_ARGS = 9, SCRIPT_HINT_ARGS = 6, SCRIPT_REPLY_FIELDS = 7, SCRIPT_REFUND_ARGS = 3 };

/* The longest lease. */
#define HOUR_MS "3600000"
#define HOUR_US HOUR_MS "000"

#define SCRIPT_LOAD                                                                        \
    "local DAY = 86400000000\n"                                                            \
    "local time = redis.call('TIME')\n"                                                    \
    "local now = time[1] * 1000000 + time[2]\n"                                            \
    "local today = math.floor(now / DAY)\n"                                                \
    "local arg = {}\n"                                                                     \
    "for i = 1, #ARGV do arg[i] = tonumber(ARGV[i]) end\n"                                 \
    "local full_at, day, count, before = 0, 0, 0, 0\n"                                     \
    "local kept = redis.call('GET', KEYS[1])\n"                                            \
    "if kept then\n"                                                                       \
    "  local a, b, c, d = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')\n"               \
    "  full_at, day, count, before = tonumber(a), tonumber(b), tonumber(c), tonumber(d)\n" \
    "end\n"

static const char script_take[] = SCRIPT_LOAD
    "local interval, capacity, per_day, concurrency = arg[1], arg[2], arg[3], arg[4]\n"
    "local wanted, holder, held, lease_us = arg[5], ARGV[6], arg[7], arg[8]\n"
    "if arg[10] then\n"
    "  full_at = math.max(full_at, now + arg[10])\n"
    "  if not kept then\n"
    "    day, count, before = arg[11], arg[12], arg[13]\n"
    "  elseif arg[11] == day then\n"
    "    count, before = math.max(count, arg[12]), math.max(before, arg[13])\n"
    "  end\n"
    "  full_at = full_at + arg[14]\n"
    "  if arg[11] == day then count = count + arg[15] end\n"
    "end\n"
    /* What a clock that was set back changes is kept, whatever comes of the take: the wait begins only once. */
    "local mended = capacity > 0 and full_at > now + capacity or day > today + 1\n"
    "if capacity > 0 then full_at = math.min(full_at, now + capacity) end\n"
    "if day < today then\n"
    "  before = day + 1 == today and count or 0\n"
    "  day, count = today, 0\n"
    "elseif day > today + 1 then\n"
    "  day, count, before = today, math.max(count, before), 0\n"
    "end\n"
    "local taken = day == today and count or before\n"
    "local running, mine, granted = 0, 0, wanted\n"
    "if concurrency > 0 then\n"
    "  local leases, last = redis.call('HGETALL', KEYS[2]), now + " HOUR_US "\n"
    "  for i = 1, #leases, 2 do\n"
    "    local held_there, lease_end = string.match(leases[i + 1], '^(%d+) (%d+)$')\n"
    "    held_there, lease_end = tonumber(held_there), tonumber(lease_end)\n"
    "    if lease_end <= now then\n"
    "      redis.call('HDEL', KEYS[2], leases[i])\n"
    "    else\n"
    /* After the clock was set back, no end is further away than the longest lease. */
    "      if lease_end > last then\n"
    "        redis.call('HSET', KEYS[2], leases[i], string.format('%d %d', held_there, last))\n"
    "      end\n"
    "      if leases[i] == holder then mine = held_there else running = running + held_there end\n"
    "    end\n"
    "  end\n"
    "  running = math.max(running + held, arg[9])\n"
    "  granted = math.min(granted, concurrency - running)\n"
    "end\n"
    "local full_from = math.max(full_at, now)\n"
    "if capacity > 0 then granted = math.min(granted, math.floor((now + capacity - full_from) / interval)) "
    "end\n"
    "if per_day > 0 then granted = math.min(granted, per_day - taken) end\n"
    "granted = math.max(granted, 0)\n"
    "local answer = {granted, now, full_at, day, count, before, running}\n"
    "if granted > 0 then\n"
    "  if capacity > 0 then full_at = full_from + granted * interval end\n"
    "  if per_day > 0 then\n"
    "    if day == today then count = count + granted else before = before + granted end\n"
    "  end\n"
    "end\n"
    "if concurrency > 0 and (granted > 0 or (wanted > 0 and held ~= mine)) then\n"
    "  if held + granted > 0 then\n"
    "    redis.call('HSET', KEYS[2], holder, string.format('%d %d', held + granted, now + lease_us))\n"
    "    redis.call('PEXPIRE', KEYS[2], " HOUR_MS ")\n"
    "  else\n"
    "    redis.call('HDEL', KEYS[2], holder)\n"
    "  end\n"
    "end\n"
    "if mended or arg[10] or granted > 0 then\n"
    "  local stay = math.max(full_at - now, 0, per_day > 0 and (today + 2) * DAY - now or 0)\n"
    "  redis.call('SET', KEYS[1], string.format('%d %d %d %d', full_at, day, count, before),\n"
    "    'PX', string.format('%d', math.floor(stay / 1000) + 60000))\n"
    "end\n"
    "return answer\n";

static const char script_hold[] =
    "local time = redis.call('TIME')\n"
    "local lease_end = time[1] * 1000000 + time[2] + ARGV[3]\n"
    "redis.call('HSET', KEYS[2], ARGV[1], string.format('%d %d', ARGV[2], lease_end))\n"
    "redis.call('PEXPIRE', KEYS[2], " HOUR_MS ")\n"
    "return 1\n";

static const char script_refund[] =
    SCRIPT_LOAD "if not kept then return 1 end\n"
                "local due = arg[2] + arg[1]\n"
                "if now >= arg[2] and now < due then full_at = math.max(full_at - (due - now), 0) end\n"
                "if arg[3] > 0 and arg[3] == day then count = math.max(count - 1, 0)\n"
                "elseif arg[3] > 0 and arg[3] + 1 == day then before = math.max(before - 1, 0) end\n"
                "redis.call('SET', KEYS[1], string.format('%d %d %d %d', full_at, day, count, "
                "before), 'KEEPTTL')\n"
                "return 1\n";

#endif
