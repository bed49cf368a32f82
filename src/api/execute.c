/* POST /execute: a module and its input in a form, the output and the receipt back. */
#include <jansson.h>

#include "api/execute.h"
#include "base/json.h"
#include "base/log.h"

enum { FIELD_BYTES_MAX = ARGS_BYTES_MAX };

static const char *const part_names[PART_COUNT] = {
    "wasm", "input", "args",  "invoke", "timeout_ms", "memory_bytes", "max_output_bytes",
    "fuel", "seed",  "output"};

/* --- the parts ---------------------------------------------------------------------------------- */
static enum err part_begin(void *ctx, const struct multipart_part *part, struct err_info *reterr)
{
    struct invocation *inv = ctx;
    struct execution *ex = inv->origin_data;
    enum part p = 0;
    while (p < PART_COUNT && !str_eq(part->name, str_of(part_names[p])))
        p++;
    if (p == PART_COUNT)
        return err_set(reterr, ERR_PART_UNKNOWN,
                       "the form has a part \"%.*s\"; known are wasm, input, args, invoke, "
                       "timeout_ms, memory_bytes, max_output_bytes, fuel, seed and output",
                       STR_FMT(str_make(part->name.p, MIN(part->name.len, (size_t)40))));
    if (ex->seen & 1U << p)
        return err_set(reterr, ERR_BAD_REQUEST, "the form has the part \"%s\" twice", part_names[p]);
    if (ex->stream.wanted && ex->seen & 1U << PART_INPUT)
        return err_set(reterr, ERR_BAD_REQUEST,
                       "the form of a stream must end with the part \"input\"; \"%s\" stands behind it",
                       part_names[p]);
    ex->seen |= 1U << p;
    ex->part = p;
    struct str name = part->filename;
    if (p == PART_WASM && !(name.len >= 5 && str_ieq(str_make(name.p + name.len - 5, 5), STR_LIT(".wasm"))))
        return err_set(reterr, ERR_NOT_WASM, "wasm: the file name must end in .wasm");
    return OK;
}

static enum err part_data(void *ctx, struct str bytes, struct err_info *reterr)
{
    struct invocation *inv = ctx;
    struct execution *ex = inv->origin_data;
    switch (ex->part) {
    case PART_WASM:
        if (!buf_put_str(&ex->wasm, bytes))
            return err_set(reterr, ERR_MODULE_TOO_LARGE,
                           "wasm: the module has more than %llu bytes (MAX_WASM_SIZE)",
                           (unsigned long long)ex->wasm.max);
        WW_ASSERT(EVP_DigestUpdate(ex->hash, bytes.p, bytes.len) == 1);
        return OK;
    case PART_INPUT:
        if (ex->stream.wanted)
            return execution_stream_input(inv, bytes, reterr);
        if (!buf_put_str(&inv->input, bytes))
            return err_set(reterr, ERR_INPUT_TOO_LARGE, "input: it has more than %llu bytes (MAX_INPUT_SIZE)",
                           (unsigned long long)inv->input.max);
        return OK;
    default:
        if (!buf_put_str(&ex->field, bytes))
            return err_set(reterr, ERR_FIELD_INVALID, "%s: it has more than %d bytes", part_names[ex->part],
                           FIELD_BYTES_MAX);
        return OK;
    }
}

static enum err take_number(const struct execution *ex, uint64_t min, uint64_t max, uint64_t *ret,
                            struct err_info *reterr)
{
    struct str text = buf_str(&ex->field);
    if (str_to_u64(text, max, ret) && *ret >= min)
        return OK;
    return err_set(reterr, ERR_FIELD_INVALID, "%s: \"%.*s\" is not a whole number from %llu to %llu",
                   part_names[ex->part], STR_FMT(str_make(text.p, MIN(text.len, (size_t)40))),
                   (unsigned long long)min, (unsigned long long)max);
}

