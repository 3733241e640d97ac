/* config.c - see config.h. A table for each kind of section says which keys it
 * has, where their values go, and what is allowed; one function reads them all. */
#include "server/config.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "base/file.h"
#include "cache/lookup.h"
#include "server/yaml.h"
#include "store/store.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <reprise/policy.h>

/* The object behind an rp_config: the values, what owns them, who holds them. */
typedef struct loaded {
    rp_config config; /* first, so that a pointer to it is a pointer to this */
    rp_arena arena;
    atomic_uint references;
} loaded;

typedef struct reader {
    const char *name; /* of the file */
    rp_arena *arena;
    rp_error *error;
    rp_config *config;
} reader;

typedef enum kind {
    KIND_TEXT,     /* const char * */
    KIND_DURATION, /* int64_t, microseconds; min and max in seconds */
    KIND_SIZE,     /* uint64_t, bytes */
    KIND_COUNT,    /* unsigned; "auto" is 0 */
    KIND_COUNT64,  /* size_t */
    KIND_SEED,     /* uint64_t */
    KIND_NUMBER,   /* double */
    KIND_FLAG,     /* bool */
    KIND_CHOICE,   /* int-sized enum; choices are "a|b|c", the value is the position */
    KIND_FLAG_CHOICE, /* bool; choices are "off|on" words, the value is the position */
    KIND_SECTION,  /* a map: read() gets it */
    KIND_VALUE,    /* anything: read() gets it */
} kind;

typedef rp_status read_function(reader *r, const rp_yaml *value, void *object);

typedef struct field {
    const char *key;
    kind kind;
    size_t offset;
    double min, max;
    const char *choices;
    read_function *read;
} field;

static rp_status
fail_value(reader *r, const rp_yaml *value, const char *key, const char *expected)
{
    char found[80] = "a secret from the environment";
    if (value->type == RP_YAML_LIST)
        snprintf(found, sizeof found, "a list");
    else if (value->type == RP_YAML_MAP)
        snprintf(found, sizeof found, "a map");
    else if (!value->from_environment)
        snprintf(found, sizeof found, "'%.*s'", (int)RP_MIN(value->text.len, (size_t)60),
                 value->text.ptr);
    return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu:%zu: %s: found %s, expected %s", r->name,
                   value->line, value->column, key, found, expected);
}

/* ---- values ----------------------------------------------------------------- */

/* Number and unit; "off"-like words are not durations, a plain 0 is. */
static bool
parse_with_unit(rp_str text, const char *const *units, const double *factors, double *out)
{
    size_t digits = 0;
    while (digits < text.len &&
           ((text.ptr[digits] >= '0' && text.ptr[digits] <= '9') || text.ptr[digits] == '.'))
        digits++;
    double number;
    if (!rp_str_to_double((rp_str){ text.ptr, digits }, &number))
        return false;
    const rp_str unit = rp_str_trimmed((rp_str){ text.ptr + digits, text.len - digits });
    for (size_t i = 0; units[i]; i++)
        if (rp_str_equal(unit, rp_str_of(units[i]))) {
            *out = number * factors[i];
            return true;
        }
    return number == 0 && unit.len == 0 ? (*out = 0, true) : false;
}

static bool
parse_duration_us(rp_str text, double *out)
{
    static const char *const units[] = { "us", "ms", "s", "m", "h", "d", NULL };
    static const double factors[] = { 1, 1e3, 1e6, 60e6, 3600e6, 86400e6 };
    return parse_with_unit(text, units, factors, out);
}

static bool
parse_size_bytes(rp_str text, double *out)
{
    static const char *const units[] = { "",   "B",   "KiB",        "MiB",        "GiB",
                                         "TiB", "kB", "MB",         "GB",         "TB", NULL };
    static const double factors[] = { 1, 1, 0x1p10, 0x1p20, 0x1p30, 0x1p40, 1e3, 1e6, 1e9, 1e12 };
    return parse_with_unit(text, units, factors, out);
}

/* The position of `text` in "a|b|c", or -1. */
static int
find_choice(const char *choices, rp_str text)
{
    rp_str rest = rp_str_of(choices);
    for (int at = 0; rest.len; at++)
        if (rp_str_equal(rp_str_split(&rest, '|'), text))
            return at;
    return -1;
}

static bool
parse_flag(const rp_yaml *value, bool *out)
{
    const int at = find_choice("false|no|off|true|yes|on", value->text);
    *out = at >= 3;
    return at >= 0 && !value->quoted;
}

static rp_status
fail_range(reader *r, const rp_yaml *value, const field *f, const char *what, const char *unit)
{
    char expected[120];
    snprintf(expected, sizeof expected, "%s from %.15g%s to %.15g%s", what, f->min, unit, f->max,
             unit);
    return fail_value(r, value, f->key, expected);
}

static rp_status
read_scalar(reader *r, const field *f, const rp_yaml *value, void *at)
{
    double number = 0;
    bool flag;
    int choice;
    uint64_t whole;
    switch (f->kind) {
    case KIND_TEXT:
        if (value->text.len == 0)
            return fail_value(r, value, f->key, "a text that is not empty");
        *(const char **)at = value->text.ptr;
        return RP_OK;
    case KIND_DURATION:
        if (!parse_duration_us(value->text, &number))
            return fail_value(r, value, f->key, "a duration with a unit, such as 50ms, 10s or 24h");
        if (number < f->min * 1e6 || number > f->max * 1e6)
            return fail_range(r, value, f, "a duration", "s");
        *(int64_t *)at = (int64_t)number;
        return RP_OK;
    case KIND_SIZE:
        if (!parse_size_bytes(value->text, &number))
            return fail_value(r, value, f->key, "a size, such as 64KiB or 2GiB");
        if (number < f->min || number > f->max)
            return fail_range(r, value, f, "a size", " bytes");
        *(uint64_t *)at = (uint64_t)number;
        return RP_OK;
    case KIND_COUNT:
    case KIND_COUNT64:
        if (rp_str_equal(value->text, RP_STR("auto")))
            whole = 0;
        else if (!rp_str_to_u64(value->text, &whole) || (double)whole < f->min ||
                 (double)whole > f->max)
            return fail_range(r, value, f, "auto, or a whole number", "");
        if (f->kind == KIND_COUNT)
            *(unsigned *)at = (unsigned)whole;
        else
            *(size_t *)at = (size_t)whole;
        return RP_OK;
    case KIND_SEED:
        if (!rp_str_to_u64(value->text, (uint64_t *)at))
            return fail_value(r, value, f->key, "a whole number of at most 64 bits");
        return RP_OK;
    case KIND_NUMBER:
        if (!rp_str_to_double(value->text, &number) || number < f->min || number > f->max)
            return fail_range(r, value, f, "a number", "");
        *(double *)at = number;
        return RP_OK;
    case KIND_FLAG:
        if (!parse_flag(value, &flag))
            return fail_value(r, value, f->key, "true or false");
        *(bool *)at = flag;
        return RP_OK;
    case KIND_CHOICE:
    case KIND_FLAG_CHOICE:
        choice = find_choice(f->choices, value->text);
        if (choice < 0) {
            char expected[160];
            snprintf(expected, sizeof expected, "one of %s", f->choices);
            return fail_value(r, value, f->key, expected);
        }
        if (f->kind == KIND_CHOICE)
            *(int *)at = choice;
        else
            *(bool *)at = choice == 1;
        return RP_OK;
    case KIND_SECTION:
    case KIND_VALUE: break;
    }
    return RP_ERR_INVALID;
}

