/* headers.c - see headers.h. */
#include "server/headers.h"
#include "base/bytes.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define US_PER_S 1000000LL
/* Ten thousand years are enough for any age or lifetime and cannot overflow int64 in us. */
#define SECONDS_MAX 315360000000LL

typedef enum known {
    K_NONE,
    K_AUTHORIZATION,
    K_X_API_KEY,
    K_API_KEY,
    K_CACHE_CONTROL,
    K_PRAGMA,
    K_TRACEPARENT,
    K_ATTRIBUTE,
    K_TTL,
    K_NAMESPACE,
    K_TAGS,
    K_MIN_SIMILARITY,
    K_MAX_ERROR,
    K_CATEGORY,
    K_ALIAS_REFRESH,
    K_ALIAS_SKIP,
    K_ALIAS_TTL,
    K_ALIAS_NAMESPACE,
    K_ALIAS_THRESHOLD,
} known;

static const struct {
    rp_str name;
    known what;
} known_headers[] = {
    { { "authorization", 13 }, K_AUTHORIZATION },
    { { "x-api-key", 9 }, K_X_API_KEY },
    { { "api-key", 7 }, K_API_KEY },
    { { "cache-control", 13 }, K_CACHE_CONTROL },
    { { "pragma", 6 }, K_PRAGMA },
    { { "traceparent", 11 }, K_TRACEPARENT },
    { { "x-reprise-ttl", 13 }, K_TTL },
    { { "x-reprise-namespace", 19 }, K_NAMESPACE },
    { { "x-reprise-tags", 14 }, K_TAGS },
    { { "x-reprise-min-similarity", 24 }, K_MIN_SIMILARITY },
    { { "x-reprise-max-error", 19 }, K_MAX_ERROR },
    { { "x-reprise-category", 18 }, K_CATEGORY },
    /* Headers that may change the answer separate scopes. */
    { { "anthropic-version", 17 }, K_ATTRIBUTE },
    { { "anthropic-beta", 14 }, K_ATTRIBUTE },
    { { "openai-organization", 19 }, K_ATTRIBUTE },
    { { "openai-project", 14 }, K_ATTRIBUTE },
    { { "openai-beta", 11 }, K_ATTRIBUTE },
    /* Other products' names for the same wishes. */
    { { "x-portkey-cache-force-refresh", 29 }, K_ALIAS_REFRESH },
    { { "cf-aig-skip-cache", 17 }, K_ALIAS_SKIP },
    { { "x-higress-skip-ai-cache", 23 }, K_ALIAS_SKIP },
    { { "x-bf-cache-ttl", 14 }, K_ALIAS_TTL },
    { { "cf-aig-cache-ttl", 16 }, K_ALIAS_TTL },
    { { "x-cache-ttl", 11 }, K_ALIAS_TTL },
    { { "x-portkey-cache-namespace", 25 }, K_ALIAS_NAMESPACE },
    { { "helicone-cache-seed", 19 }, K_ALIAS_NAMESPACE },
    { { "cf-aig-cache-key", 16 }, K_ALIAS_NAMESPACE },
    { { "x-cache-semantic-threshold", 26 }, K_ALIAS_THRESHOLD },
    { { "x-bf-cache-threshold", 20 }, K_ALIAS_THRESHOLD },
};

static known
know(rp_str name, rp_str *lower)
{
    for (size_t i = 0; i < RP_COUNT(known_headers); i++)
        if (known_headers[i].name.len == name.len &&
            rp_str_equal_ignoring_case(known_headers[i].name, name)) {
            *lower = known_headers[i].name;
            return known_headers[i].what;
        }
    return K_NONE;
}

/* "Bearer X" is X; any other scheme stands for itself with its name. */
static rp_str
token_of_authorization(rp_str value)
{
    const rp_str bearer = RP_STR("bearer ");
    if (value.len > bearer.len &&
        rp_str_equal_ignoring_case((rp_str){ value.ptr, bearer.len }, bearer))
        return rp_str_trimmed((rp_str){ value.ptr + bearer.len, value.len - bearer.len });
    return rp_str_trimmed(value);
}

/* The first credential counts; Authorization beats the others, as with the services. */
static void
take_credential(rp_client_headers *out, rp_credential_place place, rp_str value)
{
    value = place == RP_CREDENTIAL_AUTHORIZATION ? token_of_authorization(value)
                                                 : rp_str_trimmed(value);
    if (value.len == 0)
        return;
    if (out->place != RP_CREDENTIAL_NONE && !rp_str_equal(value, out->credential))
        out->has_several = true;
    if (out->place != RP_CREDENTIAL_NONE && out->place <= place)
        return;
    out->place = place;
    out->credential = value;
}

