/* What runs inside Redis: one take, and one refund, each atomic. The arithmetic is that of bucket.c; in Lua numbers
 * are doubles, which are exact for microseconds since 1970 until the year 2255.
 *
 * KEYS  the record: "FULL_AT DAY COUNT COUNT_BEFORE", and the leases: a sorted set of ids by their end
 * TAKE  interval capacity per_day concurrency look lease lease_us local running
 *       [full_in day count count_before untold_us untold]: what the instance knows, see struct memory_hint
 *       -> refusal now full_at day count count_before running
 * REFUND  interval taken_at day lease -> 1 */
#ifndef WW_KV_REDIS_SCRIPT_H
#define WW_KV_REDIS_SCRIPT_H

enum { SCRIPT_TAKE_ARGS = 9, SCRIPT_HINT_ARGS = 6, SCRIPT_REPLY_FIELDS = 7, SCRIPT_REFUND_ARGS = 4 };

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
    "local look, lease, lease_us = arg[5] == 1, ARGV[6], arg[7]\n"
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
    "local running, refusal = 0, 0\n"
    "if concurrency > 0 then\n"
    "  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)\n"
    /* After the clock was set back, no end is further away than the longest lease. */
    "  local last = string.format('%.0f', now + 3600000000)\n"
    "  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. last, '+inf')) do\n"
    "    redis.call('ZADD', KEYS[2], last, id)\n"
    "  end\n"
    "  running = math.max(redis.call('ZCARD', KEYS[2]) + arg[8], arg[9])\n"
    "  if running >= concurrency then refusal = 3 end\n"
    "end\n"
    "local next_at = math.max(full_at, now) + interval\n"
    "if capacity > 0 and next_at > now + capacity then refusal = 1 end\n"
    "if per_day > 0 and taken >= per_day then refusal = 2 end\n"
    "if refusal == 0 and not look then\n"
    "  if capacity > 0 then full_at = next_at end\n"
    "  if per_day > 0 then\n"
    "    if day == today then count = count + 1 else before = before + 1 end\n"
    "  end\n"
    "  if concurrency > 0 then\n"
    "    running = running + 1\n"
    "    redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease_us), lease)\n"
    "    redis.call('PEXPIRE', KEYS[2], 3600000)\n"
    "  end\n"
    "end\n"
    "if mended or arg[10] or (refusal == 0 and not look) then\n"
    "  local stay = math.max(full_at - now, 0, per_day > 0 and (today + 2) * DAY - now or 0)\n"
    "  redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f %.0f', full_at, day, count, before),\n"
    "    'PX', string.format('%.0f', math.floor(stay / 1000) + 60000))\n"
    "end\n"
    "return {refusal, now, full_at, day, count, before, running}\n";

static const char script_refund[] =
    SCRIPT_LOAD "redis.call('ZREM', KEYS[2], ARGV[4])\n"
                "if not kept then return 1 end\n"
                "local due = arg[2] + arg[1]\n"
                "if now >= arg[2] and now < due then full_at = math.max(full_at - (due - now), 0) end\n"
                "if arg[3] > 0 and arg[3] == day then count = math.max(count - 1, 0)\n"
                "elseif arg[3] > 0 and arg[3] + 1 == day then before = math.max(before - 1, 0) end\n"
                "redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f %.0f', full_at, day, count, "
                "before), 'KEEPTTL')\n"
                "return 1\n";

#endif