/* Read every key of a map into `object` by a table that ends with a NULL key. */
static rp_status
read_map(reader *r, const rp_yaml *map, const char *key, const field *fields, void *object)
{
    if (map->type != RP_YAML_MAP)
        return fail_value(r, map, key, "a map");
    for (const rp_yaml *value = map->first; value; value = value->next) {
        const field *f = fields;
        while (f->key && !rp_str_equal(rp_str_of(f->key), value->key))
            f++;
        if (!f->key) {
            char known[180] = "";
            for (const field *g = fields; g->key; g++)
                snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                         g == fields ? "" : ", ", g->key);
            return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu:%zu: unknown key '%.*s' in %s; known: %s",
                           r->name, value->key_line, value->key_column,
                           (int)RP_MIN(value->key.len, (size_t)40), value->key.ptr, key, known);
        }
        rp_status status;
        if (f->kind == KIND_SECTION || f->kind == KIND_VALUE)
            status = f->read(r, value, object);
        else if (value->type != RP_YAML_SCALAR)
            status = fail_value(r, value, f->key, "a single value");
        else
            status = read_scalar(r, f, value, (char *)object + f->offset);
        if (status != RP_OK)
            return status;
    }
    return RP_OK;
}

static size_t
count_children(const rp_yaml *value)
{
    size_t count = 0;
    for (const rp_yaml *child = value->first; child; child = child->next)
        count++;
    return count;
}

/* ---- sections --------------------------------------------------------------- */

#define AT(member) offsetof(rp_config, member)

static rp_status
check_address(reader *r, const rp_yaml *value, const char *key)
{
    const rp_str text = value->text;
    const char *colon = text.len ? memrchr(text.ptr, ':', text.len) : NULL;
    uint64_t port = 0;
    if (value->type != RP_YAML_SCALAR || !colon || colon == text.ptr ||
        !rp_str_to_u64((rp_str){ colon + 1, (size_t)(text.ptr + text.len - colon - 1) }, &port) ||
        port > 65535)
        return fail_value(r, value, key, "ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080");
    return RP_OK;
}

static rp_status
read_listen(reader *r, const rp_yaml *value, void *object)
{
    const rp_status status = check_address(r, value, "listen");
    if (status == RP_OK)
        ((rp_config *)object)->listen = value->text.ptr;
    return status;
}

static rp_status
read_admin_listen(reader *r, const rp_yaml *value, void *object)
{
    const rp_status status = check_address(r, value, "admin.listen");
    if (status == RP_OK)
        ((rp_config *)object)->admin_listen = value->text.ptr;
    return status;
}

static rp_status
read_tls(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "certificate", KIND_TEXT, AT(tls_certificate) },
        { "key", KIND_TEXT, AT(tls_key) },
        { NULL },
    };
    rp_config *config = object;
    const rp_status status = read_map(r, value, "tls", fields, object);
    if (status == RP_OK && (!config->tls_certificate || !config->tls_key))
        return fail_value(r, value, "tls", "both certificate and key");
    return status;
}

static rp_status
read_admin_tls(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "certificate", KIND_TEXT, AT(admin_tls_certificate) },
        { "key", KIND_TEXT, AT(admin_tls_key) },
        { NULL },
    };
    rp_config *config = object;
    const rp_status status = read_map(r, value, "admin.tls", fields, object);
    if (status == RP_OK && (!config->admin_tls_certificate || !config->admin_tls_key))
        return fail_value(r, value, "admin.tls", "both certificate and key");
    return status;
}

static rp_status
read_admin(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "listen", KIND_VALUE, .read = read_admin_listen },
        { "token", KIND_TEXT, AT(admin_token) },
        { "tls", KIND_SECTION, .read = read_admin_tls },
        { NULL },
    };
    return read_map(r, value, "admin", fields, object);
}

static rp_status
read_threads(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "loops", KIND_COUNT, AT(loop_threads), 1, 256 },
        { "pool", KIND_COUNT, AT(pool_threads), 1, 256 },
        { NULL },
    };
    return read_map(r, value, "threads", fields, object);
}

static rp_status
read_cors(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = { { "origin", KIND_TEXT, AT(cors_origin) }, { NULL } };
    rp_config *config = object;
    const rp_status status = read_map(r, value, "cors", fields, object);
    config->cors = status == RP_OK;
    if (status == RP_OK && !config->cors_origin)
        return fail_value(r, value, "cors", "an origin");
    return status;
}

#define LOG_LEVELS "debug|info|warning|error"

static rp_status
read_log_level(reader *r, const rp_yaml *value, void *object)
{
    if (value->type != RP_YAML_SCALAR || find_choice(LOG_LEVELS, value->text) < 0)
        return fail_value(r, value, "log.level", "one of " LOG_LEVELS);
    ((rp_config *)object)->log_level = value->text.ptr;
    return RP_OK;
}

static rp_status
read_log(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "access", KIND_TEXT, AT(access_log) },
        { "level", KIND_VALUE, .read = read_log_level },
        { "format", KIND_FLAG_CHOICE, AT(log_json), .choices = "text|json" },
        { NULL },
    };
    return read_map(r, value, "log", fields, object);
}

static rp_status
read_encoder(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "model", KIND_TEXT, AT(encoder_model) },
        { "adapter", KIND_TEXT, AT(encoder_adapter) },
        { "precision", KIND_CHOICE, AT(encoder_precision), .choices = "auto|f32|bf16|int8" },
        { "tier", KIND_TEXT, AT(encoder_tier) },
        { "threads", KIND_COUNT, AT(pool_threads), 1, 256 },
        { "dim", KIND_COUNT, AT(encoder_dim), 1, RP_DIM_MAX },
        { "window", KIND_COUNT, AT(encoder_window), 4, 1 << 16 },
        { NULL },
    };
    return read_map(r, value, "encoder", fields, object);
}