/* Seconds of a Cache-Control directive. RFC 9111, 1.2.2: a number too large is as large
 * as can be; what is no number gets the directive's strictest reading. */
static int64_t
seconds_of_directive(rp_str value, int64_t strictest)
{
    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
        value = (rp_str){ value.ptr + 1, value.len - 2 };
    uint64_t seconds;
    if (rp_str_to_u64(value, &seconds))
        return (int64_t)RP_MIN(seconds, (uint64_t)SECONDS_MAX);
    bool digits = value.len > 0;
    for (size_t i = 0; i < value.len; i++)
        digits = digits && value.ptr[i] >= '0' && value.ptr[i] <= '9';
    return digits ? SECONDS_MAX : strictest;
}

/* The next directive: up to a comma that is not within a quoted string (RFC 9110, 5.6.4). */
static rp_str
next_directive(rp_str *rest)
{
    bool quoted = false;
    size_t at = 0;
    for (; at < rest->len && (quoted || rest->ptr[at] != ','); at++) {
        if (rest->ptr[at] == '"')
            quoted = !quoted;
        else if (quoted && rest->ptr[at] == '\\')
            at++;
    }
    at = RP_MIN(at, rest->len);
    const rp_str directive = { rest->ptr, at };
    const size_t used = RP_MIN(at + 1, rest->len);
    *rest = (rp_str){ rest->ptr + used, rest->len - used };
    return rp_str_trimmed(directive);
}

/* Of a directive that is given twice, the stricter counts. */
static int64_t
smaller_of(int64_t old, int64_t new)
{
    return old < 0 ? new : RP_MIN(old, new);
}

typedef struct cache_control {
    bool present;
    int64_t max_age_s, max_stale_s, min_fresh_s; /* -1: not given */
} cache_control;

static void
read_cache_control(rp_str value, rp_client_headers *out, cache_control *control)
{
    control->present = true;
    while (value.len) {
        rp_str argument = next_directive(&value);
        const rp_str name = rp_str_trimmed(rp_str_split(&argument, '='));
        argument = rp_str_trimmed(argument);
        if (rp_str_equal_ignoring_case(name, RP_STR("no-cache")))
            out->controls.no_read = true;
        else if (rp_str_equal_ignoring_case(name, RP_STR("no-store")))
            out->controls.no_write = true;
        else if (rp_str_equal_ignoring_case(name, RP_STR("only-if-cached")))
            out->only_if_cached = true;
        else if (rp_str_equal_ignoring_case(name, RP_STR("max-age")))
            control->max_age_s = smaller_of(control->max_age_s, seconds_of_directive(argument, 0));
        else if (rp_str_equal_ignoring_case(name, RP_STR("min-fresh")))
            control->min_fresh_s = RP_MAX(control->min_fresh_s,
                                          seconds_of_directive(argument, SECONDS_MAX));
        else if (rp_str_equal_ignoring_case(name, RP_STR("max-stale"))) {
            /* Without an argument: however stale. */
            const int64_t stale_s = argument.len ? seconds_of_directive(argument, 0) : SECONDS_MAX;
            control->max_stale_s = smaller_of(control->max_stale_s, stale_s);
        }
    }
}

/* An entry older than max-age is stale for this client; max-stale says by how much it may
 * be. Entries past their own lifetime are never found, whatever max-stale says. */
static void
apply_cache_control(const cache_control *control, rp_client_headers *out)
{
    const int64_t slack_s = RP_MAX(control->max_stale_s, 0);
    if (control->max_age_s >= 0 && slack_s < SECONDS_MAX)
        out->controls.max_age_us = RP_MIN(control->max_age_s + slack_s, SECONDS_MAX) * US_PER_S;
    if (control->min_fresh_s >= 0)
        out->controls.min_fresh_us = control->min_fresh_s * US_PER_S;
}

static bool
is_true(rp_str value)
{
    return rp_str_equal_ignoring_case(value, RP_STR("true")) ||
           rp_str_equal_ignoring_case(value, RP_STR("on")) || rp_str_equal(value, RP_STR("1"));
}