/* A JSON array of strings becomes NUL-terminated strings in a row, behind the program's name. */
static enum err take_args(struct invocation *inv, struct execution *ex, struct err_info *reterr)
{
    static const char what[] = "args: it must be a JSON array of strings without NUL, e.g. [\"a\",\"b\"]";
    json_error_t error;
    json_t *array = json_loadb(ex->field.p, ex->field.len, JSON_REJECT_DUPLICATES, &error);
    struct buf strings = buf_make(ARGS_BYTES_MAX);
    size_t count = json_is_array(array) ? json_array_size(array) : 0;
    bool ok = json_is_array(array) && count < ARGS_COUNT_MAX;
    buf_append(&strings, "main.wasm", 10);
    for (size_t i = 0; ok && i < count; i++) {
        json_t *item = json_array_get(array, i);
        ok = json_is_string(item);
        if (ok)
            buf_append(&strings, json_string_value(item), json_string_length(item) + 1);
    }
    json_decref(array);
    struct str copy = ok && !strings.overflow ? arena_copy(&inv->arena, buf_str(&strings)) : STR_NULL;
    bool overflow = strings.overflow || (ok && !copy.p);
    buf_done(&strings);
    if (overflow)
        return err_set(reterr, ERR_FIELD_INVALID, "args: the arguments have more than %d bytes",
                       ARGS_BYTES_MAX);
    if (!ok)
        return err_set(reterr, ERR_FIELD_INVALID, "%s, with at most %d of them", what, ARGS_COUNT_MAX - 1);
    inv->spec.args = copy;
    inv->spec.args_count = (uint32_t)count + 1;
    return OK;
}

static enum err part_end(void *ctx, struct err_info *reterr)
{
    struct invocation *inv = ctx;
    struct execution *ex = inv->origin_data;
    const struct api_program *program = ex->api->program;
    struct run_limits *limits = &inv->spec.limits;
    struct str text = buf_str(&ex->field);
    uint64_t number = 0;
    enum err e = OK;
    switch (ex->part) {
    case PART_ARGS: e = take_args(inv, ex, reterr); break;
    case PART_INVOKE:
        inv->spec.entry = arena_copy(&inv->arena, text);
        if (text.len == 0 || text.len > ENTRY_BYTES_MAX)
            e = err_set(reterr, ERR_FIELD_INVALID, "invoke: a name of 1 to %d bytes is wanted",
                        ENTRY_BYTES_MAX);
        break;
    case PART_TIMEOUT_MS:
        e = take_number(ex, 1, program->timeout_ns_max / NS_PER_MS, &number, reterr);
        limits->timeout_ns = number * NS_PER_MS;
        break;
    case PART_MEMORY_BYTES:
        e = take_number(ex, WASM_PAGE_BYTES, program->memory_bytes_max, &limits->memory_bytes, reterr);
        break;
    case PART_MAX_OUTPUT_BYTES:
        e = take_number(ex, 0, ex->stream.wanted ? program->stream_bytes_max : program->output_bytes_max,
                        &limits->stdout_bytes, reterr);
        limits->stderr_bytes = MIN(limits->stderr_bytes, limits->stdout_bytes);
        break;
    case PART_FUEL: e = take_number(ex, 1, INT64_MAX, &limits->fuel, reterr); break;
    case PART_SEED: e = take_number(ex, 0, UINT64_MAX, &inv->spec.seed, reterr); break;
    case PART_OUTPUT:
        ex->want_base64 = str_eq(text, STR_LIT("base64"));
        if (!ex->want_base64 && !str_eq(text, STR_LIT("text")))
            e = err_set(reterr, ERR_FIELD_INVALID, "output: \"text\" or \"base64\" is wanted");
        break;
    default: break;
    }
    buf_clear(&ex->field);
    return e;
}