static rp_status
read_verifier(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "model", KIND_TEXT, AT(verifier_model) },
        { "adapter", KIND_TEXT, AT(verifier_adapter) },
        { "precision", KIND_CHOICE, AT(verifier_precision), .choices = "auto|f32|bf16|int8" },
        { NULL },
    };
    return read_map(r, value, "verifier", fields, object);
}

/* The host of "host[:port][/prefix]" is there, and the port is one. */
static bool
has_host(rp_str rest)
{
    const char *slash = memchr(rest.ptr, '/', rest.len);
    const rp_str authority = { rest.ptr, slash ? (size_t)(slash - rest.ptr) : rest.len };
    const char *colon = memrchr(authority.ptr, ':', authority.len);
    const char *bracket = memrchr(authority.ptr, ']', authority.len);
    uint64_t port = 1;
    if (colon && (!bracket || colon > bracket)) {
        const rp_str digits = { colon + 1, (size_t)(authority.ptr + authority.len - colon - 1) };
        return colon > authority.ptr && rp_str_to_u64(digits, &port) && port > 0 && port <= 65535;
    }
    return authority.len > 0;
}

/* "https://host[:port][/prefix]"; a trailing "/" or "/v1" is dropped, for requests
 * bring their own full path. A name and a password in it would be shown wherever the address
 * is, and not be sent: they are refused, without being repeated. */
static rp_status
read_url(reader *r, const rp_yaml *value, void *object)
{
    rp_str url = value->text;
    const bool is_http = rp_str_starts_with(url, RP_STR("http://"));
    const size_t scheme = is_http ? 7 : 8;
    if (value->type == RP_YAML_SCALAR && url.len && memchr(url.ptr, '@', url.len))
        return rp_fail(r->error, RP_ERR_INVALID,
                       "%s:%zu:%zu: url: found '@', expected an address without a name and password "
                       "(a tenant's upstream_key is what is sent)", r->name, value->line, value->column);
    if (value->type != RP_YAML_SCALAR || (!is_http && !rp_str_starts_with(url, RP_STR("https://"))) ||
        url.len <= scheme || !has_host((rp_str){ url.ptr + scheme, url.len - scheme }) ||
        strcspn(url.ptr, " \t\r\n?#") != url.len)
        return fail_value(r, value, "url", "an http:// or https:// address without a query");
    while (rp_str_ends_with(url, RP_STR("/")))
        url.len--;
    if (rp_str_ends_with(url, RP_STR("/v1"))) {
        url.len -= 3;
        ((rp_upstream_config *)object)->version_dropped = true;
    }
    url = rp_arena_copy(r->arena, url);
    if (!url.ptr)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    ((rp_upstream_config *)object)->url = url.ptr;
    return RP_OK;
}

static rp_status
read_protocols(reader *r, const rp_yaml *value, void *object)
{
    rp_upstream_config *upstream = object;
    upstream->protocols = 0;
    if (value->type != RP_YAML_LIST || !value->first)
        return fail_value(r, value, "protocols", "a list of openai, anthropic");
    for (const rp_yaml *item = value->first; item; item = item->next) {
        const int at = item->type == RP_YAML_SCALAR ? find_choice("openai|anthropic", item->text) : -1;
        if (at < 0)
            return fail_value(r, item, "protocols", "one of openai|anthropic");
        upstream->protocols |= at == 0 ? RP_PROTOCOL_OPENAI : RP_PROTOCOL_ANTHROPIC;
    }
    return RP_OK;
}

static void
set_upstream_defaults(rp_upstream_config *upstream)
{
    *upstream = (rp_upstream_config){
        .name = "default",
        .protocols = RP_PROTOCOL_OPENAI | RP_PROTOCOL_ANTHROPIC,
        .connect_timeout_us = 10 * 1000000ll,
        .first_byte_timeout_us = 600 * 1000000ll,
        .idle_timeout_us = 300 * 1000000ll,
        .connections_max = 256,
    };
}

static rp_status
read_upstreams(reader *r, const rp_yaml *value, void *object)
{
#define UP(member) offsetof(rp_upstream_config, member)
    static const field fields[] = {
        { "name", KIND_TEXT, UP(name) },
        { "url", KIND_VALUE, .read = read_url },
        { "protocols", KIND_VALUE, .read = read_protocols },
        { "connect_timeout", KIND_DURATION, UP(connect_timeout_us), 0.001, 600 },
        { "first_byte_timeout", KIND_DURATION, UP(first_byte_timeout_us), 0.001, 86400 },
        { "idle_timeout", KIND_DURATION, UP(idle_timeout_us), 0.001, 86400 },
        { "connections_max", KIND_COUNT64, UP(connections_max), 1, 65536 },
        { "proxy", KIND_TEXT, UP(proxy) },
        { "certificate_authorities", KIND_TEXT, UP(certificate_authorities) },
        { NULL },
    };
    rp_config *config = object;
    if (value->type != RP_YAML_LIST)
        return fail_value(r, value, "upstreams", "a list");
    rp_upstream_config *list =
        rp_arena_calloc(r->arena, count_children(value) + 1, sizeof *list);
    if (!list)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    size_t count = 0;
    for (const rp_yaml *item = value->first; item; item = item->next, count++) {
        set_upstream_defaults(&list[count]);
        const rp_status status = read_map(r, item, "upstreams", fields, &list[count]);
        if (status != RP_OK)
            return status;
        if (!list[count].url)
            return fail_value(r, item, "upstreams", "a url");
        for (size_t i = 0; i < count; i++)
            if (strcmp(list[i].name, list[count].name) == 0)
                return fail_value(r, item, "upstreams", "names that differ");
    }
    config->upstreams = list;
    config->upstream_count = count;
    return RP_OK;
}

static rp_status
find_upstream(reader *r, const rp_yaml *value, int *out)
{
    for (size_t i = 0; value->type == RP_YAML_SCALAR && i < r->config->upstream_count; i++)
        if (rp_str_equal(rp_str_of(r->config->upstreams[i].name), value->text)) {
            *out = (int)i;
            return RP_OK;
        }
    return fail_value(r, value, "upstream", "the name of one of the upstreams");
}

static rp_status
read_tenant_upstream(reader *r, const rp_yaml *value, void *object)
{
    return find_upstream(r, value, &((rp_tenant_config *)object)->upstream);
}

static rp_status
read_tenant_keys(reader *r, const rp_yaml *value, void *object)
{
    rp_tenant_config *tenant = object;
    if (value->type != RP_YAML_LIST) /* what was found is a key: it is not repeated */
        return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu:%zu: keys: expected a list of keys", r->name,
                       value->line, value->column);
    tenant->keys = rp_arena_calloc(r->arena, count_children(value) + 1, sizeof *tenant->keys);
    if (!tenant->keys)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    for (const rp_yaml *item = value->first; item; item = item->next) {
        if (item->type != RP_YAML_SCALAR || item->text.len < 8)
            return rp_fail(r->error, RP_ERR_INVALID,
                           "%s:%zu:%zu: keys: a key must have at least 8 characters", r->name,
                           item->line, item->column);
        tenant->keys[tenant->key_count++] = item->text.ptr;
    }
    return RP_OK;
}