/* "3600", and as some products write it "30s", "5m", "2h", "500ms". */
static bool
read_alias_ttl(rp_str value, int64_t *ttl_us)
{
    static const struct {
        rp_str suffix;
        int64_t unit_us;
    } units[] = {
        { { "ms", 2 }, 1000 },
        { { "s", 1 }, US_PER_S },
        { { "m", 1 }, 60 * US_PER_S },
        { { "h", 1 }, 3600 * US_PER_S },
    };
    int64_t unit_us = US_PER_S;
    for (size_t i = 0; i < RP_COUNT(units); i++)
        if (rp_str_ends_with(value, units[i].suffix)) {
            unit_us = units[i].unit_us;
            value.len -= units[i].suffix.len;
            break;
        }
    uint64_t count;
    if (!rp_str_to_u64(value, &count))
        return false;
    *ttl_us = (int64_t)RP_MIN(count, (uint64_t)(SECONDS_MAX * US_PER_S / unit_us)) * unit_us;
    return true;
}

/* A name we keep: short, and no control characters that could split a line of a log. */
static bool
is_sound_name(rp_str value)
{
    if (value.len == 0 || value.len > RP_TAG_SIZE_MAX || !rp_utf8_is_valid(value))
        return false;
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.ptr[i] < 0x20 || value.ptr[i] == 0x7f)
            return false;
    return true;
}

static void
read_own(known what, rp_str value, rp_arena *arena, rp_client_headers *out)
{
    double number;
    uint64_t seconds;
    switch (what) {
    case K_TTL:
        if (!rp_str_to_u64(value, &seconds) || seconds == 0)
            out->problem = "X-Reprise-TTL must be a whole number of seconds, 1 or more";
        else
            out->controls.ttl_us = (int64_t)RP_MIN(seconds, (uint64_t)SECONDS_MAX) * US_PER_S;
        break;
    case K_NAMESPACE:
        if (!is_sound_name(value))
            out->problem = "X-Reprise-Namespace must have 1 to 256 bytes of printable UTF-8";
        out->namespace_name = value;
        break;
    case K_CATEGORY:
        if (!is_sound_name(value))
            out->problem = "X-Reprise-Category must have 1 to 256 bytes of printable UTF-8";
        out->category = value;
        break;
    case K_TAGS:
        if (rp_tags_parse(value, arena, &out->controls.tags) != RP_OK)
            out->problem = "X-Reprise-Tags takes at most 16 tags of at most 256 bytes each";
        break;
    case K_MIN_SIMILARITY:
        if (!rp_str_to_double(value, &number) || number < -1 || number > 1)
            out->problem = "X-Reprise-Min-Similarity must be a cosine, a number in [-1, 1]";
        else
            out->controls.min_similarity = (float)number;
        break;
    case K_MAX_ERROR:
        if (!rp_str_to_double(value, &number) || number < 0 || number > 1)
            out->problem = "X-Reprise-Max-Error must be a share, a number in [0, 1]";
        else
            out->controls.error_max = number;
        break;
    default:
        break;
    }
}

typedef struct alias_wishes {
    int64_t ttl_us; /* -1: not given */
    rp_str namespace_name;
    double threshold; /* NaN: not given */
} alias_wishes;

static void
read_alias(known what, rp_str value, rp_client_headers *out, alias_wishes *wishes)
{
    double number;
    if (what == K_ALIAS_REFRESH && is_true(value))
        out->controls.no_read = true;
    if (what == K_ALIAS_SKIP && is_true(value))
        out->controls.no_read = out->controls.no_write = true;
    if (what == K_ALIAS_TTL)
        (void)read_alias_ttl(value, &wishes->ttl_us);
    if (what == K_ALIAS_NAMESPACE && is_sound_name(value))
        wishes->namespace_name = value;
    if (what == K_ALIAS_THRESHOLD && rp_str_to_double(value, &number) && number >= -1 && number <= 1)
        wishes->threshold = number;
}

static void
add_attribute(rp_client_headers *out, rp_str name, rp_str value)
{
    if (out->attribute_count == RP_ATTRIBUTES_MAX)
        out->problem = "too many headers that change the answer";
    else
        out->attributes[out->attribute_count++] = (rp_attribute){ name, value };
}

