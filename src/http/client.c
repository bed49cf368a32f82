#include "http/client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <sys/socket.h>

enum {
    HEAD_BYTES_MAX = 64 * 1024, /* of an answer */
    CONNECT_MS_MAX = 10 * 1000,
    METHOD_BYTES_MAX = 16,
    FIELD_BYTES_MAX = 16 * 1024,
    HOST_BYTES = 256,
    IDLE_MAX = 4,        /* handles that are kept, of each kind */
    CONNECTIONS_MAX = 2, /* kept open by one of them */
    CONNECTION_AGE_S = 30,
};

/* Handles that wait for their next request, with what they have read of authorities and the connections that they keep
 * open. A connection is checked when it is made, so those that may be private are apart from those that may not. */
static struct {
    uv_once_t once;
    uv_mutex_t mutex;
    CURL *idle[2][IDLE_MAX]; /* [private_too] */
    size_t idle_count[2];
    const char *authorities; /* NULL: the system's */
} handles = {.once = UV_ONCE_INIT};

static void start(void)
{
    WW_ASSERT(curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK);
    WW_ASSERT(uv_mutex_init(&handles.mutex) == 0);
    const char *file = getenv("SSL_CERT_FILE");
    handles.authorities = file && file[0] ? xstrdup(file) : NULL;
}

static CURL *handle_get(bool private_too)
{
    CURL *handle = NULL;
    uv_mutex_lock(&handles.mutex);
    if (handles.idle_count[private_too])
        handle = handles.idle[private_too][--handles.idle_count[private_too]];
    uv_mutex_unlock(&handles.mutex);
    if (!handle)
        handle = curl_easy_init();
    WW_ASSERT(handle); /* no memory */
    return handle;
}

static void handle_put(CURL *handle, bool private_too)
{
    curl_easy_reset(handle); /* nothing of this request stays but its connections */
    uv_mutex_lock(&handles.mutex);
    if (handles.idle_count[private_too] < IDLE_MAX)
        handles.idle[private_too][handles.idle_count[private_too]++] = TAKE(handle);
    uv_mutex_unlock(&handles.mutex);
    if (handle)
        curl_easy_cleanup(handle);
}

/* A request under way. */
struct transfer {
    const struct http_client_request *request;
    CURL *handle;
    CURLU *url;
    struct curl_slist *fields;
    char host[HOST_BYTES];
    struct buf body;
    size_t head_bytes;
    char refused[INET6_ADDRSTRLEN]; /* an address that may not be asked, "" = none was met */
    bool too_large;
};

static void transfer_done(struct transfer *t)
{
    curl_url_cleanup(t->url);
    curl_slist_free_all(t->fields);
    buf_done(&t->body);
}

/* --- the address -------------------------------------------------------------------------------- */
/* Before each connection: the address is known now, and is the one that is used. */
static curl_socket_t on_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = data;
    (void)purpose;
    bool ip = address->family == AF_INET || address->family == AF_INET6;
    if (!ip || (!t->request->private_too && !http_client_address_is_public(&address->addr))) {
        uv_ip_name(&address->addr, t->refused, sizeof t->refused);
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* --- the URL ------------------------------------------------------------------------------------ */
static bool has_only_printable(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~')
            return false;
    return true;
}

/* The host where it is an address. */
static bool parse_address(const char *host, struct sockaddr_storage *ret)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    char inner[HOST_BYTES];
    struct str text = str_of(host);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        ret->ss_family = AF_INET;
        return true;
    }
    if (!str_starts_with(text, STR_LIT("[")) || !str_ends_with(text, STR_LIT("]")))
        return false;
    snprintf(inner, sizeof inner, "%.*s", (int)text.len - 2, text.p + 1);
    ret->ss_family = AF_INET6;
    return inet_pton(AF_INET6, inner, &v6->sin6_addr) == 1;
}

static enum err refuse_address(const char *what, struct err_info *reterr)
{
    return err_set(reterr, ERR_FIELD_INVALID,
                   "the URL leads to %s: addresses of this machine and of private networks are not asked",
                   what);
}

/* libcurl takes "http:///a" for "http://a"; where parsers differ, checks are got past. */
static bool has_http_scheme(struct str url)
{
    struct str scheme = str_make(url.p, str_index(url, ':'));
    struct str rest = str_make(url.p + scheme.len, url.len - scheme.len);
    bool known = str_ieq(scheme, STR_LIT("http")) || str_ieq(scheme, STR_LIT("https"));
    return known && str_starts_with(rest, STR_LIT("://")) && !str_starts_with(rest, STR_LIT(":///"));
}

