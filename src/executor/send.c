#include "executor/internal.h"

#include <unistd.h>

#include "sandbox/process.h"

static void wake(struct exec_channel *c)
{
    if (c->host)
        area_ring_doorbell(c->area);
    else
        uv_idle_start(&c->el->no_block, exec_loop_do_nothing);
}

bool exec_channel_is_loaded(struct exec_channel *c, uint64_t id)
{
    uint32_t at = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 51);
    for (; c->loaded[at]; at = (at + 1) % LOADED_SET)
        if (c->loaded[at] == id)
            return true;
    return false;
}

void exec_channel_forget_loaded(struct exec_channel *c)
{
    memset(c->loaded, 0, sizeof c->loaded);
    c->loaded_count = 0;
}

static void remember_loaded(struct exec_channel *c, uint64_t id)
{
    if (c->loaded_count >= LOADED_SET / 2)
        exec_channel_forget_loaded(c); /* loading twice is harmless */
    uint32_t at = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 51);
    while (c->loaded[at])
        at = (at + 1) % LOADED_SET;
    c->loaded[at] = id;
    c->loaded_count++;
}

static bool send_code_fd(struct exec_channel *c, int fd)
{
    struct exec_loop *el = c->el;
    if (c->host)
        return c->host->sockets[el->loop->index] >= 0 &&
               process_send_fds(c->host->sockets[el->loop->index], &fd, 1);
    if (el->inline_fd_count == LENGTH_OF(el->inline_fds))
        return false;
    int copy = dup(fd);
    if (copy < 0)
        return false;
    el->inline_fds[(el->inline_fd_first + el->inline_fd_count++) % LENGTH_OF(el->inline_fds)] = copy;
    return true;
}

/* NULL: the ring is full. */
static void *reserve(struct exec_channel *c, size_t len)
{
    void *message = ring_reserve(&c->to, len);
    if (!message)
        exec_count(&c->el->ring_full);
    return message;
}

static void publish(struct exec_channel *c, size_t len)
{
    ring_publish(&c->to, len);
    exec_count(&c->el->messages_to);
}

static bool send_load(struct exec_channel *c, const struct exec_code *code)
{
    struct message_load *m = reserve(c, sizeof *m);
    if (!m || !send_code_fd(c, code->fd))
        return false;
    *m = (struct message_load){
        .head = {MESSAGE_LOAD, 0, code->id}, .memories = code->memories, .tables = code->tables};
    publish(c, sizeof *m);
    remember_loaded(c, code->id);
    return true;
}

static char *put(char *to, struct str s)
{
    if (s.len)
        memcpy(to, s.p, s.len);
    return to + s.len;
}

/* Sends RUN with as much of the input as fits; false: the ring is full. */
bool exec_channel_send_run(struct exec_channel *c, struct exec_run *r)
{
    const struct exec_spec *s = &r->spec;
    if (!exec_channel_is_loaded(c, s->code.id) && !send_load(c, &s->code))
        return false;
    size_t strings = s->entry.len + s->args.len + s->env.len;
    size_t input = MIN(s->input.len, (size_t)MESSAGE_DATA_MAX - strings);
    bool eof = s->input_complete && input == s->input.len;
    struct message_run *m = reserve(c, sizeof *m + strings + input);
    if (!m)
        return false;
    *m = (struct message_run){
        .head = {MESSAGE_RUN, (uint32_t)(strings + input), r->id},
        .module_id = s->code.id,
        .seed = s->seed,
        .limits = s->limits,
        .entry_bytes = (uint32_t)s->entry.len,
        .args_bytes = (uint32_t)s->args.len,
        .args_count = s->args_count,
        .env_bytes = (uint32_t)s->env.len,
        .env_count = s->env_count,
        .stdin_bytes = (uint32_t)input,
        .stdin_eof = eof,
    };
    put(put(put(put((char *)(m + 1), s->entry), s->args), s->env), str_make(s->input.p, input));
    publish(c, sizeof *m + strings + input);
    r->ring_end = c->to.at;
    r->input_at = input;
    r->eof_sent = eof;
    r->stdin_window = STDIN_WINDOW_BYTES - input;
    return true;
}

static bool send_stdin(struct exec_channel *c, struct exec_run *r)
{
    while (!r->eof_sent) {
        bool from_spec = r->input_at < r->spec.input.len;
        struct str rest = from_spec ? str_make(r->spec.input.p + r->input_at, r->spec.input.len - r->input_at)
                                    : buf_str(&r->more_input);
        size_t len = MIN(MIN(rest.len, (size_t)r->stdin_window), (size_t)MESSAGE_DATA_MAX);
        bool last = len == rest.len && (from_spec ? r->spec.input_complete : r->more_eof);
        if (len == 0 && !last)
            return true; /* nothing to send, or no window */
        struct message_stdin *m = reserve(c, sizeof *m + len);
        if (!m)
            return false;
        *m = (struct message_stdin){.head = {MESSAGE_STDIN, (uint32_t)len, r->id}, .eof = last};
        put((char *)(m + 1), str_make(rest.p, len));
        publish(c, sizeof *m + len);
        r->stdin_window -= len;
        r->eof_sent = last;
        if (from_spec) {
            r->input_at += len;
        } else {
            r->more_sent |= len > 0;
            buf_consume(&r->more_input, len);
        }
    }
    return true;
}

static bool send_small(struct exec_channel *c, enum message_type type, uint64_t id, uint64_t bytes)
{
    size_t len = type == MESSAGE_CANCEL ? sizeof(struct message) : sizeof(struct message_credit);
    struct message_credit *m = reserve(c, len);
    if (!m)
        return false;
    m->head = (struct message){(uint32_t)type, 0, id};
    if (type != MESSAGE_CANCEL)
        m->bytes = bytes;
    publish(c, len);
    return true;
}

/* Sends what a run in a sandbox owes it; false: the ring is full. */
static bool send_owed(struct exec_channel *c, struct exec_run *r)
{
    if (r->cancel_wanted && !r->cancel_sent) {
        if (!send_small(c, MESSAGE_CANCEL, r->id, 0))
            return false;
        r->cancel_sent = true;
    }
    if (r->output_credit >= OUTPUT_WINDOW_BYTES / 2 || (r->holds_output && r->output_credit)) {
        if (!send_small(c, MESSAGE_CREDIT, r->id, r->output_credit))
            return false;
        r->output_credit = 0;
    }
    return send_stdin(c, r);
}

void exec_run_send_soon(struct exec_run *r)
{
    struct exec_channel *c = r->channel;
    if (r->state != EXEC_SENT)
        return;
    list_remove(&r->pending_link);
    if (!send_owed(c, r))
        list_push_back(&c->pending, &r->pending_link);
    wake(c);
}

void exec_channel_send_pending(struct exec_channel *c)
{
    while (!list_is_empty(&c->pending)) {
        struct exec_run *r = LIST_ENTRY(c->pending.next, struct exec_run, pending_link);
        if (!send_owed(c, r))
            return;
        list_remove(&r->pending_link);
        wake(c);
    }
}