static bool
is_plain_name(const char *name)
{
    const size_t size = strlen(name);
    return size > 0 && size <= RP_TENANT_SIZE_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == size;
}

/* One credential may mean only one tenant, or two tenants would share answers. */
static bool
repeats_a_key(const rp_tenant_config *tenants, size_t count)
{
    const rp_tenant_config *last = &tenants[count];
    for (size_t k = 0; k < last->key_count; k++)
        for (size_t i = 0; i <= count; i++)
            for (size_t j = 0; j < (i < count ? tenants[i].key_count : k); j++)
                if (strcmp(tenants[i].keys[j], last->keys[k]) == 0)
                    return true;
    return false;
}

static rp_status
read_tenants(reader *r, const rp_yaml *value, void *object)
{
#define TEN(member) offsetof(rp_tenant_config, member)
    static const field fields[] = {
        { "name", KIND_TEXT, TEN(name) },
        { "keys", KIND_VALUE, .read = read_tenant_keys },
        { "anonymous", KIND_FLAG, TEN(anonymous) },
        { "upstream", KIND_VALUE, .read = read_tenant_upstream },
        { "upstream_key", KIND_TEXT, TEN(upstream_key) },
        { "hide_similarity", KIND_FLAG, TEN(hide_similarity) },
        { "share_max", KIND_NUMBER, TEN(share_max), 0.001, 1 },
        { NULL },
    };
    rp_config *config = object;
    if (value->type != RP_YAML_LIST)
        return fail_value(r, value, "tenants", "a list");
    rp_tenant_config *list = rp_arena_calloc(r->arena, count_children(value) + 1, sizeof *list);
    if (!list)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    size_t count = 0;
    for (const rp_yaml *item = value->first; item; item = item->next, count++) {
        list[count] = (rp_tenant_config){ .upstream = -1, .share_namespaces = true };
        const rp_status status = read_map(r, item, "tenants", fields, &list[count]);
        if (status != RP_OK)
            return status;
        if (!list[count].name || !is_plain_name(list[count].name))
            return fail_value(r, item, "tenants", "a name of letters, digits, '.', '_' and '-'");
        if (list[count].key_count == 0 && !list[count].anonymous)
            return fail_value(r, item, "tenants", "keys, or anonymous: true");
        for (size_t i = 0; i < count; i++)
            if (strcmp(list[i].name, list[count].name) == 0 ||
                (list[i].anonymous && list[count].anonymous))
                return fail_value(r, item, "tenants", "names that differ, and one anonymous at most");
        if (repeats_a_key(list, count))
            return fail_value(r, item, "tenants", "keys that no other tenant has");
    }
    config->tenants = list;
    config->tenant_count = count;
    return RP_OK;
}

static rp_status
read_prices(reader *r, const rp_yaml *value, void *object)
{
#define PR(member) offsetof(rp_price_config, member)
    static const field fields[] = {
        { "model", KIND_TEXT, PR(model) },
        { "input", KIND_NUMBER, PR(input_usd), 0, 1e6 },
        { "output", KIND_NUMBER, PR(output_usd), 0, 1e6 },
        { NULL },
    };
    rp_config *config = object;
    if (value->type != RP_YAML_LIST)
        return fail_value(r, value, "prices", "a list");
    rp_price_config *list = rp_arena_calloc(r->arena, count_children(value) + 1, sizeof *list);
    if (!list)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    size_t count = 0;
    for (const rp_yaml *item = value->first; item; item = item->next, count++) {
        const rp_status status = read_map(r, item, "prices", fields, &list[count]);
        if (status != RP_OK)
            return status;
        if (!list[count].model)
            return fail_value(r, item, "prices", "a model (a name, or a pattern with *)");
    }
    config->prices = list;
    config->price_count = count;
    return RP_OK;
}

/* ---- routes ----------------------------------------------------------------- */

#define RO(member) offsetof(rp_route_config, member)

static rp_status
read_header_value(reader *r, const rp_yaml *value, void *object)
{
    static const field text = { "value", KIND_TEXT, 0 };
    rp_route_config *route = object;
    if (value->type != RP_YAML_SCALAR)
        return fail_value(r, value, "value", "a single value");
    route->match_header_secret = value->from_environment;
    return read_scalar(r, &text, value, &route->match_header_value);
}

static rp_status
read_match_header(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "name", KIND_TEXT, RO(match_header) },
        { "value", KIND_VALUE, .read = read_header_value },
        { NULL },
    };
    const rp_status status = read_map(r, value, "match.header", fields, object);
    if (status == RP_OK && !((rp_route_config *)object)->match_header)
        return fail_value(r, value, "match.header", "a name");
    return status;
}

static rp_status
read_match(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "path", KIND_TEXT, RO(match_path) },
        { "model", KIND_TEXT, RO(match_model) },
        { "header", KIND_SECTION, .read = read_match_header },
        { "namespace", KIND_TEXT, RO(match_namespace) },
        { "tenant", KIND_TEXT, RO(match_tenant) },
        { NULL },
    };
    return read_map(r, value, "match", fields, object);
}

static rp_status
read_tiers(reader *r, const rp_yaml *value, void *object)
{
    rp_route_config *route = object;
    route->exact = route->semantic = false;
    if (value->type != RP_YAML_LIST)
        return fail_value(r, value, "tiers", "a list of exact, semantic");
    for (const rp_yaml *item = value->first; item; item = item->next) {
        const int at = item->type == RP_YAML_SCALAR ? find_choice("exact|semantic", item->text) : -1;
        if (at < 0)
            return fail_value(r, item, "tiers", "one of exact|semantic");
        *(at == 0 ? &route->exact : &route->semantic) = true;
    }
    return RP_OK;
}

static rp_status
read_keep_finish(reader *r, const rp_yaml *value, void *object)
{
    rp_route_config *route = object;
    route->keep_length = route->keep_filtered = false;
    if (value->type != RP_YAML_LIST)
        return fail_value(r, value, "keep_finish", "a list of length, content_filter");
    for (const rp_yaml *item = value->first; item; item = item->next) {
        const int at =
            item->type == RP_YAML_SCALAR ? find_choice("length|content_filter", item->text) : -1;
        if (at < 0)
            return fail_value(r, item, "keep_finish", "one of length|content_filter");
        *(at == 0 ? &route->keep_length : &route->keep_filtered) = true;
    }
    return RP_OK;
}