/* --- the origin --------------------------------------------------------------------------------- */
static enum err check_complete(struct invocation *inv, struct execution *ex, struct err_info *reterr)
{
    if (!(ex->seen & 1U << PART_WASM))
        return err_set(reterr, ERR_PART_MISSING, "the form has no part \"wasm\" (the module, as a file)");
    if (!(ex->seen & 1U << PART_INPUT))
        return err_set(reterr, ERR_PART_MISSING,
                       "the form has no part \"input\" (text for the guest's stdin; it may be empty)");
    if (ex->wasm.len < 4 || memcmp(ex->wasm.p, "\0asm", 4) != 0) {
        /* The pre-check has the words for what it is instead. */
        struct precheck_facts facts;
        struct precheck_limits limits = precheck_limits_default(0);
        enum err e = module_precheck(buf_str(&ex->wasm), &limits, NULL, &facts, reterr);
        return e ? e : ERR_NOT_WASM;
    }
    unsigned len;
    WW_ASSERT(EVP_DigestFinal_ex(ex->hash, inv->sha, &len) == 1 && len == MODULE_SHA_BYTES);
    inv->wasm = buf_take(&ex->wasm, &inv->wasm_len);
    inv->spec.input = buf_str(&inv->input);
    inv->spec.input_complete = !ex->stream.wanted;
    if (!inv->spec.args_count) {
        inv->spec.args = STR_LIT("main.wasm\0");
        inv->spec.args_count = 1;
    }
    return OK;
}

enum step_result execution_receive(struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    if (ex->form_error.code) {
        inv->failure = ex->form_error;
        return STEP_FAIL;
    }
    if (!ex->body_complete && !(ex->stream.wanted && ex->seen & 1U << PART_INPUT)) {
        http_body_resume(ex->x); /* it was paused while the key was looked up */
        return STEP_WAIT;
    }
    return check_complete(inv, ex, &inv->failure) ? STEP_FAIL : STEP_DONE;
}

static void put_base64(struct buf *out, struct str s)
{
    size_t len = (s.len + 2) / 3 * 4;
    char *to = buf_reserve(out, len + 3);
    if (to) {
        EVP_EncodeBlock((unsigned char *)to, (const unsigned char *)s.p, (int)s.len);
        out->len += len;
    }
}

static void put_run(struct buf *out, struct invocation *inv, const struct execution *ex)
{
    buf_puts(out, "{\"output\":");
    json_put_string(out, buf_str(&inv->output[0]));
    if (ex->want_base64) {
        buf_puts(out, ",\"output_base64\":\"");
        put_base64(out, buf_str(&inv->output[0]));
        buf_putc(out, '"');
    }
    buf_puts(out, ",\"error\":");
    if (inv->receipt.cause == CAUSE_OK) {
        buf_puts(out, "null");
    } else {
        struct buf sentence = buf_make(1024);
        receipt_put_error(&sentence, &inv->receipt);
        json_put_string(out, buf_str(&sentence));
        buf_done(&sentence);
    }
    buf_puts(out, ",\"stderr\":");
    json_put_string(out, buf_str(&inv->output[1]));
    buf_puts(out, ",\"receipt\":");
    receipt_put_json(out, &inv->receipt);
    buf_puts(out, ",\"request_id\":\"");
    buf_puts(out, inv->id);
    buf_puts(out, "\"}\n");
}

void execution_add_field(struct execution_fields *f, struct str name, struct str value)
{
    f->all[f->count++] = (struct http_field){name, value};
}

void execution_add_limits(struct execution_fields *f, const struct invocation *inv)
{
    size_t count = limit_fields(&inv->limit.state, f->limits);
    for (size_t i = 0; i < count; i++)
        execution_add_field(f, str_of(f->limits[i].name), str_of(f->limits[i].value));
}

