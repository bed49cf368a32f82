/* POST /execute/stream: the same form as /execute, but input goes to the guest as it arrives, and what the guest
 * writes goes out as it is written, raw or as server-sent events. Nothing of either is held but the windows between
 * the parties: who does not take stops who gives. */
#include "api/execute.h"
#include "base/json.h"
#include "http/event.h"

enum {
    ROOM_LEAST_BYTES =
        STDIN_WINDOW_BYTES / 2, /* of stdin: with less the body waits; the guest tells of so much */
    EARLY_MAX_BYTES = 2 * STDIN_WINDOW_BYTES, /* what may come before the run has started */
    PENDING_MAX_BYTES =
        OUTPUT_WINDOW_BYTES + 2 * MESSAGE_DATA_MAX, /* the end brings output beyond the window */
    EVENTS_MAX_BYTES = 2 * 8 * PENDING_MAX_BYTES,
};

void execution_stream_prepare(struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    struct str accept = http_field(ex->x, "accept");
    ex->stream.wanted = true;
    ex->stream.events = str_ieq(accept, STR_LIT("text/event-stream"));
    ex->stream.pending[0] = ex->stream.pending[1] = buf_make(PENDING_MAX_BYTES);
    inv->input = buf_make(EARLY_MAX_BYTES);
    inv->holds_output = true;
    inv->spec.limits.stdout_bytes = ex->api->program->stream_bytes_max;
}

/* --- input -------------------------------------------------------------------------------------- */
enum err execution_stream_input(struct invocation *inv, struct str bytes, struct err_info *reterr)
{
    struct execution *ex = inv->origin_data;
    struct execution_stream *s = &ex->stream;
    uint64_t most = ex->api->program->stream_bytes_max;
    if (bytes.len > most - s->input_bytes)
        return err_set(reterr, ERR_INPUT_TOO_LARGE, "input: it has more than %llu bytes (MAX_STREAM)",
                       (unsigned long long)most);
    s->input_bytes += bytes.len;
    if (inv->exec) {
        exec_run_stdin(inv->exec, bytes, false);
        s->room -= MIN(s->room, bytes.len);
    } else if (!inv->ran) {
        bool fits = buf_put_str(&inv->input, bytes);
        WW_ASSERT(fits); /* the body was paused after the first piece */
    }
    return OK;
}

/* Only now: a guest that reads to the end shall not have its reply begun by a form that turns out to be bad. */
void execution_stream_end(struct invocation *inv)
{
    if (inv->exec)
        exec_run_stdin(inv->exec, STR_LIT(""), true);
}

void execution_stream_pace(struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    if (!(ex->seen & 1U << PART_INPUT))
        return;
    if (inv->step == INVOKE_STEP_receive) {
        http_body_pause(ex->x); /* until the run has started */
        invocation_resume(inv);
    } else if (inv->exec && ex->stream.room < ROOM_LEAST_BYTES) {
        http_body_pause(ex->x);
    }
}

static void stdin_room(struct invocation *inv, size_t bytes)
{
    struct execution *ex = inv->origin_data;
    ex->stream.room = bytes;
    if (ex->x && bytes >= ROOM_LEAST_BYTES)
        http_body_resume(ex->x);
}

static void started(struct invocation *inv)
{
    stdin_room(inv, STDIN_WINDOW_BYTES - MIN(inv->input.len, (size_t)STDIN_WINDOW_BYTES));
}

/* --- output ------------------------------------------------------------------------------------- */
static void begin(struct http_exchange *x, struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    struct execution_fields f = {0};
    if (ex->stream.begun)
        return;
    ex->stream.begun = true;
    if (ex->stream.events) {
        execution_add_field(&f, STR_LIT("Content-Type"), STR_LIT("text/event-stream"));
    } else {
        execution_add_field(&f, STR_LIT("Content-Type"), STR_LIT("application/octet-stream"));
        execution_add_field(&f, STR_LIT("Trailer"), STR_LIT("WasmWiz-Receipt"));
    }
    execution_add_field(&f, STR_LIT("Cache-Control"), STR_LIT("no-store"));
    execution_add_field(&f, STR_LIT("X-Accel-Buffering"), STR_LIT("no")); /* proxies would wait for more */
    execution_add_limits(&f, inv);
    http_reply_begin(x, 200, f.all, f.count);
}

/* The client has taken all but what waits. */
static void credit(struct invocation *inv)
{
    struct execution_stream *s = &((struct execution *)inv->origin_data)->stream;
    uint64_t waits = s->pending[0].len + s->pending[1].len;
    if (inv->exec && s->untaken > waits)
        exec_run_credit_output(inv->exec, s->untaken - waits);
    s->untaken = MIN(s->untaken, waits);
}

static void put_output_event(struct buf *out, const char *name, struct str text)
{
    struct buf json = buf_make(8 * text.len + 16);
    json_put_string(&json, text);
    http_event_put(out, name, buf_str(&json));
    buf_done(&json);
}