void
rp_client_headers_read(const rp_http_request *request, rp_arena *arena, rp_client_headers *out)
{
    out->place = RP_CREDENTIAL_NONE;
    out->credential = out->namespace_name = out->category = out->traceparent = (rp_str){ 0 };
    rp_controls_init(&out->controls);
    out->only_if_cached = out->has_several = false;
    out->attribute_count = 0;
    out->problem = NULL;

    cache_control control = { .max_age_s = -1, .max_stale_s = -1, .min_fresh_s = -1 };
    alias_wishes wishes = { .ttl_us = -1, .threshold = (double)NAN };
    bool pragma_no_cache = false;
    for (size_t i = 0; i < request->header_count; i++) {
        rp_str name;
        const known what = know(request->headers[i].name, &name);
        if (what == K_NONE)
            continue;
        const rp_str value = rp_str_trimmed(request->headers[i].value);
        if (what == K_AUTHORIZATION)
            take_credential(out, RP_CREDENTIAL_AUTHORIZATION, value);
        else if (what == K_X_API_KEY)
            take_credential(out, RP_CREDENTIAL_X_API_KEY, value);
        else if (what == K_API_KEY)
            take_credential(out, RP_CREDENTIAL_API_KEY, value);
        else if (what == K_CACHE_CONTROL)
            read_cache_control(value, out, &control);
        else if (what == K_PRAGMA)
            pragma_no_cache = rp_str_equal_ignoring_case(value, RP_STR("no-cache"));
        else if (what == K_TRACEPARENT)
            out->traceparent = value;
        else if (what == K_ATTRIBUTE)
            add_attribute(out, name, value);
        else if (what >= K_ALIAS_REFRESH)
            read_alias(what, value, out, &wishes);
        else
            read_own(what, value, arena, out);
    }
    apply_cache_control(&control, out);
    if (pragma_no_cache && !control.present)
        out->controls.no_read = true; /* RFC 9111, 5.4 */

    /* The query may change the answer (Azure's api-version). */
    if (request->query.len)
        add_attribute(out, RP_STR("?"), request->query);
    if (out->controls.ttl_us < 0)
        out->controls.ttl_us = wishes.ttl_us;
    if (!out->namespace_name.ptr)
        out->namespace_name = wishes.namespace_name;
    /* Only ever stricter, so the larger of two wishes. */
    if (wishes.threshold > (double)out->controls.min_similarity)
        out->controls.min_similarity = (float)wishes.threshold;
}

/* ---- on the way to and from the upstream --------------------------------------- */

static bool
is_hop_by_hop(rp_str name)
{
    static const rp_str names[] = {
        { "connection", 10 },          { "keep-alive", 10 },
        { "proxy-connection", 16 },    { "proxy-authenticate", 18 },
        { "proxy-authorization", 19 }, { "te", 2 },
        { "trailer", 7 },              { "transfer-encoding", 17 },
        { "upgrade", 7 },
    };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        if (names[i].len == name.len && rp_str_equal_ignoring_case(names[i], name))
            return true;
    return false;
}

static bool
is_own_name(rp_str name)
{
    const rp_str prefix = RP_STR("x-reprise-");
    return name.len >= prefix.len &&
           rp_str_equal_ignoring_case((rp_str){ name.ptr, prefix.len }, prefix);
}

/* Named in a Connection header, and so hop-by-hop too (RFC 9110, 7.6.1). */
static bool
is_listed_in_connection(const rp_http_request *request, rp_str name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (!rp_str_equal_ignoring_case(request->headers[i].name, RP_STR("connection")))
            continue;
        rp_str rest = request->headers[i].value;
        while (rest.len)
            if (rp_str_equal_ignoring_case(rp_str_trimmed(rp_str_split(&rest, ',')), name))
                return true;
    }
    return false;
}

static bool
is_credential(rp_str name)
{
    return rp_str_equal_ignoring_case(name, RP_STR("authorization")) ||
           rp_str_equal_ignoring_case(name, RP_STR("x-api-key")) ||
           rp_str_equal_ignoring_case(name, RP_STR("api-key"));
}

const rp_header *
rp_headers_forward(const rp_http_request *request, const rp_forward_options *options,
                   rp_arena *arena, size_t *count)
{
    rp_header *out = rp_arena_calloc(arena, request->header_count + 3, sizeof *out);
    if (!out)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        const rp_str name = request->headers[i].name;
        if (is_hop_by_hop(name) || is_own_name(name) || is_listed_in_connection(request, name) ||
            rp_str_equal_ignoring_case(name, RP_STR("host")) ||
            rp_str_equal_ignoring_case(name, RP_STR("content-length")) ||
            rp_str_equal_ignoring_case(name, RP_STR("expect")) ||
            (options->identity && rp_str_equal_ignoring_case(name, RP_STR("accept-encoding"))) ||
            (options->key && is_credential(name)))
            continue;
        out[n++] = request->headers[i];
    }
    if (options->identity)
        out[n++] = (rp_header){ RP_STR("accept-encoding"), RP_STR("identity") };
    if (options->key && options->anthropic)
        out[n++] = (rp_header){ RP_STR("x-api-key"), rp_arena_printf(arena, "%s", options->key) };
    else if (options->key)
        out[n++] = (rp_header){ RP_STR("authorization"),
                                rp_arena_printf(arena, "Bearer %s", options->key) };
    *count = n;
    return rp_arena_failed(arena) ? NULL : out;
}