void execution_reply_failure(struct http_exchange *x, struct invocation *inv)
{
    enum err code = inv->failure.code;
    struct execution_fields f = {0};
    struct buf body = buf_make(4096);
    buf_puts(&body, "{\"output\":\"\",\"error\":");
    json_put_string(&body, str_of(err_told(&inv->failure)));
    buf_printf(&body, ",\"code\":\"%s\",\"request_id\":\"%s\"}\n", err_code(code), inv->id);
    execution_add_field(&f, STR_LIT("Content-Type"), STR_LIT("application/json"));
    if (code == ERR_UNAUTHORIZED)
        execution_add_field(&f, STR_LIT("WWW-Authenticate"), STR_LIT("Bearer"));
    else if (err_may_retry(code) && code != ERR_RATE_LIMITED) /* the limits know better */
        execution_add_field(&f, STR_LIT("Retry-After"), STR_LIT("1"));
    execution_add_limits(&f, inv);
    api_log_refusal(inv->id, http_peer(x), inv->who, &inv->failure);
    http_reply(x, err_status(code), f.all, f.count, buf_str(&body));
    buf_done(&body);
}

/* A header is ASCII: what the guest chose to name its functions is not. */
void execution_put_receipt_field(struct buf *out, const struct receipt *r)
{
    receipt_put_json(out, r);
    for (size_t i = 0; i < out->len; i++)
        if ((unsigned char)out->p[i] >= 0x80 || (unsigned char)out->p[i] < 0x20)
            out->p[i] = '?';
}

void execution_reply_raw(struct http_exchange *x, struct invocation *inv)
{
    struct execution_fields f = {0};
    struct buf receipt = buf_make(RECEIPT_FIELD_MAX_BYTES);
    execution_put_receipt_field(&receipt, &inv->receipt);
    execution_add_field(&f, STR_LIT("Content-Type"), STR_LIT("application/octet-stream"));
    execution_add_field(&f, STR_LIT("WasmWiz-Receipt"), buf_str(&receipt));
    execution_add_limits(&f, inv);
    size_t len;
    char *body = buf_take(&inv->output[0], &len);
    http_reply_take(x, cause_http_status(inv->receipt.cause), f.all, f.count, body, len);
    buf_done(&receipt);
}

static void reply_run(struct http_exchange *x, struct invocation *inv, const struct execution *ex)
{
    struct execution_fields f = {0};
    /* Worst case: every byte as \u00XX, and base64 besides. */
    struct buf body = buf_make(8 * (inv->output[0].len + inv->output[1].len) + 64 * 1024);
    buf_reserve(&body, inv->output[0].len + inv->output[1].len + 1024);
    put_run(&body, inv, ex);
    WW_ASSERT(!body.overflow);
    execution_add_field(&f, STR_LIT("Content-Type"), STR_LIT("application/json"));
    execution_add_limits(&f, inv);
    size_t len;
    char *bytes = buf_take(&body, &len);
    http_reply_take(x, cause_http_status(inv->receipt.cause), f.all, f.count, bytes, len);
}

void execution_log_failure(const struct invocation *inv)
{
    enum cause cause = inv->receipt.cause;
    struct buf sentence = buf_make(1024);
    if (inv->failure.code) {
        api_log_failure(inv->id, &inv->failure);
    } else if (cause_http_status(cause) >= 500) {
        receipt_put_error(&sentence, &inv->receipt);
        LOG_ERROR("request failed", LOG_CSTR("request_id", inv->id), LOG_CSTR("code", cause_name(cause)),
                  LOG_I64("status", cause_http_status(cause)), LOG_STR("reason", buf_str(&sentence)));
    }
    buf_done(&sentence);
}

static void reply(struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    struct http_exchange *x = TAKE(ex->x);
    http_exchange_set_data(x, NULL);
    execution_log_failure(inv);
    if (inv->failure.code)
        execution_reply_failure(x, inv);
    else if (ex->want_raw)
        execution_reply_raw(x, inv);
    else
        reply_run(x, inv, ex);
}

