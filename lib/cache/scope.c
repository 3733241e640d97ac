/* scope.c - the fields that separate two requests, in one order, into one hash.
 *
 * Everything goes through each_field: the hash and the JSON for explain and export
 * see the same list, so that what is shown is what was hashed. A field is three
 * strings (kind, name, value), each with its length in front: kinds keep a body
 * member called "tenant" apart from the tenant, lengths keep bytes from moving
 * between neighbors. A caller field that was not given is hashed as empty, which
 * is one value and the same for all who do not give it. */
#include "cache/scope.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Bump it with every change of what is hashed: old entries are then never found. */
static const rp_str format_tag = { "reprise scope 1", 15 };

/* The names of the fixed facts, in the order of hashing (sorted). */
enum { FACT_ENDPOINT, FACT_EPOCH, FACT_NAMESPACE, FACT_TENANT, FACT_UPSTREAM, FACT_USER, FACT_WIRE,
       FACT_COUNT };
static const char *const fact_names[FACT_COUNT] = { "endpoint", "epoch",    "namespace", "tenant",
                                                    "upstream", "user",     "wire" };
enum { EPOCH_SIZE = 64 }; /* three decimal uint64 and two dots fit */

static rp_str
fact_value(const rp_request *request, const rp_caller *caller, int fact, char epoch[EPOCH_SIZE])
{
    switch (fact) {
    case FACT_ENDPOINT:
        return caller->share_wires ? (rp_str){ 0 } : caller->endpoint;
    case FACT_EPOCH: {
        const int len = snprintf(epoch, EPOCH_SIZE, "%" PRIu64 ".%" PRIu64 ".%" PRIu64,
                                 caller->epoch[0], caller->epoch[1], caller->epoch[2]);
        return (rp_str){ epoch, (size_t)len };
    }
    case FACT_NAMESPACE:
        return caller->namespace_name;
    case FACT_TENANT:
        return caller->tenant;
    case FACT_UPSTREAM:
        return caller->upstream;
    case FACT_USER:
        return caller->isolate_user ? caller->user_digits : (rp_str){ 0 };
    default: /* FACT_WIRE. A bare prompt never meets chat traffic, shared wires or not. */
        return caller->share_wires && request->wire != RP_WIRE_PROMPT
                   ? RP_STR("shared")
                   : rp_str_of(rp_wire_name(request->wire));
    }
}

static int
compare_attributes(const void *a, const void *b)
{
    const rp_attribute *left = a, *right = b;
    const int order = rp_str_compare(left->name, right->name);
    return order ? order : rp_str_compare(left->value, right->value);
}

/* Sorted copies of the attributes; returns how many, or -1 for too many. */
static int
sort_attributes(const rp_caller *caller, rp_attribute sorted[RP_ATTRIBUTES_MAX])
{
    if (caller->attribute_count > RP_ATTRIBUTES_MAX)
        return -1;
    if (caller->attribute_count)
        memcpy(sorted, caller->attributes, caller->attribute_count * sizeof *sorted);
    qsort(sorted, caller->attribute_count, sizeof *sorted, compare_attributes);
    return (int)caller->attribute_count;
}

static void
hash_field(rp_sha256 *hash, rp_str kind, rp_str name, rp_str value)
{
    rp_sha256_update_field(hash, kind);
    rp_sha256_update_field(hash, name);
    rp_sha256_update_field(hash, value);
}

rp_status
rp_scope_of(const rp_request *request, const rp_caller *caller, rp_scope *out)
{
    if (caller->tenant.len == 0 || (caller->isolate_user && caller->user_digits.len == 0))
        return RP_ERR_INVALID;
    rp_attribute attributes[RP_ATTRIBUTES_MAX];
    const int attribute_count = sort_attributes(caller, attributes);
    if (attribute_count < 0)
        return RP_ERR_LIMIT;

    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, format_tag);
    for (int i = 0; i < attribute_count; i++)
        hash_field(&hash, RP_STR("attribute"), attributes[i].name, attributes[i].value);
    for (size_t i = 0; i < request->field_count; i++)
        hash_field(&hash, RP_STR("body"), request->fields[i].name, request->fields[i].value);
    for (int fact = 0; fact < FACT_COUNT; fact++) {
        char epoch[EPOCH_SIZE];
        hash_field(&hash, RP_STR("caller"), rp_str_of(fact_names[fact]),
                   fact_value(request, caller, fact, epoch));
    }
    rp_sha256_final(&hash, out->bytes);
    return RP_OK;
}

rp_key
rp_key_of_turn(rp_scope scope, rp_str last_turn)
{
    rp_key key;
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, RP_STR("reprise key 1"));
    rp_sha256_update_field(&hash, (rp_str){ (const char *)scope.bytes, sizeof scope.bytes });
    rp_sha256_update_field(&hash, last_turn);
    rp_sha256_final(&hash, key.bytes);
    return key;
}

