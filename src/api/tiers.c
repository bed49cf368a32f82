/* Tiers: what accounts may use. */
#include "api/call.h"
#include "base/log.h"
#include "limit/limit.h"

static void put_tier(struct buf *out, const struct store_tier *tier)
{
    buf_putc(out, '{');
    api_put_text(out, "name", tier->name);
    api_put_number(out, "per_minute", tier->per_minute);
    api_put_number(out, "per_day", tier->per_day);
    api_put_number(out, "concurrency", tier->concurrency);
    buf_putc(out, '}');
}

static bool list_tier(void *ctx, const struct store_tier *tier)
{
    struct buf *out = ctx;
    if (out->p[out->len - 1] != '[')
        buf_putc(out, ',');
    put_tier(out, tier);
    return !out->overflow;
}

enum err api_tiers(struct api_call *call, struct err_info *reterr)
{
    buf_puts(&call->out, "{\"tiers\":[");
    enum err e = store_tier_each(call->program->store, list_tier, &call->out, reterr);
    buf_puts(&call->out, "]}\n");
    return e;
}

/* The name in the address: 1 to 16 characters of a-z 0-9 _ -, so that nothing in it ever needs escaping. */
static enum err take_name(const struct api_call *call, char name[static STORE_TIER_BYTES],
                          struct err_info *reterr)
{
    bool fits = call->rest.len < STORE_TIER_BYTES;
    for (size_t i = 0; fits && i < call->rest.len; i++) {
        char c = call->rest.p[i];
        fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    }
    if (!fits)
        return err_set(reterr, ERR_NOT_FOUND, "a tier's name has 1 to %d characters out of a-z 0-9 _ -",
                       STORE_TIER_BYTES - 1);
    snprintf(name, STORE_TIER_BYTES, "%.*s", STR_FMT(call->rest));
    return OK;
}

enum err api_tier_put(struct api_call *call, struct err_info *reterr)
{
    struct store_tier tier;
    char detail[96];
    enum err e = take_name(call, tier.name, reterr);
    if (!e)
        e = api_call_number(call, "per_minute", true, 1, KV_PER_MINUTE_MAX, &tier.per_minute, reterr);
    if (!e)
        e = api_call_number(call, "per_day", true, 1, UINT32_MAX, &tier.per_day, reterr);
    if (!e)
        e = api_call_number(call, "concurrency", true, 1, UINT32_MAX, &tier.concurrency, reterr);
    if (!e)
        e = store_tier_put(call->program->store, &tier, reterr);
    if (e)
        return e;
    auth_changed(call->program->auth);
    snprintf(detail, sizeof detail, "%llu a minute, %llu a day, %llu at once",
             (unsigned long long)tier.per_minute, (unsigned long long)tier.per_day,
             (unsigned long long)tier.concurrency);
    api_call_event(call, LOG_LEVEL_INFO, "tier.change", tier.name, detail);
    put_tier(&call->out, &tier);
    buf_putc(&call->out, '\n');
    return OK;
}

enum err api_tier_delete(struct api_call *call, struct err_info *reterr)
{
    char name[STORE_TIER_BYTES];
    enum err e = take_name(call, name, reterr);
    if (!e)
        e = store_tier_delete(call->program->store, name, reterr);
    if (e)
        return e;
    auth_changed(call->program->auth);
    api_call_event(call, LOG_LEVEL_INFO, "tier.delete", name, "");
    call->status = 204;
    return OK;
}
