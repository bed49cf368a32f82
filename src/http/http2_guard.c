/* What a client may do that costs it next to nothing: a budget each, refilled with time, after which the
 * connection ends with ENHANCE_YOUR_CALM (RFC 9113 section 10.5). */
#include "http/http2.h"

enum {
    /* Streams reset by the client (CVE-2023-44487), or by us because of what it sent (CVE-2025-8671). */
    RESETS = 100,
    RESETS_A_SECOND = 10,
    /* PING and SETTINGS want an answer each; an empty DATA frame says nothing. */
    CONTROLS = 100,
    CONTROLS_A_SECOND = 10,
    /* PRIORITY, WINDOW_UPDATE and frames that are not known are only read. */
    CHEAP = 2000,
    CHEAP_A_SECOND = 200,
    CREDIT_A_FRAME = 2, /* WINDOW_UPDATE for the stream and for the connection */
    BLOCK_FRAMES_MAX = 6,
    PER_TOKEN = 1000,
    FRAMING_FREE_BYTES = 64 * 1024, /* frame heads and padding: this much, */
    FRAMING_PER_BYTE = 16,          /* and this much more for each byte of a body */
};

static void budget_init(struct http2_budget *b, uint64_t now_ns, uint64_t burst)
{
    *b = (struct http2_budget){.tokens = burst * PER_TOKEN, .since_ns = now_ns};
}

static bool budget_take(struct http2_budget *b, uint64_t now_ns, uint64_t burst, uint64_t a_second)
{
    uint64_t ms = (now_ns - b->since_ns) / NS_PER_MS;
    if (ms) {
        uint64_t most = MAX(burst * PER_TOKEN, b->tokens);
        b->tokens = MIN(b->tokens + ms * a_second * (PER_TOKEN / 1000), most);
        b->since_ns += ms * NS_PER_MS;
    }
    if (b->tokens < PER_TOKEN)
        return false;
    b->tokens -= PER_TOKEN;
    return true;
}

void http2_guard_init(struct http2 *h)
{
    uint64_t now = http_server_now_ns(h->server);
    budget_init(&h->resets, now, RESETS);
    budget_init(&h->controls, now, CONTROLS);
    budget_init(&h->cheap, now, CHEAP);
}

void http2_guard_reset(struct http2 *h)
{
    if (!budget_take(&h->resets, http_server_now_ns(h->server), RESETS, RESETS_A_SECOND))
        http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "too many streams were reset");
}

void http2_guard_credit(struct http2 *h)
{
    if (h->cheap.tokens < UINT32_MAX)
        h->cheap.tokens += CREDIT_A_FRAME * PER_TOKEN;
}

/* A head and its CONTINUATION frames (CVE-2024-27316): what comes is bounded before HPACK, what it unfolds
 * to in http2_head.c. */
static bool block_fits(struct http2 *h, const nghttp2_frame_hd *hd)
{
    if (hd->type == NGHTTP2_HEADERS)
        h->block_bytes = h->block_frames = 0;
    h->block_frames++;
    h->block_bytes += hd->length;
    h->block_since_ns = h->block_since_ns ? h->block_since_ns : http_server_now_ns(h->server);
    return h->block_frames <= BLOCK_FRAMES_MAX &&
           h->block_bytes <= 2 * (size_t)h->server->config.limits.head_bytes_max;
}

bool http2_guard_frame(struct http2 *h, const nghttp2_frame_hd *hd)
{
    uint64_t now = http_server_now_ns(h->server);
    switch (hd->type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
        /* RFC 9113 section 5.1.1; nghttp2 lets it pass. */
        if (hd->stream_id > h->gap_from && hd->stream_id < h->gap_to)
            http2_doom(h, NGHTTP2_PROTOCOL_ERROR, "a stream that was left out was begun");
        else if (!block_fits(h, hd))
            http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "a head came in too many pieces or bytes");
        break;
    case NGHTTP2_DATA:
        h->data_wire_bytes += HTTP2_FRAME_HEAD_BYTES + hd->length;
        if (h->data_wire_bytes > FRAMING_FREE_BYTES + FRAMING_PER_BYTE * h->data_bytes)
            http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "the DATA frames are nearly all framing");
        if (hd->length > 0 || (hd->flags & NGHTTP2_FLAG_END_STREAM))
            break;
        /* fall through */
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
        if (!budget_take(&h->controls, now, CONTROLS, CONTROLS_A_SECOND))
            http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "too many PING, SETTINGS or empty DATA frames");
        break;
    case NGHTTP2_RST_STREAM: http2_guard_reset(h); break;
    default:
        if (!budget_take(&h->cheap, now, CHEAP, CHEAP_A_SECOND))
            http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "too many frames that say little");
        break;
    }
    return !h->doomed;
}