static rp_status
read_policy(reader *r, const rp_yaml *value, void *object)
{
    rp_policy *policy = NULL;
    rp_error error = { { 0 } };
    if (value->type != RP_YAML_SCALAR)
        return fail_value(r, value, "policy", "NAME[:key=value,...]");
    if (rp_policy_new(value->text, NAN, &policy, &error) != RP_OK)
        return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu:%zu: policy: %s", r->name, value->line,
                       value->column, error.text);
    rp_policy_free(policy);
    ((rp_route_config *)object)->policy = value->text.ptr;
    return RP_OK;
}

/* In the order of rp_collision_check. */
#define COLLISION_CHECKS "off|hits|admission"

static rp_status
read_cache(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "tiers", KIND_VALUE, .read = read_tiers },
        { "policy", KIND_VALUE, .read = read_policy },
        { "error_max", KIND_NUMBER, RO(error_max), 1e-6, 0.5 },
        { "min_similarity", KIND_NUMBER, RO(min_similarity), -1, 1 },
        { "ttl", KIND_DURATION, RO(ttl_us), 0, 1e9 },
        { "ttl_max", KIND_DURATION, RO(ttl_max_us), 0, 1e9 },
        { "mode", KIND_CHOICE, RO(mode), .choices = "serve|shadow|off" },
        { "category", KIND_TEXT, RO(category) },
        { "isolate", KIND_FLAG_CHOICE, RO(isolate_user), .choices = "none|user" },
        { "share_wires", KIND_FLAG, RO(share_wires) },
        { "gates", KIND_FLAG_CHOICE, RO(strict_gates), .choices = "default|strict" },
        { "templates", KIND_FLAG, RO(templates) },
        { "collision_check", KIND_CHOICE, RO(collision_check), .choices = COLLISION_CHECKS },
        { "temperature_max", KIND_NUMBER, RO(temperature_max), 0, 100 },
        { "keep_finish", KIND_VALUE, .read = read_keep_finish },
        { "volatile_ttl", KIND_DURATION, RO(volatile_ttl_us), 0, 1e9 },
        { NULL },
    };
    return read_map(r, value, "cache", fields, object);
}

static rp_status
read_route_upstream(reader *r, const rp_yaml *value, void *object)
{
    return find_upstream(r, value, &((rp_route_config *)object)->upstream);
}

static void
set_route_defaults(rp_route_config *route)
{
    *route = (rp_route_config){
        .name = "default",
        .upstream = -1,
        .mode = RP_MODE_SERVE,
        .exact = true,
        .collision_check = RP_COLLISION_CHECK_HITS,
        .semantic = true,
        .policy = "calibrated",
        .error_max = NAN,
        .min_similarity = NAN,
        .ttl_us = 24 * 3600 * 1000000ll,
        .temperature_max = 1.0,
        .volatile_ttl_us = 600 * 1000000ll,
    };
}

static rp_status
read_routes(reader *r, const rp_yaml *value, void *object)
{
    static const field fields[] = {
        { "name", KIND_TEXT, RO(name) },
        { "match", KIND_SECTION, .read = read_match },
        { "upstream", KIND_VALUE, .read = read_route_upstream },
        { "cache", KIND_SECTION, .read = read_cache },
        { NULL },
    };
    rp_config *config = object;
    if (value && value->type != RP_YAML_LIST)
        return fail_value(r, value, "routes", "a list");
    const size_t listed = value ? count_children(value) : 0;
    rp_route_config *list = rp_arena_calloc(r->arena, listed + 1, sizeof *list);
    if (!list)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    size_t count = 0;
    for (const rp_yaml *item = value ? value->first : NULL; item; item = item->next, count++) {
        set_route_defaults(&list[count]);
        list[count].name = rp_arena_printf(r->arena, "route%zu", count + 1).ptr;
        const rp_status status = read_map(r, item, "routes", fields, &list[count]);
        if (status != RP_OK)
            return status;
        if (!list[count].name || !is_plain_name(list[count].name))
            return fail_value(r, item, "routes", "a name of letters, digits, '.', '_' and '-'");
    }
    set_route_defaults(&list[count++]); /* what no route matched */
    config->routes = list;
    config->route_count = count;
    return RP_OK;
}

/* ---- the whole -------------------------------------------------------------- */

static rp_status
read_later(reader *r, const rp_yaml *value, void *object)
{
    (void)r, (void)value, (void)object;
    return RP_OK;
}

/* What a cache needs at least: half of it is the store's, which needs 4 MiB (store.c). */
enum { MEMORY_MIN = 8 << 20 };

static const field top_fields[] = {
    { "listen", KIND_VALUE, .read = read_listen },
    { "tls", KIND_SECTION, .read = read_tls },
    { "admin", KIND_SECTION, .read = read_admin },
    { "data", KIND_TEXT, AT(data) },
    { "memory_max", KIND_SIZE, AT(memory_max), MEMORY_MIN, 0x1p50 },
    { "disk_max", KIND_SIZE, AT(disk_max), RP_DISK_MIN, 0x1p50 },
    { "vectors", KIND_FLAG_CHOICE, AT(vectors_on_disk), .choices = "memory|disk" },
    { "lookup_deadline", KIND_DURATION, AT(lookup_deadline_us), 0.0001, 60 },
    { "judge_deadline", KIND_DURATION, AT(judge_deadline_us), 0.001, 60 },
    { "finish_on_disconnect", KIND_FLAG, AT(finish_on_disconnect) },
    { "usage_on_hit", KIND_FLAG_CHOICE, AT(usage_zero), .choices = "original|zero" },
    { "cacheable_max", KIND_SIZE, AT(cacheable_max), 1024, 0x1p30 },
    { "body_max", KIND_SIZE, AT(body_max), 1024, 0x1p40 },
    { "credential_ttl", KIND_DURATION, AT(credential_ttl_us), 0, 1e9 },
    { "threads", KIND_SECTION, .read = read_threads },
    { "connections_max", KIND_COUNT64, AT(connections_max), 1, 1 << 20 },
    { "head_timeout", KIND_DURATION, AT(head_timeout_us), 0.01, 3600 },
    { "body_timeout", KIND_DURATION, AT(body_timeout_us), 0.01, 86400 },
    { "idle_timeout", KIND_DURATION, AT(idle_timeout_us), 0.01, 86400 },
    { "drain_timeout", KIND_DURATION, AT(drain_timeout_us), 0, 3600 },
    { "cors", KIND_SECTION, .read = read_cors },
    { "emit_aliases", KIND_FLAG, AT(emit_aliases) },
    { "seed", KIND_SEED, AT(seed) },
    { "log", KIND_SECTION, .read = read_log },
    { "encoder", KIND_SECTION, .read = read_encoder },
    { "verifier", KIND_SECTION, .read = read_verifier },
    { "prices", KIND_VALUE, .read = read_prices },
    /* These name one another, so they are read in that order after the rest. */
    { "upstreams", KIND_VALUE, .read = read_later },
    { "tenants", KIND_VALUE, .read = read_later },
    { "routes", KIND_VALUE, .read = read_later },
    { NULL },
};