/* Fills `url` and the host's name; no sentence shows more of the URL than that. */
static enum err parse_url(const char *text, CURLU *url, char host[static HOST_BYTES], struct err_info *reterr)
{
    char *name = NULL;
    struct str all = str_of(text);
    if (!all.len || all.len > HTTP_CLIENT_URL_MAX || !has_only_printable(all))
        return err_set(reterr, ERR_FIELD_INVALID,
                       "the URL must have 1 to %d characters of ASCII, without blanks", HTTP_CLIENT_URL_MAX);
    if (!has_http_scheme(all))
        return err_set(reterr, ERR_FIELD_INVALID, "the URL must begin with http:// or https:// and a host");
    CURLUcode code = curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS);
    if (!code)
        code = curl_url_get(url, CURLUPART_HOST, &name, 0);
    enum err e = OK;
    if (code)
        e = err_set(reterr, ERR_FIELD_INVALID, "the URL is not well formed: %s", curl_url_strerror(code));
    else if (!name[0] || strlen(name) >= HOST_BYTES)
        e = err_set(reterr, ERR_FIELD_INVALID, "the URL must have a host of 1 to %d characters",
                    HOST_BYTES - 1);
    else
        snprintf(host, HOST_BYTES, "%s", name);
    curl_free(name);
    return e;
}

enum err http_client_check_url(const char *url, bool private_too, struct err_info *reterr)
{
    struct sockaddr_storage address = {0};
    char host[HOST_BYTES];
    uv_once(&handles.once, start);
    CURLU *parsed = curl_url();
    WW_ASSERT(parsed); /* no memory */
    enum err e = parse_url(url, parsed, host, reterr);
    curl_url_cleanup(parsed);
    if (!e && !private_too && parse_address(host, &address) &&
        !http_client_address_is_public((struct sockaddr *)&address))
        return refuse_address(host, reterr);
    return e;
}

/* --- what is sent ------------------------------------------------------------------------------- */
static void add_line(struct transfer *t, const char *line)
{
    struct curl_slist *longer = curl_slist_append(t->fields, line);
    WW_ASSERT(longer); /* no memory */
    t->fields = longer;
}

static enum err add_field(struct transfer *t, const struct http_field *field, struct err_info *reterr)
{
    struct buf line = buf_make(FIELD_BYTES_MAX);
    enum err e = OK;
    bool clean = field->name.len && !memchr(field->name.p, ':', field->name.len) &&
                 !memchr(field->name.p, ';', field->name.len) && has_only_printable(field->name);
    for (size_t i = 0; i < field->value.len; i++)
        clean = clean && (unsigned char)field->value.p[i] >= ' ' && field->value.p[i] != 0x7f;
    if (!clean)
        return err_set(reterr, ERR_FIELD_INVALID,
                       "a header field of the request has a character that may not be there");
    buf_put_str(&line, field->name);
    buf_puts(&line, field->value.len ? ": " : ";"); /* libcurl's way to say that it is empty */
    buf_put_str(&line, field->value);
    const char *text = buf_cstr(&line);
    if (line.overflow)
        e = err_set(reterr, ERR_FIELD_INVALID, "a header field of the request has more than %d bytes",
                    FIELD_BYTES_MAX);
    else
        add_line(t, text);
    buf_done(&line);
    return e;
}

static enum err add_fields(struct transfer *t, struct err_info *reterr)
{
    const struct http_client_request *r = t->request;
    bool has_type = false;
    enum err e = OK;
    for (size_t i = 0; !e && i < r->field_count; i++) {
        e = add_field(t, &r->fields[i], reterr);
        has_type = has_type || str_ieq(r->fields[i].name, STR_LIT("content-type"));
    }
    add_line(t, "Expect:");
    if (!has_type)
        add_line(t, "Content-Type:"); /* none; libcurl's own would be that of a form */
    return e;
}

static enum err check_method(const char *method, struct err_info *reterr)
{
    size_t len = strlen(method);
    if (len && len <= METHOD_BYTES_MAX && strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == len)
        return OK;
    return err_set(reterr, ERR_FIELD_INVALID, "the method must have 1 to %d capital letters",
                   METHOD_BYTES_MAX);
}

/* --- what comes back ---------------------------------------------------------------------------- */
static size_t on_head(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    (void)data;
    t->head_bytes += size * count;
    if (t->head_bytes <= HEAD_BYTES_MAX)
        return size * count;
    t->too_large = true;
    return 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    if (buf_append(&t->body, data, size * count))
        return size * count;
    t->too_large = true;
    return 0;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct transfer *t = ctx;
    (void)a, (void)b, (void)c, (void)d;
    return t->request->cancelled && atomic_load(t->request->cancelled);
}

