#include "base/clock.h"

#include <time.h>

static uint64_t now(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return now(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
    return now(CLOCK_REALTIME);
}

void clock_format(uint64_t wall_ns, char out[static 32])
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t at = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + at, 32 - at, ".%03uZ", (unsigned)(wall_ns % NS_PER_S / NS_PER_MS));
}

/* Takes `digits` digits off the front. */
static bool take_digits(struct str *rest, size_t digits, int *ret)
{
    uint64_t n;
    if (rest->len < digits || !str_to_u64(str_make(rest->p, digits), 9999, &n))
        return false;
    *ret = (int)n;
    *rest = str_make(rest->p + digits, rest->len - digits);
    return true;
}

static bool take_char(struct str *rest, const char *any_of, char *ret)
{
    if (!rest->len || !rest->p[0] || !strchr(any_of, rest->p[0]))
        return false;
    *ret = rest->p[0];
    *rest = str_make(rest->p + 1, rest->len - 1);
    return true;
}

/* Any number of digits; what is below a nanosecond is dropped. */
static bool take_fraction(struct str *rest, uint64_t *ret_ns)
{
    char digit;
    uint64_t unit = NS_PER_S / 10;
    if (!take_char(rest, "0123456789", &digit))
        return false;
    do {
        *ret_ns += (uint64_t)(digit - '0') * unit;
        unit /= 10;
    } while (take_char(rest, "0123456789", &digit));
    return true;
}

/* "HH:MM:SS.F" and the zone. */
static bool take_time(struct str *rest, struct tm *tm, uint64_t *ns, int *offset_s)
{
    char c;
    int hours, minutes;
    if (!take_digits(rest, 2, &tm->tm_hour) || !take_char(rest, ":", &c) ||
        !take_digits(rest, 2, &tm->tm_min) || !take_char(rest, ":", &c) || !take_digits(rest, 2, &tm->tm_sec))
        return false;
    if (take_char(rest, ".", &c) && !take_fraction(rest, ns))
        return false;
    if (tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60 || !take_char(rest, "Zz+-", &c))
        return false;
    if (c == 'Z' || c == 'z')
        return true;
    char sign = c;
    if (!take_digits(rest, 2, &hours) || !take_char(rest, ":", &c) || !take_digits(rest, 2, &minutes) ||
        hours > 23 || minutes > 59)
        return false;
    *offset_s = (hours * 60 + minutes) * (sign == '-' ? -60 : 60);
    return true;
}

bool clock_parse(struct str text, uint64_t *ret_wall_ns)
{
    struct tm tm = {0};
    struct str rest = text;
    uint64_t ns = 0;
    int offset_s = 0;
    char c;
    if (!take_digits(&rest, 4, &tm.tm_year) || !take_char(&rest, "-", &c) ||
        !take_digits(&rest, 2, &tm.tm_mon) || !take_char(&rest, "-", &c) ||
        !take_digits(&rest, 2, &tm.tm_mday))
        return false;
    if (rest.len && (!take_char(&rest, "Tt ", &c) || !take_time(&rest, &tm, &ns, &offset_s) || rest.len))
        return false;
    if (tm.tm_year < 1970 || tm.tm_year > 2261 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1)
        return false;
    int day = tm.tm_mday;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    struct tm date = {.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = day};
    timegm(&date);
    if (date.tm_mday != day) /* it was moved into the next month */
        return false;
    time_t seconds = timegm(&tm) - offset_s;
    if (seconds < 0)
        return false;
    *ret_wall_ns = (uint64_t)seconds * NS_PER_S + ns;
    return true;
}
