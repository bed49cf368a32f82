#include "http/multipart.h"

#include "http/params.h"

enum {
    BOUNDARY_MAX_BYTES = 70,
    CONTENT_TYPE_MAX_BYTES = 1024,
    OUTSIDE_MAX_BYTES = 4096, /* before the first delimiter, and again after the last */
    PADDING_MAX_BYTES = 64,   /* blanks behind a boundary */
    PARTS_DEFAULT = 16,
    HEAD_BYTES_DEFAULT = 4096,
};

enum state {
    PREAMBLE,
    DELIMITED, /* right behind a delimiter: "--", or the rest of its line */
    DASH,      /* behind the first '-' of "--" */
    PADDING,
    LINE_FEED, /* behind the CR of a delimiter's line */
    HEAD,
    DATA,
    EPILOGUE,
};

struct multipart {
    const struct multipart_ops *ops;
    void *ctx;
    struct multipart_limits limits;
    struct err_info failed;
    enum state state;
    /* CR LF "--" boundary. CR stands nowhere but in front, so a search that fails half-way never has to
     * look at what it matched again. */
    char delimiter[4 + BOUNDARY_MAX_BYTES];
    size_t delimiter_len;
    size_t matched; /* bytes of the delimiter that ended the last piece */
    size_t outside;
    uint32_t padding;
    uint32_t parts;
    char *head;
    size_t head_len;
    char *values; /* the unquoted parameters; as large as `head` */
};

static enum err broken(struct err_info *reterr, const char *what)
{
    return err_set(reterr, ERR_MULTIPART_BROKEN, "the form is malformed: %s", what);
}

/* --- the boundary ------------------------------------------------------------------------------- */

/* RFC 2046 section 5.1.1: bchars, and no blank at the end. */
static bool is_boundary(struct str s)
{
    if (s.len == 0 || s.len > BOUNDARY_MAX_BYTES || s.p[s.len - 1] == ' ')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!alphanumeric && !memchr("'()+_,-./:=? ", c, 13))
            return false;
    }
    return true;
}

static enum err find_boundary(struct str content_type, char *out, struct str *ret_boundary,
                              struct err_info *reterr)
{
    struct str rest = str_trim(content_type), name, value;
    struct str type = str_make(rest.p, str_index(rest, ';'));
    if (!str_ieq(str_trim(type), STR_LIT("multipart/form-data")))
        return err_set(reterr, ERR_UNSUPPORTED_TYPE, "Content-Type must be multipart/form-data");
    if (content_type.len > CONTENT_TYPE_MAX_BYTES)
        return broken(reterr, "Content-Type is longer than 1024 bytes");
    rest = str_make(rest.p + type.len, rest.len - type.len);
    *ret_boundary = STR_NULL;
    enum http_param found;
    while ((found = http_param_next(&rest, out, &name, &value)) == HTTP_PARAM_FOUND) {
        if (!str_ieq(name, STR_LIT("boundary")))
            continue;
        if (ret_boundary->p)
            return broken(reterr, "Content-Type names two boundaries");
        *ret_boundary = value;
        out += value.len;
    }
    if (found == HTTP_PARAM_BROKEN)
        return broken(reterr, "the parameters of Content-Type are malformed");
    if (!is_boundary(*ret_boundary))
        return broken(reterr, "Content-Type has no boundary of 1 to 70 characters of RFC 2046's set");
    return OK;
}

enum err multipart_new(struct str content_type, const struct multipart_limits *limits,
                       const struct multipart_ops *ops, void *ctx, struct multipart **ret_parser,
                       struct err_info *reterr)
{
    char values[CONTENT_TYPE_MAX_BYTES];
    struct str boundary = STR_NULL;
    enum err e = find_boundary(content_type, values, &boundary, reterr);
    if (e)
        return e;
    struct multipart *m = xcalloc(1, sizeof *m);
    m->ops = ops;
    m->ctx = ctx;
    m->limits = *limits;
    if (!m->limits.parts_max)
        m->limits.parts_max = PARTS_DEFAULT;
    if (!m->limits.head_bytes_max)
        m->limits.head_bytes_max = HEAD_BYTES_DEFAULT;
    m->head = xmalloc(m->limits.head_bytes_max);
    m->values = xmalloc(m->limits.head_bytes_max);
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary.p, boundary.len);
    m->delimiter_len = 4 + boundary.len;
    m->matched = 2; /* the start of the body is the start of a line */
    *ret_parser = m;
    return OK;
}

void multipart_free(struct multipart *m)
{
    if (!m)
        return;
    free(m->head);
    free(m->values);
    free(m);
}

/* --- a part's head ------------------------------------------------------------------------------ */

/* What stands behind the last slash, of either kind. A name that only means a directory is none. */
static struct str last_component(struct str path)
{
    for (size_t i = path.len; i > 0; i--)
        if (path.p[i - 1] == '/' || path.p[i - 1] == '\\') {
            path = str_make(path.p + i, path.len - i);
            break;
        }
    if (str_eq(path, STR_LIT(".")) || str_eq(path, STR_LIT("..")))
        path.len = 0;
    return path;
}