static rp_status
set_defaults(reader *r)
{
    const char *state = getenv("STATE_DIRECTORY"); /* given by systemd */
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    rp_str data;
    if (state && *state)
        data = rp_arena_copy(r->arena, rp_str_of(state));
    else if (xdg && *xdg)
        data = rp_arena_printf(r->arena, "%s/reprise", xdg);
    else
        data = rp_arena_printf(r->arena, "%s/.local/state/reprise", home && *home ? home : ".");
    if (!data.ptr)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for the configuration");
    *r->config = (rp_config){
        .listen = "127.0.0.1:8080",
        .admin_listen = "127.0.0.1:8081",
        .data = data.ptr,
        .memory_max = 2ull << 30,
        .disk_max = 20ull << 30,
        .lookup_deadline_us = 50 * 1000,
        .judge_deadline_us = 350 * 1000,
        .cacheable_max = RP_CACHEABLE_SIZE_MAX,
        .body_max = 64 << 20,
        .credential_ttl_us = 24 * 3600 * 1000000ll,
        .connections_max = 16384,
        .head_timeout_us = 10 * 1000000ll,
        .body_timeout_us = 60 * 1000000ll,
        .idle_timeout_us = 120 * 1000000ll,
        .drain_timeout_us = 30 * 1000000ll,
        .access_log = "off",
        .log_level = "info",
        .encoder_model = "all-MiniLM-L6-v2",
        .encoder_precision = RP_PRECISION_AUTO,
    };
    return RP_OK;
}

static const rp_yaml *
find_child(const rp_yaml *map, const char *key)
{
    for (const rp_yaml *child = map->first; child; child = child->next)
        if (rp_str_equal(child->key, rp_str_of(key)))
            return child;
    return NULL;
}

/* A flag is read as if it stood in a file called by its name. */
static rp_status
read_flag(reader *r, const char *flag, const char *text, read_function *read, void *object)
{
    if (!text)
        return RP_OK;
    const rp_str copy = rp_arena_copy(r->arena, rp_str_of(text));
    const rp_yaml value = { .type = RP_YAML_SCALAR, .text = copy, .line = 1, .column = 1 };
    reader by_flag = *r;
    by_flag.name = flag;
    return copy.ptr ? read(&by_flag, &value, object) : RP_ERR_NOMEM;
}

static rp_status
read_mode_flag(reader *r, const rp_yaml *value, void *object)
{
    static const field mode = { "mode", KIND_CHOICE, 0, .choices = "serve|shadow|off" };
    return read_scalar(r, &mode, value, &((rp_route_config *)object)->mode);
}

static rp_status
read_seed_flag(reader *r, const rp_yaml *value, void *object)
{
    static const field seed = { "seed", KIND_SEED, 0 };
    return read_scalar(r, &seed, value, &((rp_config *)object)->seed);
}

/* --upstream makes one upstream that takes the place of the file's. */
static rp_status
read_upstream_flag(reader *r, const char *url)
{
    if (!url)
        return RP_OK;
    rp_upstream_config *upstream = rp_arena_calloc(r->arena, 1, sizeof *upstream);
    if (!upstream)
        return rp_fail(r->error, RP_ERR_NOMEM, "no memory for the configuration");
    set_upstream_defaults(upstream);
    const rp_status status = read_flag(r, "--upstream", url, read_url, upstream);
    r->config->upstreams = upstream;
    r->config->upstream_count = 1;
    return status;
}

static rp_status
apply_route_flags(reader *r, const rp_config_flags *flags)
{
    rp_route_config *routes = (rp_route_config *)r->config->routes; /* still ours to change */
    for (size_t i = 0; i < r->config->route_count; i++) {
        rp_status status = read_flag(r, "--policy", flags->policy, read_policy, &routes[i]);
        if (status == RP_OK)
            status = read_flag(r, "--mode", flags->mode, read_mode_flag, &routes[i]);
        if (status != RP_OK)
            return status;
    }
    return RP_OK;
}

static rp_status
read_all(reader *r, const rp_yaml *root, const rp_config_flags *flags)
{
    static const rp_config_flags none;
    flags = flags ? flags : &none;
    rp_config *config = r->config;
    rp_status status = set_defaults(r);
    if (status == RP_OK)
        status = read_map(r, root, "the configuration", top_fields, config);
    if (status == RP_OK)
        status = read_flag(r, "--listen", flags->listen, read_listen, config);
    if (status == RP_OK)
        status = read_flag(r, "--admin", flags->admin, read_admin_listen, config);
    if (status == RP_OK)
        status = read_flag(r, "--seed", flags->seed, read_seed_flag, config);
    if (status != RP_OK)
        return status;
    if (flags->data && !(config->data = rp_arena_copy(r->arena, rp_str_of(flags->data)).ptr))
        return RP_ERR_NOMEM;
    if (flags->model &&
        !(config->encoder_model = rp_arena_copy(r->arena, rp_str_of(flags->model)).ptr))
        return RP_ERR_NOMEM;
    config->encoder_off = strcmp(config->encoder_model, "none") == 0;
    const char **const optional[] = { &config->encoder_adapter, &config->verifier_model,
                                      &config->verifier_adapter };
    for (size_t i = 0; i < RP_COUNT(optional); i++)
        if (*optional[i] && strcmp(*optional[i], "none") == 0)
            *optional[i] = NULL;

    const rp_yaml *upstreams = find_child(root, "upstreams");
    const rp_yaml *tenants = find_child(root, "tenants");
    if (upstreams && !flags->upstream)
        status = read_upstreams(r, upstreams, config);
    if (status == RP_OK)
        status = read_upstream_flag(r, flags->upstream);
    if (status == RP_OK && tenants)
        status = read_tenants(r, tenants, config);
    if (status == RP_OK)
        status = read_routes(r, find_child(root, "routes"), config);
    return status == RP_OK ? apply_route_flags(r, flags) : status;
}

rp_status
rp_config_parse(rp_str yaml, const char *name, const rp_config_flags *flags, const rp_config **out,
                rp_error *error)
{
    loaded *made = calloc(1, sizeof *made);
    if (!made)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the configuration");
    rp_arena_init(&made->arena, 0);
    atomic_init(&made->references, 1);
    reader r = { name, &made->arena, error, &made->config };
    const rp_yaml *root = NULL;
    rp_status status = rp_yaml_parse(yaml, name, &made->arena, &root, error);
    if (status == RP_OK)
        status = read_all(&r, root, flags);
    if (status == RP_OK)
        *out = &made->config;
    else
        rp_config_unref(&made->config);
    return status;
}