/* How many bytes at the end of `s` are the beginning of a character that is not complete. */
static size_t cut_character(struct str s)
{
    size_t most = MIN(s.len, (size_t)3);
    for (size_t len = 1; len <= most; len++) {
        unsigned char c = (unsigned char)s.p[s.len - len];
        size_t whole = c > 0xf4 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
        if (c < 0x80 || whole > 1)
            return whole > len ? len : 0;
    }
    return 0;
}

/* A character may be cut in two by the end of a write: its first half waits for the rest, unless this is the `last`. */
static void put_pending(struct buf *pending, struct buf *out, const char *name, bool last)
{
    size_t cut = last ? 0 : cut_character(buf_str(pending));
    struct str text = str_make(pending->p, pending->len - cut);
    if (text.len)
        put_output_event(out, name, text);
    buf_consume(pending, text.len);
}

/* In text a byte becomes six, and an event has words of its own. So while the client is busy bytes wait as they are, and
 * go out as one event of each stream: what is held stays within a few times the guest's window, however it writes. */
static void put_events(struct execution_stream *s, struct buf *out, bool last)
{
    put_pending(&s->pending[0], out, "stdout", last);
    put_pending(&s->pending[1], out, "stderr", last);
}

static void send_events(struct execution *ex)
{
    struct buf out = buf_make(EVENTS_MAX_BYTES);
    put_events(&ex->stream, &out, false);
    ex->stream.busy = !http_reply_data(ex->x, buf_str(&out));
    buf_done(&out);
}

static void output_event(struct invocation *inv, struct execution *ex, int fd, struct str bytes)
{
    static const struct err_info too_much = {ERR_INTERNAL,
                                             "the sandbox gave more output than was taken from it"};
    if (!buf_put_str(&ex->stream.pending[fd == 2], bytes)) {
        invocation_fail(inv, &too_much);
        return;
    }
    if (ex->stream.busy)
        return;
    send_events(ex);
    if (!ex->stream.busy)
        credit(inv);
}

static void output(struct invocation *inv, int fd, struct str bytes)
{
    struct execution *ex = inv->origin_data;
    bool is_there = ex->x && !inv->failure.code;
    if (is_there && !ex->stream.events && fd == 2) {
        /* Not for the client, so it says nothing of what the client has still to take. */
        if (inv->exec)
            exec_run_credit_output(inv->exec, bytes.len);
        return;
    }
    ex->stream.untaken += bytes.len;
    if (is_there)
        begin(ex->x, inv);
    if (is_there && ex->stream.events)
        output_event(inv, ex, fd, bytes);
    else if (!is_there || http_reply_data(ex->x, bytes))
        credit(inv);
}

static void on_writable(struct http_exchange *x)
{
    struct invocation *inv = http_exchange_data(x);
    struct execution *ex = inv->origin_data;
    credit(inv);
    if (ex->stream.events)
        send_events(ex);
}

/* --- the end ------------------------------------------------------------------------------------ */
static void end_events(struct http_exchange *x, struct invocation *inv, struct execution *ex)
{
    struct buf out = buf_make(EVENTS_MAX_BYTES), receipt = buf_make(32 * 1024);
    begin(x, inv);
    put_events(&ex->stream, &out, true);
    receipt_put_json(&receipt, &inv->receipt);
    http_event_put(&out, "receipt", buf_str(&receipt));
    http_reply_data(x, buf_str(&out));
    http_reply_end(x, NULL, 0);
    buf_done(&receipt);
    buf_done(&out);
}

static void end_raw(struct http_exchange *x, struct invocation *inv)
{
    struct buf receipt = buf_make(RECEIPT_FIELD_MAX_BYTES);
    execution_put_receipt_field(&receipt, &inv->receipt);
    const struct http_field trailer = {STR_LIT("WasmWiz-Receipt"), buf_str(&receipt)};
    http_reply_end(x, &trailer, 1);
    buf_done(&receipt);
}

static void reply(struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    struct http_exchange *x = TAKE(ex->x);
    bool failed = inv->failure.code != OK;
    execution_log_failure(inv);
    if (ex->stream.events && !failed)
        end_events(x, inv, ex);
    else if (ex->stream.begun && failed)
        http_reply_abort(x);
    else if (ex->stream.begun)
        end_raw(x, inv);
    else if (failed)
        execution_reply_failure(x, inv);
    else
        execution_reply_raw(x, inv);
}

static const struct invoke_origin origin = {.receive = execution_receive,
                                            .started = started,
                                            .output = output,
                                            .stdin_room = stdin_room,
                                            .reply = reply,
                                            .released = execution_released};

static void on_head(struct http_exchange *x)
{
    execution_begin(x, &origin, true);
}

const struct http_handler api_execute_stream_handler = {.head = on_head,
                                                        .body = execution_on_body,
                                                        .end = execution_on_end,
                                                        .gone = execution_on_gone,
                                                        .writable = on_writable};