static enum err parse_disposition(struct multipart *m, struct str value, struct multipart_part *part,
                                  struct err_info *reterr)
{
    struct str type = str_make(value.p, str_index(value, ';')), name, content;
    struct str rest = str_make(value.p + type.len, value.len - type.len);
    char *out = m->values;
    enum http_param found;
    if (!str_ieq(str_trim(type), STR_LIT("form-data")))
        return broken(reterr, "Content-Disposition of a part is not form-data");
    while ((found = http_param_next(&rest, out, &name, &content)) == HTTP_PARAM_FOUND) {
        struct str *to = str_ieq(name, STR_LIT("name"))       ? &part->name
                         : str_ieq(name, STR_LIT("filename")) ? &part->filename
                                                              : NULL;
        if (!to)
            continue; /* filename* too: RFC 7578 section 4.2 forbids it */
        if (to->p)
            return broken(reterr, "Content-Disposition says the name or filename of a part twice");
        *to = content;
        out += content.len;
    }
    if (found == HTTP_PARAM_BROKEN)
        return broken(reterr, "the parameters of a part's Content-Disposition are malformed");
    if (part->name.len == 0)
        return broken(reterr, "a part has no name");
    if (part->filename.p)
        part->filename = last_component(part->filename);
    return OK;
}

static enum err parse_field(struct multipart *m, struct str line, struct multipart_part *part,
                            struct err_info *reterr)
{
    struct str value = line, name = str_split(&value, ':');
    if (name.len == 0 || name.len == line.len)
        return broken(reterr, "a line in the head of a part has no name and colon");
    for (size_t i = 0; i < line.len; i++)
        if (((unsigned char)line.p[i] < 0x20 && line.p[i] != '\t') || line.p[i] == 0x7f)
            return broken(reterr, "the head of a part has a control character");
    /* Also a folded line, which begins with one. */
    if (str_index(name, ' ') < name.len || str_index(name, '\t') < name.len)
        return broken(reterr, "a field name in the head of a part has a blank");
    value = str_trim(value);
    if (str_ieq(name, STR_LIT("content-disposition"))) {
        if (part->name.p)
            return broken(reterr, "a part has two Content-Disposition fields");
        return parse_disposition(m, value, part, reterr);
    }
    if (str_ieq(name, STR_LIT("content-type"))) {
        if (part->type.p)
            return broken(reterr, "a part has two Content-Type fields");
        part->type = value;
    } else if (str_ieq(name, STR_LIT("content-transfer-encoding")) && !str_ieq(value, STR_LIT("binary")) &&
               !str_ieq(value, STR_LIT("8bit")) && !str_ieq(value, STR_LIT("7bit"))) {
        return broken(reterr, "Content-Transfer-Encoding of a part is not binary");
    }
    return OK;
}

static enum err begin_part(struct multipart *m, struct err_info *reterr)
{
    struct multipart_part part = {0};
    struct str rest = str_make(m->head, m->head_len - 2);
    while (rest.len) {
        struct str line = str_split(&rest, '\n'); /* CR is a control character unless it ends the line */
        if (!str_ends_with(line, STR_LIT("\r")))
            return broken(reterr, "a line in the head of a part does not end with CR LF");
        line.len--;
        enum err e = parse_field(m, line, &part, reterr);
        if (e)
            return e;
    }
    if (!part.name.p)
        return broken(reterr, "a part has no Content-Disposition");
    if (m->parts == m->limits.parts_max)
        return err_set(reterr, ERR_MULTIPART_BROKEN, "the form has more than %u parts", m->limits.parts_max);
    m->parts++;
    m->state = DATA;
    return m->ops->part_begin(m->ctx, &part, reterr);
}

/* Gathers lines up to the empty one. */
static enum err feed_head(struct multipart *m, struct str *bytes, struct err_info *reterr)
{
    size_t take = MIN(str_index(*bytes, '\n') + 1, bytes->len);
    if (take > m->limits.head_bytes_max - m->head_len)
        return err_set(reterr, ERR_MULTIPART_BROKEN, "the head of a part is larger than %u bytes",
                       m->limits.head_bytes_max);
    memcpy(m->head + m->head_len, bytes->p, take);
    m->head_len += take;
    *bytes = str_make(bytes->p + take, bytes->len - take);
    struct str head = str_make(m->head, m->head_len);
    if (str_ends_with(head, STR_LIT("\r\n\r\n")) || str_eq(head, STR_LIT("\r\n")))
        return begin_part(m, reterr);
    return OK;
}

/* --- between the delimiters ----------------------------------------------------------------------- */

static enum err drop(struct multipart *m, size_t count, struct err_info *reterr)
{
    m->outside += count;
    if (m->outside > OUTSIDE_MAX_BYTES)
        return broken(reterr, "there are more than 4096 bytes outside of its parts");
    return OK;
}