rp_status
rp_config_load(const char *path, const rp_config_flags *flags, const rp_config **out,
               rp_error *error)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_status status = path ? rp_file_read(path, 1 << 20, &bytes, error) : RP_OK;
    if (status == RP_OK)
        status = rp_config_parse(rp_buffer_str(&bytes), path ? path : "defaults", flags, out, error);
    rp_buffer_fini(&bytes);
    return status;
}

const rp_config *
rp_config_ref(const rp_config *config)
{
    /* Relaxed: whoever takes a reference already holds one. */
    atomic_fetch_add_explicit(&((loaded *)config)->references, 1, memory_order_relaxed);
    return config;
}

void
rp_config_unref(const rp_config *config)
{
    loaded *made = (loaded *)config;
    /* Release our reads before, acquire everybody's, the last one frees. */
    if (made && atomic_fetch_sub_explicit(&made->references, 1, memory_order_acq_rel) == 1) {
        rp_arena_fini(&made->arena);
        free(made);
    }
}

/* ---- matching --------------------------------------------------------------- */

static bool
glob_matches(const char *pattern, rp_str text)
{
    return !pattern || rp_str_matches_glob(text, rp_str_of(pattern));
}

const rp_price_config *
rp_config_price(const rp_config *config, rp_str model)
{
    for (size_t i = 0; i < config->price_count; i++)
        if (glob_matches(config->prices[i].model, model))
            return &config->prices[i];
    return NULL;
}

const rp_route_config *
rp_config_route(const rp_config *config, rp_str path, rp_str model, rp_str tenant,
                rp_str namespace_name, rp_config_header_of *header_of, void *context)
{
    size_t at = 0;
    for (; at + 1 < config->route_count; at++) {
        const rp_route_config *route = &config->routes[at];
        if (!glob_matches(route->match_path, path) || !glob_matches(route->match_model, model))
            continue;
        if (route->match_tenant && !rp_str_equal(rp_str_of(route->match_tenant), tenant))
            continue;
        if (route->match_namespace &&
            !rp_str_equal(rp_str_of(route->match_namespace), namespace_name))
            continue;
        if (route->match_header) {
            const rp_str value =
                header_of ? header_of(context, route->match_header) : (rp_str){ NULL, 0 };
            if (!value.ptr || !glob_matches(route->match_header_value, value))
                continue;
        }
        break;
    }
    return &config->routes[at];
}

/* ---- printing --------------------------------------------------------------- */

static void
print_text(rp_buffer *out, const char *indent, const char *key, const char *value)
{
    if (!value)
        return;
    rp_buffer_printf(out, "%s%s: \"", indent, key);
    for (const char *c = value; *c; c++)
        rp_buffer_printf(out, (unsigned char)*c < 0x20       ? "\\x%02x"
                              : *c == '"' || *c == '\\' ? "\\%c"
                                                        : "%c", *c);
    rp_buffer_append(out, RP_STR("\"\n"));
}

static void
print_duration(rp_buffer *out, const char *indent, const char *key, int64_t us)
{
    if (us % 1000000 == 0)
        rp_buffer_printf(out, "%s%s: %" PRId64 "s\n", indent, key, us / 1000000);
    else
        rp_buffer_printf(out, "%s%s: %" PRId64 "us\n", indent, key, us);
}

static void
print_count(rp_buffer *out, const char *indent, const char *key, size_t count)
{
    if (count)
        rp_buffer_printf(out, "%s%s: %zu\n", indent, key, count);
    else
        rp_buffer_printf(out, "%s%s: auto\n", indent, key);
}

static void
print_upstream(rp_buffer *out, const rp_upstream_config *upstream)
{
    print_text(out, "  - ", "name", upstream->name);
    print_text(out, "    ", "url", upstream->url);
    rp_buffer_printf(out, "    protocols: [%s%s%s]\n",
                     upstream->protocols & RP_PROTOCOL_OPENAI ? "openai" : "",
                     upstream->protocols == (RP_PROTOCOL_OPENAI | RP_PROTOCOL_ANTHROPIC) ? ", " : "",
                     upstream->protocols & RP_PROTOCOL_ANTHROPIC ? "anthropic" : "");
    print_duration(out, "    ", "connect_timeout", upstream->connect_timeout_us);
    print_duration(out, "    ", "first_byte_timeout", upstream->first_byte_timeout_us);
    print_duration(out, "    ", "idle_timeout", upstream->idle_timeout_us);
    print_count(out, "    ", "connections_max", upstream->connections_max);
    print_text(out, "    ", "proxy", upstream->proxy ? "***" : NULL); /* may hold a password */
    print_text(out, "    ", "certificate_authorities", upstream->certificate_authorities);
}

static void
print_tenant(rp_buffer *out, const rp_config *config, const rp_tenant_config *tenant)
{
    print_text(out, "  - ", "name", tenant->name);
    if (tenant->key_count) {
        rp_buffer_append(out, RP_STR("    keys: ["));
        for (size_t i = 0; i < tenant->key_count; i++)
            rp_buffer_append(out, i ? RP_STR(", \"***\"") : RP_STR("\"***\""));
        rp_buffer_append(out, RP_STR("]\n"));
    }
    rp_buffer_printf(out, "    anonymous: %s\n", tenant->anonymous ? "true" : "false");
    if (tenant->upstream >= 0)
        print_text(out, "    ", "upstream", config->upstreams[tenant->upstream].name);
    print_text(out, "    ", "upstream_key", tenant->upstream_key ? "***" : NULL);
    rp_buffer_printf(out, "    hide_similarity: %s\n", tenant->hide_similarity ? "true" : "false");
    if (tenant->share_max > 0)
        rp_buffer_printf(out, "    share_max: %.15g\n", tenant->share_max);
}

static void
print_match(rp_buffer *out, const rp_route_config *route)
{
    if (!route->match_path && !route->match_model && !route->match_namespace &&
        !route->match_tenant && !route->match_header)
        return;
    rp_buffer_append(out, RP_STR("    match:\n"));
    print_text(out, "      ", "path", route->match_path);
    print_text(out, "      ", "model", route->match_model);
    print_text(out, "      ", "namespace", route->match_namespace);
    print_text(out, "      ", "tenant", route->match_tenant);
    if (route->match_header) {
        rp_buffer_append(out, RP_STR("      header:\n"));
        print_text(out, "        ", "name", route->match_header);
        print_text(out, "        ", "value",
                   route->match_header_secret ? "***" : route->match_header_value);
    }
}