rp_key
rp_key_of(rp_scope scope, const rp_request *request)
{
    return rp_key_of_turn(scope, request->last_turn);
}

rp_stratum
rp_stratum_of(const rp_caller *caller, rp_str model, rp_str fingerprint)
{
    const rp_str parts[] = { caller->tenant, caller->route, model, caller->category, fingerprint };
    /* Each field is hashed by itself with the hash so far as its seed, so that no byte can
     * move from one to the next. */
    uint64_t hash = 1;
    for (size_t i = 0; i < RP_COUNT(parts); i++)
        hash = rp_hash64_seeded(parts[i], hash);
    return hash;
}

/* ---- as JSON -------------------------------------------------------------------- */

static void
put_bytes(rp_json_writer *writer, rp_str bytes)
{
    if (rp_utf8_is_valid(bytes)) {
        rp_json_put_string(writer, bytes);
        return;
    }
    rp_json_open(writer, '{');
    rp_json_key(writer, "hex");
    char digits[3];
    rp_buffer hex;
    rp_buffer_init(&hex, 0);
    for (size_t i = 0; i < bytes.len; i++) {
        rp_hex_encode(bytes.ptr + i, 1, digits);
        rp_buffer_append(&hex, (rp_str){ digits, 2 });
    }
    rp_json_put_string(writer, rp_buffer_str(&hex));
    rp_buffer_fini(&hex);
    rp_json_close(writer, '}');
}

void
rp_scope_fields_write(const rp_request *request, const rp_caller *caller, rp_buffer *out)
{
    rp_attribute attributes[RP_ATTRIBUTES_MAX];
    const int attribute_count = sort_attributes(caller, attributes);
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "attributes");
    rp_json_open(&writer, '[');
    for (int i = 0; i < attribute_count; i++) {
        rp_json_open(&writer, '[');
        put_bytes(&writer, attributes[i].name);
        put_bytes(&writer, attributes[i].value);
        rp_json_close(&writer, ']');
    }
    rp_json_close(&writer, ']');

    rp_json_key(&writer, "body");
    rp_json_open(&writer, '{');
    for (size_t i = 0; i < request->field_count; i++) {
        /* rp_json_key wants a zero at the end and a name may hold one: write it by hand. */
        if (i)
            rp_buffer_append_char(out, ',');
        rp_json_write_string(request->fields[i].name, out);
        rp_buffer_append_char(out, ':');
        rp_buffer_append(out, request->fields[i].value);
    }
    rp_buffer_append_char(out, '}');
    writer.comma = true;

    rp_json_key(&writer, "caller");
    rp_json_open(&writer, '{');
    for (int fact = 0; fact < FACT_COUNT; fact++) {
        char epoch[EPOCH_SIZE];
        rp_json_key(&writer, fact_names[fact]);
        put_bytes(&writer, fact_value(request, caller, fact, epoch));
    }
    rp_json_close(&writer, '}');
    rp_json_close(&writer, '}');
}

static bool
get_bytes(const rp_json *value, rp_arena *arena, rp_str *out)
{
    if (!value)
        return false;
    if (value->type == RP_JSON_STRING) {
        *out = value->string;
        return true;
    }
    const rp_json *hex = rp_json_get(value, "hex");
    if (!hex || hex->type != RP_JSON_STRING || value->count != 1 || hex->string.len % 2)
        return false;
    char *bytes = rp_arena_alloc(arena, hex->string.len / 2 + 1);
    if (!bytes || !rp_hex_decode(hex->string, bytes, hex->string.len / 2))
        return false;
    *out = (rp_str){ bytes, hex->string.len / 2 };
    return true;
}

static bool
read_epochs(rp_str text, uint64_t epoch[3])
{
    for (int i = 0; i < 3; i++)
        if (!rp_str_to_u64(rp_str_split(&text, '.'), &epoch[i]))
            return false;
    return text.len == 0;
}

static bool
read_caller(const rp_json *object, rp_arena *arena, rp_request *request, rp_caller *caller)
{
    rp_str facts[FACT_COUNT];
    if (!object || object->type != RP_JSON_OBJECT || object->count != FACT_COUNT)
        return false;
    for (int fact = 0; fact < FACT_COUNT; fact++)
        if (!get_bytes(rp_json_get(object, fact_names[fact]), arena, &facts[fact]))
            return false;
    caller->endpoint = facts[FACT_ENDPOINT];
    caller->namespace_name = facts[FACT_NAMESPACE];
    caller->tenant = facts[FACT_TENANT];
    caller->upstream = facts[FACT_UPSTREAM];
    caller->user_digits = facts[FACT_USER];
    caller->isolate_user = facts[FACT_USER].len > 0;
    caller->share_wires = rp_str_equal(facts[FACT_WIRE], RP_STR("shared"));
    if (!caller->share_wires) {
        int wire = 0;
        while (wire < RP_WIRE_COUNT &&
               !rp_str_equal(facts[FACT_WIRE], rp_str_of(rp_wire_name((rp_wire)wire))))
            wire++;
        if (wire == RP_WIRE_COUNT)
            return false;
        request->wire = (rp_wire)wire;
    }
    return caller->tenant.len > 0 && read_epochs(facts[FACT_EPOCH], caller->epoch);
}