bool
rp_header_is_dropped_from_reply(rp_str name)
{
    return is_hop_by_hop(name) || is_own_name(name) ||
           rp_str_equal_ignoring_case(name, RP_STR("content-length")) ||
           rp_str_equal_ignoring_case(name, RP_STR("date"));
}

/* ---- the head of a reply ------------------------------------------------------- */

void
rp_reply_head_init(rp_reply_head *head)
{
    head->count = head->text_size = 0;
}

void
rp_reply_head_add(rp_reply_head *head, rp_str name, rp_str value)
{
    if (head->count < RP_HEAD_HEADERS_MAX)
        head->headers[head->count++] = (rp_header){ name, value };
}

void
rp_reply_head_add_copy(rp_reply_head *head, rp_str name, rp_str value)
{
    if (value.len > RP_HEAD_TEXT_SIZE - head->text_size)
        return;
    char *at = head->text + head->text_size;
    if (value.len)
        memcpy(at, value.ptr, value.len);
    head->text_size += value.len;
    rp_reply_head_add(head, name, (rp_str){ at, value.len });
}

void
rp_reply_head_add_uint(rp_reply_head *head, rp_str name, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    rp_reply_head_add_copy(head, name, (rp_str){ digits + at, sizeof digits - at });
}

void
rp_reply_head_printf(rp_reply_head *head, rp_str name, const char *format, ...)
{
    char *at = head->text + head->text_size;
    const size_t room = RP_HEAD_TEXT_SIZE - head->text_size;
    va_list values;
    va_start(values, format);
    const int len = vsnprintf(at, room, format, values);
    va_end(values);
    if (len < 0 || (size_t)len >= room)
        return;
    head->text_size += (size_t)len;
    rp_reply_head_add(head, name, (rp_str){ at, (size_t)len });
}

/* Four decimals of a number in [-1, 1] without printf: this is on the hot path. */
static void
add_decimal4(rp_reply_head *head, rp_str name, double value)
{
    char text[8];
    size_t n = 0;
    if (value < 0)
        text[n++] = '-';
    const unsigned scaled = (unsigned)(RP_MIN(fabs(value), 1.0) * 10000 + 0.5);
    text[n++] = (char)('0' + scaled / 10000);
    text[n++] = '.';
    text[n++] = (char)('0' + scaled / 1000 % 10);
    text[n++] = (char)('0' + scaled / 100 % 10);
    text[n++] = (char)('0' + scaled / 10 % 10);
    text[n++] = (char)('0' + scaled % 10);
    rp_reply_head_add_copy(head, name, (rp_str){ text, n });
}

/* RFC 9211. `stored` is never said: the header leaves before that is known. */
static void
add_cache_status(rp_reply_head *head, const rp_cache_report *report)
{
    const rp_str name = RP_STR("Cache-Status");
    const char *reason = report->reason ? report->reason : "none";
    switch (report->kind) {
    case RP_KIND_HIT:
    case RP_KIND_STALE:
        if (report->ttl_us < 0)
            rp_reply_head_printf(head, name, "reprise; hit; detail=%s", rp_tier_label(report->tier));
        else
            rp_reply_head_printf(head, name, "reprise; hit; ttl=%lld; detail=%s",
                                 (long long)(report->ttl_us / US_PER_S),
                                 rp_tier_label(report->tier));
        return;
    case RP_KIND_BYPASS:
        rp_reply_head_printf(head, name, "reprise; fwd=bypass; detail=%s", reason);
        return;
    case RP_KIND_REFRESH:
        rp_reply_head_add(head, name, RP_STR("reprise; fwd=request"));
        return;
    default:
        break;
    }
    if (report->only_if_cached)
        rp_reply_head_printf(head, name, "reprise; detail=only-if-cached");
    else
        rp_reply_head_printf(head, name, "reprise; fwd=miss%s; detail=%s",
                             report->collapsed ? "; collapsed" : "",
                             report->kind == RP_KIND_SHADOW_HIT ? "shadow-hit" : reason);
}