static enum err explain(const struct transfer *t, CURLcode code, struct err_info *reterr)
{
    const char *host = t->host;
    if (t->too_large)
        return err_set(reterr, ERR_BAD_REQUEST,
                       "the answer of %s is larger than allowed: %zu bytes, its head %d", host,
                       t->request->response_bytes_max, HEAD_BYTES_MAX);
    if (t->refused[0] && code == CURLE_COULDNT_CONNECT)
        return refuse_address(t->refused, reterr);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: return err_set(reterr, ERR_BUSY, "the name %s does not resolve", host);
    case CURLE_COULDNT_CONNECT: return err_set(reterr, ERR_BUSY, "there is no connection to %s", host);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(reterr, ERR_BUSY, "%s did not answer within %llu ms", host,
                       (unsigned long long)(t->request->timeout_ns / NS_PER_MS));
    case CURLE_PEER_FAILED_VERIFICATION:
        return err_set(reterr, ERR_BUSY, "the TLS certificate of %s does not verify", host);
    case CURLE_ABORTED_BY_CALLBACK: return err_set(reterr, ERR_BUSY, "the request to %s was cancelled", host);
    default: return err_set(reterr, ERR_BUSY, "the request to %s failed: %s", host, curl_easy_strerror(code));
    }
}

/* --- sending ------------------------------------------------------------------------------------ */
/* An option that is not taken is a libcurl that can't do what the header promises. */
#define SET(option, value) WW_ASSERT(curl_easy_setopt(t->handle, (option), (value)) == CURLE_OK)

static void set_walls(struct transfer *t)
{
    uint64_t timeout_ms = MAX(t->request->timeout_ns / NS_PER_MS, 1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a name that nobody answers for doesn't hold us past the time-out */
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (handles.authorities)
        SET(CURLOPT_CAINFO, handles.authorities);
    SET(CURLOPT_TIMEOUT_MS, (long)MIN(timeout_ms, (uint64_t)INT32_MAX));
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(timeout_ms, (uint64_t)CONNECT_MS_MAX));
    SET(CURLOPT_MAXCONNECTS, (long)CONNECTIONS_MAX);
    SET(CURLOPT_MAXAGE_CONN, (long)CONNECTION_AGE_S);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
}

static void set_request(struct transfer *t)
{
    const struct http_client_request *r = t->request;
    bool is_head = strcmp(r->method, "HEAD") == 0;
    bool once = strcmp(r->method, "POST") == 0 || strcmp(r->method, "PATCH") == 0;
    SET(CURLOPT_CURLU, t->url);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_USERAGENT, "WasmWiz/" WW_VERSION);
    SET(CURLOPT_HTTPHEADER, t->fields);
    if (is_head)
        SET(CURLOPT_NOBODY, 1L);
    if (!is_head && (once || r->body.len || strcmp(r->method, "PUT") == 0)) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
        SET(CURLOPT_POSTFIELDS, r->body.len ? r->body.p : "");
    }
    if (!is_head)
        SET(CURLOPT_CUSTOMREQUEST, r->method);
    if (once) { /* on a connection that dies meanwhile, libcurl would send it again */
        SET(CURLOPT_FRESH_CONNECT, 1L);
        SET(CURLOPT_FORBID_REUSE, 1L);
    }
    SET(CURLOPT_HEADERFUNCTION, on_head);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
}

static enum err perform(struct transfer *t, struct http_client_response *ret, struct err_info *reterr)
{
    long status = 0;
    t->handle = handle_get(t->request->private_too);
    set_walls(t);
    set_request(t);
    CURLcode code = curl_easy_perform(t->handle);
    if (!code)
        code = curl_easy_getinfo(t->handle, CURLINFO_RESPONSE_CODE, &status);
    handle_put(TAKE(t->handle), t->request->private_too);
    if (code)
        return explain(t, code, reterr);
    ret->status = (int)status;
    ret->body = t->body;
    t->body = buf_make(0);
    return OK;
}

enum err http_client_send(const struct http_client_request *request, struct http_client_response *ret,
                          struct err_info *reterr)
{
    uv_once(&handles.once, start);
    CLEANUP(transfer_done)
    struct transfer t = {
        .request = request, .url = curl_url(), .body = buf_make(request->response_bytes_max)};
    WW_ASSERT(t.url); /* no memory */
    enum err e = check_method(request->method, reterr);
    if (!e)
        e = parse_url(request->url, t.url, t.host, reterr);
    if (!e)
        e = add_fields(&t, reterr);
    return e ? e : perform(&t, ret, reterr);
}
