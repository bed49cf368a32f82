/* Everything that is looked at here was written by a process that may be hostile. */
#include "executor/internal.h"

#include "base/clock.h"
#include "base/log.h"

enum { LOAD_TRIES = 4, MESSAGES_A_DRAIN = 256 };

/* Hands output on; false: more than the run may write, so the sandbox is not what it was. */
static bool take_output(struct exec_run *r, int fd, struct str bytes)
{
    uint64_t cap = fd == 2 ? r->spec.limits.stderr_bytes : r->spec.limits.stdout_bytes;
    uint64_t *total = &r->output_bytes[fd == 2];
    if (bytes.len > cap - *total)
        return false;
    *total += bytes.len;
    if (bytes.len)
        r->ops->output(r->ctx, fd, bytes);
    return true;
}

static bool on_done(struct exec_channel *c, struct exec_run *r, const struct message_done *m, struct str data)
{
    struct trap_frame frames[MESSAGE_FRAMES_MAX];
    struct run_report report = m->report;
    if (!take_output(r, 1, str_make(data.p, m->stdout_bytes)) ||
        !take_output(r, 2, str_make(data.p + m->stdout_bytes, m->stderr_bytes)))
        return false;
    (void)c;
    /* What can be known here is not believed. */
    uint64_t longest_ns = clock_now_ns() - r->sent_ns;
    report.run_ns = MIN(report.run_ns, longest_ns);
    report.cpu_ns = MIN(report.cpu_ns, longest_ns);
    report.stdout_bytes = r->output_bytes[0];
    report.stderr_bytes = r->output_bytes[1];
    memcpy(frames, data.p + m->stdout_bytes + m->stderr_bytes, m->frames_bytes);
    for (uint32_t i = 0; i < report.frame_count; i++)
        if (frames[i].name_bytes > MESSAGE_NAME_MAX)
            return false;
    exec_run_finish(r, &report, frames);
    return true;
}

static bool on_absent(struct exec_channel *c, struct exec_run *r)
{
    /* It never started there, so it may be sent again. */
    exec_channel_forget_loaded(c);
    if (r->cancel_wanted) { /* the word of it went the same way */
        exec_run_finish_without_report(r, CAUSE_CANCELLED, "it was cancelled before it started");
        return true;
    }
    if (r->more_sent || ++r->tries >= LOAD_TRIES) {
        exec_run_finish_without_report(r, CAUSE_SANDBOX_CRASHED,
                                       c->load_text[0] ? c->load_text
                                                       : "the sandbox could not load the compiled module");
        return true;
    }
    exec_run_put_back(r);
    return true;
}

static bool on_message(struct exec_channel *c, const void *payload, size_t len)
{
    union message_any m;
    struct str data;
    if (!message_check_from_sandbox(payload, len, &m, &data))
        return false;
    if (m.head.type == MESSAGE_LOADED) {
        if (!m.loaded.ok) {
            snprintf(c->load_text, sizeof c->load_text, "%.*s", STR_FMT(data));
            LOG_WARN("module not loaded",
                     LOG_CSTR("reason", c->load_text)); /* the ring may change any time */
        }
        return true;
    }
    struct exec_run *r = exec_run_by_id(c, m.head.id);
    if (!r)
        return false;
    switch (m.head.type) {
    case MESSAGE_OUTPUT:
        if (!take_output(r, (int)m.output.fd, data))
            return false;
        if (!r->holds_output) {
            r->output_credit += data.len;
            exec_run_send_soon(r);
        }
        return true;
    case MESSAGE_STDIN_CREDIT:
        if (m.credit.bytes > STDIN_WINDOW_BYTES - r->stdin_window)
            return false;
        r->stdin_window += m.credit.bytes;
        exec_run_send_soon(r);
        if (r->ops->stdin_room && !r->more_eof && r->stdin_window > r->more_input.len)
            r->ops->stdin_room(r->ctx, (size_t)r->stdin_window - r->more_input.len);
        return true;
    case MESSAGE_DONE: return on_done(c, r, &m.done, data);
    case MESSAGE_ABSENT: return on_absent(c, r);
    default: return false;
    }
}

/* False: the sandbox sent nonsense and is being killed. */
bool exec_channel_drain(struct exec_channel *c)
{
    if (c->broken)
        return false;
    for (unsigned n = 0; n < MESSAGES_A_DRAIN; n++) {
        const void *payload;
        size_t len;
        enum ring_state state = ring_peek(&c->from, &payload, &len);
        if (state == RING_EMPTY)
            break;
        if (state == RING_BROKEN || !on_message(c, payload, len)) {
            WW_ASSERT(c->host); /* inline, the bug would be ours */
            c->broken = true;
            supervisor_kill(c->host, "it sent a message that makes no sense");
            return false;
        }
        ring_pop(&c->from);
        exec_count(&c->el->messages_from);
    }
    if (!list_is_empty(&c->pending))
        exec_channel_send_pending(c);
    return true;
}

bool exec_loop_drain(struct exec_loop *el)
{
    bool more = false;
    for (uint32_t i = 0; i < el->channel_count; i++) {
        struct exec_channel *c = &el->channels[i];
        if (c->broken || (c->run_count == 0 && !ring_has_more(&c->from)))
            continue;
        exec_channel_drain(c);
        more |= ring_has_more(&c->from);
    }
    exec_loop_pump(el);
    return more;
}