static int
compare_fields(const void *a, const void *b)
{
    return rp_str_compare(((const rp_field *)a)->name, ((const rp_field *)b)->name);
}

static rp_status
read_canonical(const rp_json *value, rp_arena *arena, rp_buffer *scratch, rp_str *out)
{
    rp_buffer_clear(scratch);
    rp_json_write_canonical(value, scratch);
    if (rp_buffer_failed(scratch))
        return RP_ERR_NOMEM;
    *out = rp_arena_copy(arena, rp_buffer_str(scratch));
    return out->ptr ? RP_OK : RP_ERR_NOMEM;
}

static rp_status
read_body(const rp_json *object, const rp_json *turn, rp_arena *arena, rp_request *request)
{
    if (!object || object->type != RP_JSON_OBJECT)
        return RP_ERR_INVALID;
    rp_field *fields = rp_arena_calloc(arena, object->count + 1, sizeof *fields);
    if (!fields)
        return RP_ERR_NOMEM;
    rp_buffer value;
    rp_buffer_init(&value, 0);
    rp_status status = RP_OK;
    for (uint32_t i = 0; status == RP_OK && i < object->count; i++) {
        fields[i].name = object->children[i].name;
        status = read_canonical(&object->children[i], arena, &value, &fields[i].value);
    }
    if (status == RP_OK && turn && turn->type != RP_JSON_NULL)
        status = read_canonical(turn, arena, &value, &request->last_turn);
    rp_buffer_fini(&value);
    if (status != RP_OK)
        return status;
    qsort(fields, object->count, sizeof *fields, compare_fields);
    request->fields = fields;
    request->field_count = object->count;
    const rp_json *model = rp_json_get(object, "model");
    request->model = rp_json_string(model);
    return RP_OK;
}

rp_status
rp_scope_fields_read(const rp_json *fields, const rp_json *turn, rp_arena *arena,
                     rp_request *request, rp_caller *caller)
{
    rp_request read = { .temperature = __builtin_nan("") };
    rp_caller who = { 0 };
    if (!read_caller(rp_json_get(fields, "caller"), arena, &read, &who))
        return rp_arena_failed(arena) ? RP_ERR_NOMEM : RP_ERR_INVALID;
    const rp_json *list = rp_json_get(fields, "attributes");
    if (!list || list->type != RP_JSON_ARRAY)
        return RP_ERR_INVALID;
    if (list->count > RP_ATTRIBUTES_MAX)
        return RP_ERR_LIMIT;
    rp_attribute *attributes = rp_arena_calloc(arena, list->count + 1, sizeof *attributes);
    if (!attributes)
        return RP_ERR_NOMEM;
    for (uint32_t i = 0; i < list->count; i++) {
        const rp_json *pair = &list->children[i];
        if (pair->type != RP_JSON_ARRAY || pair->count != 2 ||
            !get_bytes(&pair->children[0], arena, &attributes[i].name) ||
            !get_bytes(&pair->children[1], arena, &attributes[i].value))
            return RP_ERR_INVALID;
    }
    who.attributes = attributes;
    who.attribute_count = list->count;
    const rp_status status = read_body(rp_json_get(fields, "body"), turn, arena, &read);
    if (status != RP_OK)
        return status;
    *request = read;
    *caller = who;
    return RP_OK;
}

/* ---- keyed hashes --------------------------------------------------------------- */

void
rp_private_hash(const uint8_t secret[32], const char *purpose, rp_str value, uint8_t out[16])
{
    memset(out, 0, 16);
    if (value.len == 0)
        return;
    /* A key of its own for each purpose, so that a user and a metadata object of equal
     * bytes do not show as equal. */
    uint8_t key[32], mac[32];
    rp_hmac_sha256((rp_str){ (const char *)secret, 32 }, rp_str_of(purpose), key);
    rp_hmac_sha256((rp_str){ (const char *)key, 32 }, value, mac);
    mac[0] |= (uint8_t)(memcmp(mac, out, 16) == 0); /* zero means absent */
    memcpy(out, mac, 16);
}

void
rp_credential_hash(const uint8_t secret[32], rp_str credential, uint8_t out[32])
{
    uint8_t key[32];
    rp_hmac_sha256((rp_str){ (const char *)secret, 32 }, RP_STR("credential"), key);
    rp_hmac_sha256((rp_str){ (const char *)key, 32 }, credential, out);
}