static enum err give(struct multipart *m, const char *p, size_t count, struct err_info *reterr)
{
    if (count == 0)
        return OK;
    if (m->state == PREAMBLE)
        return drop(m, count, reterr);
    return m->ops->part_data(m->ctx, str_make(p, count), reterr);
}

static enum err end_content(struct multipart *m, struct err_info *reterr)
{
    bool in_part = m->state == DATA;
    m->state = DELIMITED;
    m->matched = m->padding = 0;
    m->head_len = 0;
    return in_part ? m->ops->part_end(m->ctx, reterr) : OK;
}

/* Goes on with a delimiter that began in an earlier piece. */
static enum err feed_matched(struct multipart *m, struct str *bytes, struct err_info *reterr)
{
    while (bytes->len && m->matched < m->delimiter_len && bytes->p[0] == m->delimiter[m->matched]) {
        m->matched++;
        *bytes = str_make(bytes->p + 1, bytes->len - 1);
    }
    if (m->matched == m->delimiter_len)
        return end_content(m, reterr);
    if (bytes->len == 0)
        return OK;
    size_t was_content = m->matched;
    m->matched = 0;
    return give(m, m->delimiter, was_content, reterr);
}

/* The next delimiter, or what may be the beginning of one at the end; *ret_there: how much of it. NULL: neither. */
static const char *find_delimiter(const struct multipart *m, const char *start, const char *end,
                                  size_t *ret_there)
{
    size_t len = m->delimiter_len;
    const char *hit = memmem(start, (size_t)(end - start), m->delimiter, len);
    if (hit) {
        *ret_there = len;
        return hit;
    }
    const char *tail = (size_t)(end - start) < len ? start : end - (len - 1);
    for (; (hit = memchr(tail, '\r', (size_t)(end - tail))); tail = hit + 1) {
        *ret_there = (size_t)(end - hit);
        if (memcmp(hit, m->delimiter, *ret_there) == 0)
            return hit;
    }
    return NULL;
}

/* Preamble or data up to the next delimiter, or all there is. */
static enum err feed_content(struct multipart *m, struct str *bytes, struct err_info *reterr)
{
    if (m->matched)
        return feed_matched(m, bytes, reterr);
    const char *start = bytes->p, *end = start + bytes->len;
    size_t there;
    const char *hit = find_delimiter(m, start, end, &there);
    if (!hit) {
        *bytes = str_make(end, 0);
        return give(m, start, (size_t)(end - start), reterr);
    }
    *bytes = str_make(hit + there, (size_t)(end - hit) - there);
    enum err e = give(m, start, (size_t)(hit - start), reterr);
    if (e)
        return e;
    m->matched = there;
    return there == m->delimiter_len ? end_content(m, reterr) : OK;
}

/* The rest of a delimiter's line: "--" ends the form, blanks and CR LF begin a part. */
static enum err feed_delimiter_line(struct multipart *m, struct str *bytes, struct err_info *reterr)
{
    char c = bytes->p[0];
    *bytes = str_make(bytes->p + 1, bytes->len - 1);
    if (m->state == DASH && c == '-') {
        m->state = EPILOGUE;
        m->outside = 0;
    } else if (m->state == LINE_FEED && c == '\n') {
        m->state = HEAD;
    } else if (m->state == DELIMITED && c == '-') {
        m->state = DASH;
    } else if ((m->state == DELIMITED || m->state == PADDING) && c == '\r') {
        m->state = LINE_FEED;
    } else if ((m->state == DELIMITED || m->state == PADDING) && (c == ' ' || c == '\t') &&
               m->padding++ < PADDING_MAX_BYTES) {
        m->state = PADDING;
    } else {
        return broken(reterr, "a boundary is followed by something else than \"--\" or the end of its line");
    }
    return OK;
}

static enum err feed_some(struct multipart *m, struct str *bytes, struct err_info *reterr)
{
    size_t all;
    switch (m->state) {
    case PREAMBLE:
    case DATA: return feed_content(m, bytes, reterr);
    case HEAD: return feed_head(m, bytes, reterr);
    case EPILOGUE:
        all = bytes->len;
        *bytes = str_make(bytes->p + all, 0);
        return drop(m, all, reterr);
    default: return feed_delimiter_line(m, bytes, reterr);
    }
}

enum err multipart_feed(struct multipart *m, struct str bytes, struct err_info *reterr)
{
    while (!m->failed.code && bytes.len) {
        struct err_info err = {0};
        err.code = feed_some(m, &bytes, &err);
        if (err.code)
            m->failed = err;
    }
    if (m->failed.code && reterr)
        *reterr = m->failed;
    return m->failed.code;
}

enum err multipart_end(struct multipart *m, struct err_info *reterr)
{
    if (!m->failed.code && m->state != EPILOGUE)
        broken(&m->failed, "it ends before its closing boundary");
    if (m->failed.code && reterr)
        *reterr = m->failed;
    return m->failed.code;
}
