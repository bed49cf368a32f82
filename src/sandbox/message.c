#include "sandbox/message.h"

static size_t fixed_bytes(uint32_t type)
{
    switch (type) {
    case MESSAGE_LOAD: return sizeof(struct message_load);
    case MESSAGE_RUN: return sizeof(struct message_run);
    case MESSAGE_STDIN: return sizeof(struct message_stdin);
    case MESSAGE_CREDIT: return sizeof(struct message_credit);
    case MESSAGE_CANCEL: return sizeof(struct message);
    case MESSAGE_LOADED: return sizeof(struct message_loaded);
    case MESSAGE_ABSENT: return sizeof(struct message);
    case MESSAGE_OUTPUT: return sizeof(struct message_output);
    case MESSAGE_STDIN_CREDIT: return sizeof(struct message_credit);
    case MESSAGE_DONE: return sizeof(struct message_done);
    default: return 0;
    }
}

static bool copy_fixed(const void *payload, size_t len, union message_any *ret, struct str *ret_data)
{
    if (len < sizeof(struct message))
        return false;
    memcpy(&ret->head, payload, sizeof ret->head);
    size_t fixed = fixed_bytes(ret->head.type);
    if (fixed == 0 || len < fixed)
        return false;
    uint32_t type = ret->head.type;
    memcpy(ret, payload, fixed);
    ret->head.type = type;
    if (ret->head.data_bytes != len - fixed || ret->head.data_bytes > MESSAGE_DATA_MAX)
        return false;
    *ret_data = str_make((const char *)payload + fixed, len - fixed);
    return true;
}

/* Whether `s` is `count` strings in a row, each with its NUL. */
static bool is_strings(struct str s, uint32_t count)
{
    for (; count; count--) {
        size_t len = str_index(s, 0);
        if (len == s.len)
            return false;
        s = str_make(s.p + len + 1, s.len - len - 1);
    }
    return s.len == 0;
}

static bool run_fits(const struct message_run *m, struct str data)
{
    return m->entry_bytes <= ENTRY_BYTES_MAX && m->args_bytes <= ARGS_BYTES_MAX &&
           m->env_bytes <= ARGS_BYTES_MAX && m->args_count <= ARGS_COUNT_MAX &&
           m->env_count <= ARGS_COUNT_MAX &&
           (uint64_t)m->entry_bytes + m->args_bytes + m->env_bytes + m->stdin_bytes == m->head.data_bytes &&
           is_strings(str_make(data.p + m->entry_bytes, m->args_bytes), m->args_count) &&
           is_strings(str_make(data.p + m->entry_bytes + m->args_bytes, m->env_bytes), m->env_count);
}

bool message_check_to_sandbox(const void *payload, size_t len, union message_any *ret, struct str *ret_data)
{
    if (!copy_fixed(payload, len, ret, ret_data))
        return false;
    switch (ret->head.type) {
    case MESSAGE_RUN: return run_fits(&ret->run, *ret_data);
    case MESSAGE_STDIN: return true;
    case MESSAGE_LOAD:
    case MESSAGE_CREDIT:
    case MESSAGE_CANCEL: return ret_data->len == 0;
    default: return false;
    }
}

/* Figures that no run reaches would spoil the sums that they are added to. */
static bool figures_fit(const struct run_report *r)
{
    const uint64_t figures[] = {r->run_ns,      r->cpu_ns,       r->memory_peak_bytes, r->fuel,
                                r->stdin_bytes, r->stdout_bytes, r->stderr_bytes,      r->host_calls};
    for (size_t i = 0; i < LENGTH_OF(figures); i++)
        if (figures[i] > MESSAGE_FIGURE_MAX)
            return false;
    return true;
}

static bool done_fits(const struct message_done *m)
{
    return m->report.cause < CAUSE_COUNT && m->report.frame_count <= MESSAGE_FRAMES_MAX &&
           m->frames_bytes == m->report.frame_count * sizeof(struct trap_frame) &&
           (uint64_t)m->stdout_bytes + m->stderr_bytes + m->frames_bytes == m->head.data_bytes &&
           memchr(m->report.text, 0, sizeof m->report.text) != NULL && figures_fit(&m->report);
}

bool message_check_from_sandbox(const void *payload, size_t len, union message_any *ret, struct str *ret_data)
{
    if (!copy_fixed(payload, len, ret, ret_data))
        return false;
    switch (ret->head.type) {
    case MESSAGE_LOADED: return ret_data->len <= MESSAGE_TEXT_MAX;
    case MESSAGE_OUTPUT: return ret->output.fd == 1 || ret->output.fd == 2;
    case MESSAGE_DONE: return done_fits(&ret->done);
    case MESSAGE_ABSENT:
    case MESSAGE_STDIN_CREDIT: return ret_data->len == 0;
    default: return false;
    }
}