static void
print_route(rp_buffer *out, const rp_config *config, const rp_route_config *route)
{
    static const char *const modes[] = { "serve", "shadow", "off" };
    static const char *const collision_checks[] = { "off", "hits", "admission" };
    print_text(out, "  - ", "name", route->name);
    print_match(out, route);
    if (route->upstream >= 0)
        print_text(out, "    ", "upstream", config->upstreams[route->upstream].name);
    rp_buffer_printf(out, "    cache:\n      tiers: [%s%s%s]\n", route->exact ? "exact" : "",
                     route->exact && route->semantic ? ", " : "", route->semantic ? "semantic" : "");
    print_text(out, "      ", "policy", route->policy);
    if (!isnan(route->error_max))
        rp_buffer_printf(out, "      error_max: %.15g\n", route->error_max);
    if (!isnan(route->min_similarity))
        rp_buffer_printf(out, "      min_similarity: %.15g\n", route->min_similarity);
    print_duration(out, "      ", "ttl", route->ttl_us);
    print_duration(out, "      ", "ttl_max", route->ttl_max_us);
    rp_buffer_printf(out, "      mode: %s\n", modes[route->mode]);
    print_text(out, "      ", "category", route->category);
    rp_buffer_printf(out, "      isolate: %s\n", route->isolate_user ? "user" : "none");
    rp_buffer_printf(out, "      share_wires: %s\n", route->share_wires ? "true" : "false");
    rp_buffer_printf(out, "      gates: %s\n", route->strict_gates ? "strict" : "default");
    rp_buffer_printf(out, "      collision_check: %s\n", collision_checks[route->collision_check]);
    rp_buffer_printf(out, "      templates: %s\n", route->templates ? "true" : "false");
    rp_buffer_printf(out, "      temperature_max: %.15g\n", route->temperature_max);
    rp_buffer_printf(out, "      keep_finish: [%s%s%s]\n", route->keep_length ? "length" : "",
                     route->keep_length && route->keep_filtered ? ", " : "",
                     route->keep_filtered ? "content_filter" : "");
    print_duration(out, "      ", "volatile_ttl", route->volatile_ttl_us);
}

static void
print_tls(rp_buffer *out, const char *indent, const char *certificate, const char *key)
{
    if (!certificate)
        return;
    rp_buffer_printf(out, "%stls:\n", indent);
    print_text(out, *indent ? "    " : "  ", "certificate", certificate);
    print_text(out, *indent ? "    " : "  ", "key", key);
}

void
rp_config_print(const rp_config *config, rp_buffer *out)
{
    static const char *const precisions[] = { "auto", "f32", "bf16", "int8" };
    print_text(out, "", "listen", config->listen);
    print_tls(out, "", config->tls_certificate, config->tls_key);
    rp_buffer_append(out, RP_STR("admin:\n"));
    print_text(out, "  ", "listen", config->admin_listen);
    print_text(out, "  ", "token", config->admin_token ? "***" : NULL);
    print_tls(out, "  ", config->admin_tls_certificate, config->admin_tls_key);
    print_text(out, "", "data", config->data);
    rp_buffer_printf(out, "memory_max: %" PRIu64 "\ndisk_max: %" PRIu64 "\nvectors: %s\n",
                     config->memory_max, config->disk_max,
                     config->vectors_on_disk ? "disk" : "memory");
    print_duration(out, "", "lookup_deadline", config->lookup_deadline_us);
    print_duration(out, "", "judge_deadline", config->judge_deadline_us);
    rp_buffer_printf(out, "finish_on_disconnect: %s\nusage_on_hit: %s\n",
                     config->finish_on_disconnect ? "true" : "false",
                     config->usage_zero ? "zero" : "original");
    rp_buffer_printf(out, "cacheable_max: %" PRIu64 "\nbody_max: %" PRIu64 "\n",
                     config->cacheable_max, config->body_max);
    print_duration(out, "", "credential_ttl", config->credential_ttl_us);
    rp_buffer_append(out, RP_STR("threads:\n"));
    print_count(out, "  ", "loops", config->loop_threads);
    print_count(out, "  ", "pool", config->pool_threads);
    print_count(out, "", "connections_max", config->connections_max);
    print_duration(out, "", "head_timeout", config->head_timeout_us);
    print_duration(out, "", "body_timeout", config->body_timeout_us);
    print_duration(out, "", "idle_timeout", config->idle_timeout_us);
    print_duration(out, "", "drain_timeout", config->drain_timeout_us);
    if (config->cors) {
        rp_buffer_append(out, RP_STR("cors:\n"));
        print_text(out, "  ", "origin", config->cors_origin);
    }
    rp_buffer_printf(out, "emit_aliases: %s\nseed: %" PRIu64 "\n",
                     config->emit_aliases ? "true" : "false", config->seed);
    rp_buffer_append(out, RP_STR("log:\n"));
    print_text(out, "  ", "access", config->access_log);
    print_text(out, "  ", "level", config->log_level);
    rp_buffer_printf(out, "  format: %s\nencoder:\n", config->log_json ? "json" : "text");
    print_text(out, "  ", "model", config->encoder_model);
    print_text(out, "  ", "adapter", config->encoder_adapter ? config->encoder_adapter : "none");
    rp_buffer_printf(out, "  precision: %s\n", precisions[config->encoder_precision]);
    print_text(out, "  ", "tier", config->encoder_tier);
    print_count(out, "  ", "dim", config->encoder_dim);
    print_count(out, "  ", "window", config->encoder_window);
    rp_buffer_append(out, RP_STR("verifier:\n"));
    print_text(out, "  ", "model", config->verifier_model ? config->verifier_model : "none");
    print_text(out, "  ", "adapter", config->verifier_adapter ? config->verifier_adapter : "none");
    rp_buffer_printf(out, "  precision: %s\n", precisions[config->verifier_precision]);
    if (config->price_count)
        rp_buffer_append(out, RP_STR("prices:\n"));
    for (size_t i = 0; i < config->price_count; i++) {
        print_text(out, "  - ", "model", config->prices[i].model);
        rp_buffer_printf(out, "    input: %.15g\n    output: %.15g\n", config->prices[i].input_usd,
                         config->prices[i].output_usd);
    }
    if (config->upstream_count)
        rp_buffer_append(out, RP_STR("upstreams:\n"));
    for (size_t i = 0; i < config->upstream_count; i++)
        print_upstream(out, &config->upstreams[i]);
    if (config->tenant_count)
        rp_buffer_append(out, RP_STR("tenants:\n"));
    for (size_t i = 0; i < config->tenant_count; i++)
        print_tenant(out, config, &config->tenants[i]);
    rp_buffer_append(out, RP_STR("routes:\n"));
    for (size_t i = 0; i < config->route_count; i++)
        print_route(out, config, &config->routes[i]);
}