static void
add_aliases(rp_reply_head *head, const rp_cache_report *report)
{
    const bool hit = report->kind == RP_KIND_HIT || report->kind == RP_KIND_STALE;
    const bool bypass = report->kind == RP_KIND_BYPASS;
    rp_reply_head_add(head, RP_STR("X-Cache-Status"),
                      hit                                ? RP_STR("Hit")
                      : bypass                           ? RP_STR("Bypass")
                      : report->kind == RP_KIND_REFRESH ? RP_STR("Refresh")
                                                         : RP_STR("Miss"));
    rp_reply_head_add(head, RP_STR("x-litellm-cache-hit"), hit ? RP_STR("True") : RP_STR("False"));
    rp_reply_head_add(head, RP_STR("helicone-cache"), hit ? RP_STR("HIT") : RP_STR("MISS"));
    rp_reply_head_add(head, RP_STR("x-portkey-cache-status"),
                      !hit ? RP_STR("MISS")
                      : report->tier == RP_TIER_SEMANTIC ? RP_STR("SEMANTIC HIT")
                                                         : RP_STR("HIT"));
    rp_reply_head_add(head, RP_STR("X-AI-Cache-Status"),
                      hit      ? RP_STR("hit")
                      : bypass ? RP_STR("skip")
                               : RP_STR("miss"));
    rp_reply_head_add(head, RP_STR("cf-aig-cache-status"), hit ? RP_STR("HIT") : RP_STR("MISS"));
}

static void
add_timing(rp_reply_head *head, const rp_cache_report *report)
{
    if (report->overhead_us >= 0)
        rp_reply_head_add_uint(head, RP_STR("X-Reprise-Overhead-Us"),
                               (uint64_t)report->overhead_us);
    if (report->embed_us + report->search_us + report->policy_us > 0)
        rp_reply_head_printf(head, RP_STR("Server-Timing"),
                             "embed;dur=%.3f, search;dur=%.3f, policy;dur=%.3f",
                             (double)report->embed_us / 1000, (double)report->search_us / 1000,
                             (double)report->policy_us / 1000);
}

static void
add_hit(rp_reply_head *head, const rp_cache_report *report)
{
    rp_reply_head_add(head, RP_STR("X-Reprise-Cache-Tier"), rp_str_of(rp_tier_label(report->tier)));
    rp_reply_head_add(head, RP_STR("X-Reprise-Entry"), rp_str_of(report->entry));
    rp_reply_head_add_uint(head, RP_STR("Age"), (uint64_t)(RP_MAX(report->age_us, 0) / US_PER_S));
    if (!report->hide_similarity && isfinite(report->similarity))
        add_decimal4(head, RP_STR("X-Reprise-Similarity"), report->similarity);
    rp_reply_head_add(head, RP_STR("X-Reprise-Latency"), RP_STR("synthetic"));
    rp_reply_head_add(head, RP_STR("X-Reprise-Billed-Tokens"), RP_STR("0"));
    if (report->saved.input_tokens >= 0 && report->saved.output_tokens >= 0)
        rp_reply_head_printf(head, RP_STR("X-Reprise-Saved-Tokens"), "%lld,%lld",
                             (long long)report->saved.input_tokens,
                             (long long)report->saved.output_tokens);
    if (!report->hide_similarity && isfinite(report->risk))
        add_decimal4(head, RP_STR("X-Reprise-Risk"), report->risk);
}

void
rp_reply_head_add_report(rp_reply_head *head, const rp_cache_report *report)
{
    if (report->request_id)
        rp_reply_head_add(head, RP_STR("X-Reprise-Request"), rp_str_of(report->request_id));
    rp_reply_head_add(head, RP_STR("X-Reprise-Cache"), rp_str_of(rp_outcome_kind_name(report->kind)));
    add_cache_status(head, report);
    if (report->kind == RP_KIND_HIT || report->kind == RP_KIND_STALE)
        add_hit(head, report);
    else if (report->reason)
        rp_reply_head_add(head, RP_STR("X-Reprise-Reason"), rp_str_of(report->reason));
    if (report->policy.len && report->tier != RP_TIER_EXACT)
        rp_reply_head_add(head, RP_STR("X-Reprise-Policy"), report->policy);
    add_timing(head, report);
    if (report->aliases)
        add_aliases(head, report);
}