void execution_released(struct invocation *inv)
{
    struct execution *ex = inv->origin_data;
    multipart_free(ex->form);
    EVP_MD_CTX_free(ex->hash);
    buf_done(&ex->wasm);
    buf_done(&ex->field);
    buf_done(&ex->stream.pending[0]);
    buf_done(&ex->stream.pending[1]);
}

static const struct invoke_origin origin = {
    .receive = execution_receive, .reply = reply, .released = execution_released};

static EVP_MD *sha256;

/* Once, before any loop runs: looking an algorithm up costs more than a small hash. */
__attribute__((constructor)) static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* --- the handler -------------------------------------------------------------------------------- */
void execution_begin(struct http_exchange *x, const struct invoke_origin *from, bool streams)
{
    static const struct multipart_ops form_ops = {part_begin, part_data, part_end};
    struct api_context *api = http_exchange_server_data(x);
    struct invocation *inv = invocation_new(&api->invoke, from, NULL, http_request_id(x));
    struct execution *ex = arena_alloc(&inv->arena, sizeof *ex);
    inv->origin_data = ex;
    ex->x = x;
    ex->api = api;
    if (streams)
        execution_stream_prepare(inv);
    ex->wasm = buf_make((size_t)api->program->module_bytes_max);
    ex->field = buf_make(FIELD_BYTES_MAX);
    if (!streams)
        inv->input = buf_make((size_t)api->program->input_bytes_max);
    http_exchange_set_data(x, inv);
    const struct trace_context trace = api_trace(x);
    invocation_trace(inv, &trace);
    /* Of two, nobody knows which one somebody on the way has looked at. */
    if (http_field_count(x, "authorization") == 1)
        inv->token = auth_bearer_token(http_field(x, "authorization"));
    if (inv->token.p)
        inv->token = arena_copy(&inv->arena, inv->token);
    ex->want_raw = str_ieq(http_field(x, "accept"), STR_LIT("application/octet-stream"));
    ex->hash = EVP_MD_CTX_new();
    WW_ASSERT(ex->hash && EVP_DigestInit_ex(ex->hash, sha256, NULL) == 1);
    http_body_pause(x);
    if (multipart_new(http_field(x, "content-type"), &(struct multipart_limits){PART_COUNT + 2, 4096},
                      &form_ops, inv, &ex->form, &ex->form_error))
        ex->body_failed = true;
    invocation_enter(inv, INVOKE_STEP_authenticate);
}

void execution_on_body(struct http_exchange *x, struct str bytes)
{
    struct invocation *inv = http_exchange_data(x);
    struct err_info why = {0};
    struct execution *ex = inv ? inv->origin_data : NULL;
    if (!ex || ex->body_failed)
        return;
    if (multipart_feed(ex->form, bytes, &why)) {
        ex->body_failed = true;
        invocation_fail(inv, &why);
    } else if (ex->stream.wanted) {
        execution_stream_pace(inv);
    }
}

void execution_on_end(struct http_exchange *x)
{
    struct invocation *inv = http_exchange_data(x);
    struct err_info why = {0};
    struct execution *ex = inv ? inv->origin_data : NULL;
    if (!ex || ex->body_failed)
        return;
    if (multipart_end(ex->form, &why)) {
        ex->body_failed = true;
        invocation_fail(inv, &why);
        return;
    }
    ex->body_complete = true;
    if (inv->step == INVOKE_STEP_receive)
        invocation_resume(inv);
    else
        execution_stream_end(inv);
}

void execution_on_gone(struct http_exchange *x)
{
    struct invocation *inv = http_exchange_data(x);
    if (!inv)
        return;
    struct execution *ex = inv->origin_data;
    ex->x = NULL;
    invocation_abandon(inv);
}

static void on_head(struct http_exchange *x)
{
    execution_begin(x, &origin, false);
}

const struct http_handler api_execute_handler = {
    .head = on_head, .body = execution_on_body, .end = execution_on_end, .gone = execution_on_gone};
