/* transfer.c - export and import: one JSON object a line, one entry each.
 *
 * {"version": 1, "scope": {...}, "wire": "chat", "tenant", "namespace", "route", "model",
 *  "category", "prompt", "reply": {...} | "text", "reply_bytes": "hex",
 *  "created": us, "expires": us | 0, "tags": [...], "user_hash", "metadata_hash",
 *  "input_tokens", "output_tokens", "upstream_us", "exact_only", "static",
 *  "fingerprint", "vector": [...], "windows": [[...], ...]}
 *
 * `reply` is the protocol's own body (a text for bare prompts), so that people can read
 * and write such files; `reply_bytes`, our encoding, stands there only if a body cannot
 * hold the reply. A line without `scope` is a bare prompt and needs tenant, prompt and
 * reply only: that is how to warm a cache by hand.
 *
 * An importer trusts nothing: the scope is hashed anew from its fields with the epochs of
 * this store, the reply is read as if it came from upstream, vectors are made again unless
 * the caller trusts them, and even then must be of the same encoder and of length 1. */
#include "cache/cache_internal.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>

#define LINE_MEMORY_MAX ((size_t)256 << 20)
enum { LINE_VERSION = 1 };

/* ---- export -------------------------------------------------------------------------- */

static void
put_hex(rp_buffer *line, const void *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = bytes;
    rp_buffer_append_char(line, '"');
    for (size_t i = 0; i < size; i++) {
        rp_buffer_append_char(line, digits[at[i] >> 4]);
        rp_buffer_append_char(line, digits[at[i] & 15]);
    }
    rp_buffer_append_char(line, '"');
}

static void
put_numbers(rp_buffer *line, const float *numbers, size_t count)
{
    rp_buffer_append_char(line, '[');
    for (size_t i = 0; i < count; i++)
        rp_buffer_printf(line, i ? ",%.9g" : "%.9g", (double)numbers[i]); /* 9: exact for float */
    rp_buffer_append_char(line, ']');
}

static void
put_vectors(rp_buffer *line, const char *fingerprint, const rp_entry *entry)
{
    rp_buffer_printf(line, ",\"fingerprint\":\"%.32s\",\"vector\":", fingerprint);
    put_numbers(line, entry->mean, entry->dim);
    if (entry->window_count < 2 || !entry->windows)
        return;
    rp_buffer_append(line, RP_STR(",\"windows\":["));
    for (size_t i = 0; i < entry->window_count; i++) {
        if (i)
            rp_buffer_append_char(line, ',');
        put_numbers(line, entry->windows + i * entry->dim, entry->dim);
    }
    rp_buffer_append_char(line, ']');
}

static void
put_tags(rp_json_writer *writer, rp_str tags)
{
    rp_json_key(writer, "tags");
    rp_json_open(writer, '[');
    while (tags.len)
        rp_json_put_string(writer, rp_str_split(&tags, '\n'));
    rp_json_close(writer, ']');
}

/* The protocol's body, the text of a bare prompt, or our bytes. False: damaged. */
static bool
put_reply(rp_json_writer *writer, const rp_entry *entry)
{
    rp_arena arena;
    rp_buffer body;
    rp_arena_init(&arena, LINE_MEMORY_MAX);
    rp_buffer_init(&body, LINE_MEMORY_MAX);
    const rp_reply *reply;
    const bool sound = rp_reply_open(entry->reply, &arena, &reply) == RP_OK;
    if (sound) {
        const rp_wire wire = rp_reply_wire(reply);
        const rp_replay_options options = { .wire = wire, .created = entry->created / 1000000 };
        rp_json_key(writer, "wire");
        rp_json_put_cstring(writer, rp_wire_name(wire));
        if (wire == RP_WIRE_PROMPT) {
            rp_json_key(writer, "reply");
            rp_json_put_string(writer, rp_reply_text(reply));
        } else if (rp_reply_replay(reply, &options, &body) == RP_OK && !rp_buffer_failed(&body)) {
            rp_json_key(writer, "reply");
            rp_json_put_raw(writer, rp_str_trimmed(rp_buffer_str(&body)));
        } else {
            rp_json_key(writer, "reply_bytes");
            put_hex(writer->out, entry->reply.ptr, entry->reply.len);
            writer->comma = true;
        }
    }
    rp_buffer_fini(&body);
    rp_arena_fini(&arena);
    return sound;
}

static bool
write_entry(rp_cache *cache, const rp_entry *entry, bool vectors, rp_buffer *line)
{
    rp_json_writer writer;
    rp_json_writer_init(&writer, line);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "version");
    rp_json_put_int(&writer, LINE_VERSION);
    rp_json_key(&writer, "scope");
    rp_json_put_raw(&writer, entry->scope_fields.len ? entry->scope_fields : RP_STR("null"));
    rp_json_key(&writer, "turn");
    rp_json_put_raw(&writer, entry->turn.len ? entry->turn : RP_STR("null"));
    const struct { const char *name; rp_str value; } texts[] = {
        { "tenant", entry->tenant }, { "namespace", entry->namespace_name },
        { "route", entry->route },   { "model", entry->model },
        { "category", entry->category }, { "prompt", entry->prompt },
    };
    for (size_t i = 0; i < RP_COUNT(texts); i++) {
        rp_json_key(&writer, texts[i].name);
        rp_json_put_string(&writer, texts[i].value);
    }
    const struct { const char *name; int64_t value; } numbers[] = {
        { "created", entry->created },           { "expires", entry->expires },
        { "input_tokens", entry->input_tokens }, { "output_tokens", entry->output_tokens },
        { "upstream_us", entry->upstream_us },
    };
    for (size_t i = 0; i < RP_COUNT(numbers); i++) {
        rp_json_key(&writer, numbers[i].name);
        rp_json_put_int(&writer, numbers[i].value);
    }
    put_tags(&writer, entry->tags);
    rp_json_key(&writer, "user_hash");
    put_hex(line, entry->user_hash, sizeof entry->user_hash);
    writer.comma = true;
    rp_json_key(&writer, "metadata_hash");
    put_hex(line, entry->metadata_hash, sizeof entry->metadata_hash);
    writer.comma = true;
    rp_json_key(&writer, "exact_only");
    rp_json_put_bool(&writer, entry->flags & RP_ENTRY_EXACT_ONLY);
    rp_json_key(&writer, "static");
    rp_json_put_bool(&writer, entry->flags & RP_ENTRY_STATIC);
    const bool sound = put_reply(&writer, entry);
    if (vectors && entry->mean && !entry->template_) /* of a part of the prompt: made again */
        put_vectors(line, rp_store_fingerprint(cache->store), entry);
    rp_buffer_append(line, RP_STR("}\n"));
    return sound && !rp_buffer_failed(line);
}

rp_status
rp_cache_export(rp_cache *cache, const rp_cache_export_options *options, rp_cache_write *write,
                void *context, size_t *exported, rp_error *error)
{
    rp_store_selector which;
    rp_status status = rp_selector_translate(cache, &options->selector, &which, error);
    rp_places places;
    if (status == RP_OK)
        status = rp_places_collect(cache, &which, UINT64_MAX, &places, error);
    if (status != RP_OK)
        return status;
    rp_buffer line;
    rp_buffer_init(&line, LINE_MEMORY_MAX);
    size_t count = 0;
    const unsigned parts = RP_PART_REPLY | RP_PART_SCOPE | (options->vectors ? RP_PART_VECTORS : 0u);
    for (size_t i = 0; status == RP_OK && i < places.count; i++) {
        const rp_place *place = &places.items[i];
        const rp_entry *entry = rp_store_get(cache->store, place->scope, place->id, parts);
        if (!entry)
            continue; /* gone meanwhile */
        rp_buffer_clear(&line);
        if (!write_entry(cache, entry, options->vectors, &line))
            rp_cache_failed(cache, "export");
        else if (write(context, rp_buffer_str(&line)))
            count++;
        else
            status = rp_fail(error, RP_ERR_IO, "the export could not be written");
        rp_entry_unref(entry);
    }
    rp_buffer_fini(&line);
    rp_places_fini(&places);
    *exported = count;
    return status;
}

/* ---- import --------------------------------------------------------------------------- */

static rp_status
fail_member(rp_error *error, const char *name)
{
    return rp_fail(error, RP_ERR_INVALID, "the member \"%s\" is missing or not what it must be",
                   name);
}

/* An optional string member of bounded size. False: it is something else. */
static bool
get_text(const rp_json *line, const char *name, size_t size_max, rp_str *out)
{
    const rp_json *value = rp_json_get(line, name);
    *out = rp_json_string(value);
    return (!value || value->type == RP_JSON_STRING || value->type == RP_JSON_NULL) &&
           out->len <= size_max;
}

static int64_t
get_number(const rp_json *line, const char *name, int64_t otherwise)
{
    int64_t value;
    return rp_json_to_int64(rp_json_get(line, name), &value) ? value : otherwise;
}

static bool
get_hash(const rp_json *line, const char *name, uint8_t out[16])
{
    const rp_json *value = rp_json_get(line, name);
    if (!value || value->type == RP_JSON_NULL) {
        memset(out, 0, 16);
        return true;
    }
    return rp_json_string(value).len == 32 && rp_hex_decode(value->string, out, 16);
}

static bool
get_tags(const rp_json *line, rp_arena *arena, rp_str *out)
{
    const rp_json *list = rp_json_get(line, "tags");
    *out = (rp_str){ 0 };
    if (!list || list->type == RP_JSON_NULL)
        return true;
    if (list->type != RP_JSON_ARRAY || list->count > RP_TAGS_MAX)
        return false;
    rp_buffer joined;
    rp_buffer_init(&joined, 0);
    bool ok = true;
    for (uint32_t i = 0; i < list->count; i++) {
        const rp_json *tag = &list->children[i];
        ok = ok && tag->type == RP_JSON_STRING && tag->string.len &&
             !memchr(tag->string.ptr, ',', tag->string.len);
        if (ok)
            rp_buffer_append(&joined, tag->string);
        rp_buffer_append_char(&joined, ',');
    }
    ok = ok && rp_tags_parse(rp_buffer_str(&joined), arena, out) == RP_OK;
    rp_buffer_fini(&joined);
    return ok;
}

/* `count` finite numbers that make a vector of length 1. */
static bool
get_vector(const rp_json *list, size_t count, float *out)
{
    if (!list || list->type != RP_JSON_ARRAY || list->count != count)
        return false;
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        double number;
        if (!rp_json_to_double(&list->children[i], &number) || !(fabs(number) <= 1.001))
            return false;
        out[i] = (float)number;
        squares += number * number;
    }
    return fabs(sqrt(squares) - 1) <= 1e-3; /* what rp_index_add asks for */
}

/* Take the line's vectors into the query if they are of our encoder and sound. */
static void
take_vectors(rp_cache *cache, rp_query *query, const rp_json *line)
{
    const rp_embedder *embedder = &query->space->embedder;
    const size_t dim = embedder->dim;
    const rp_json *windows = rp_json_get(line, "windows");
    const size_t count = windows && windows->type == RP_JSON_ARRAY ? windows->count : 1;
    const rp_str fingerprint = rp_json_string(rp_json_get(line, "fingerprint"));
    if (!embedder->embed || count == 0 || count > RP_WINDOWS_MAX ||
        !rp_str_equal(fingerprint, rp_str_of(embedder->fingerprint)))
        return;
    float *storage = malloc((RP_WINDOWS_MAX + 1) * dim * sizeof *storage);
    bool ok = storage && get_vector(rp_json_get(line, "vector"), dim, storage);
    for (size_t i = 0; ok && count > 1 && i < count; i++)
        ok = get_vector(&windows->children[i], dim, storage + (i + 1) * dim);
    if (ok) {
        const rp_embedding embedding = { .window_count = count,
                                         .mean = storage,
                                         .windows = count > 1 ? storage + dim : storage };
        ok = rp_query_embedding(cache, query, &embedding, 0) == RP_OK;
    }
    if (ok) { /* exported vectors are of whole prompts */
        query->fuzzy = query->request->prompt;
        query->template_ = 0;
    }
    free(storage);
}

static bool
get_wire(const rp_json *line, rp_wire *out)
{
    const rp_str name = rp_json_string(rp_json_get(line, "wire"));
    for (int wire = 0; wire < RP_WIRE_COUNT; wire++)
        if (rp_str_equal(name, rp_str_of(rp_wire_name((rp_wire)wire)))) {
            *out = (rp_wire)wire;
            return true;
        }
    return false;
}

static rp_status
import_reply(const rp_json *line, rp_wire wire, rp_arena *arena, rp_buffer *encoded,
             rp_usage *usage, rp_error *error)
{
    const rp_json *reply = rp_json_get(line, "reply");
    const rp_str digits = rp_json_string(rp_json_get(line, "reply_bytes"));
    if (!reply && digits.len) {
        char *bytes = rp_buffer_reserve(encoded, digits.len / 2);
        const rp_reply *opened;
        if (!bytes || digits.len % 2 || !rp_hex_decode(digits, bytes, digits.len / 2))
            return fail_member(error, "reply_bytes");
        encoded->len += digits.len / 2;
        if (rp_reply_open(rp_buffer_str(encoded), arena, &opened) != RP_OK)
            return fail_member(error, "reply_bytes");
        return RP_OK;
    }
    if (!reply)
        return fail_member(error, "reply");
    rp_buffer body;
    rp_json_reader *reader;
    rp_status status = rp_json_reader_new(&reader);
    if (status != RP_OK)
        return rp_fail(error, status, "no memory to read a reply");
    rp_buffer_init(&body, LINE_MEMORY_MAX);
    rp_json_write(reply, &body);
    const rp_reply_verdict verdict =
        rp_reply_from_body(wire, rp_buffer_str(&body), reader, encoded, usage);
    rp_buffer_fini(&body);
    rp_json_reader_free(reader);
    if (verdict == RP_REPLY_GOOD || verdict == RP_REPLY_LENGTH || verdict == RP_REPLY_FILTERED)
        return RP_OK; /* what was kept there was meant to be */
    return rp_fail(error, RP_ERR_INVALID, "the reply is not one to keep: %s",
                   rp_reply_verdict_name(verdict));
}

/* A line as a request: from its scope fields, or a bare prompt. */
static rp_status
import_request(rp_cache *cache, const rp_json *line, rp_arena *arena, rp_query *query,
               rp_error *error)
{
    const rp_json *fields = rp_json_get(line, "scope");
    rp_str tenant, namespace_name, prompt;
    if (!get_text(line, "tenant", RP_TENANT_SIZE_MAX, &tenant) ||
        !get_text(line, "namespace", RP_TAG_SIZE_MAX, &namespace_name) ||
        !get_text(line, "prompt", LINE_MEMORY_MAX, &prompt))
        return fail_member(error, "tenant, namespace or prompt");
    if (!fields || fields->type == RP_JSON_NULL) {
        const rp_cache_request bare = { .tenant = tenant, .namespace_name = namespace_name,
                                        .prompt = prompt };
        return rp_query_from_request(cache, &bare, arena, query, error);
    }
    rp_request *request = rp_arena_calloc(arena, 1, sizeof *request);
    if (!request)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    rp_query_init(query);
    rp_status status = rp_scope_fields_read(fields, rp_json_get(line, "turn"), arena, request,
                                            &query->caller);
    if (status != RP_OK)
        return rp_fail(error, status, "the member \"scope\" does not hold scope fields");
    rp_wire wire;
    if (!get_wire(line, &wire))
        return fail_member(error, "wire");
    if (!query->caller.share_wires && wire != request->wire)
        return rp_fail(error, RP_ERR_INVALID, "the reply's protocol is not the scope's");
    request->wire = wire;
    request->prompt = prompt;
    request->tier = prompt.len && !rp_json_is_true(rp_json_get(line, "exact_only"))
                        ? RP_TIER_SEMANTIC
                        : RP_TIER_EXACT;
    query->request = request;
    query->arena = arena;
    query->rules.mode = cache->mode;
    query->rules.decider = cache->decider;
    return RP_OK;
}

/* The line's own times, labels and hashes instead of those of a new entry. */
static rp_status
import_facts(rp_cache *cache, const rp_json *line, rp_query *query, rp_error *error)
{
    const rp_time now = rp_clock_wall_us(cache->clock);
    const int64_t created = get_number(line, "created", now);
    const int64_t expires = get_number(line, "expires", 0);
    if (created < 0 || created > now || expires < 0 || (expires && expires <= created))
        return fail_member(error, "created or expires");
    if (expires && expires <= now)
        return rp_fail(error, RP_ERR_STALE, "the entry expired meanwhile");
    if (!get_text(line, "route", RP_TAG_SIZE_MAX, &query->caller.route) ||
        !get_text(line, "category", RP_TAG_SIZE_MAX, &query->caller.category))
        return fail_member(error, "route or category");
    if (!get_tags(line, query->arena, &query->controls.tags))
        return fail_member(error, "tags");
    rp_query_prepare(cache, query);
    if (query->result.outcome == RP_LOOKUP_BYPASS)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "the request is never cached: %s",
                       query->result.reason);
    /* A bare prompt made by hand has a user of its own, hashed by prepare. */
    if (rp_json_get(line, "user_hash") && !get_hash(line, "user_hash", query->user_hash))
        return fail_member(error, "user_hash");
    if (rp_json_get(line, "metadata_hash") &&
        !get_hash(line, "metadata_hash", query->metadata_hash))
        return fail_member(error, "metadata_hash");
    query->now = created;
    query->rules.ttl_us = expires ? expires - created : 0;
    return RP_OK;
}

static rp_status
import_entry(rp_cache *cache, const rp_json *line, const rp_cache_import_options *options,
             rp_arena *arena, rp_query *query, rp_buffer *encoded, rp_error *error)
{
    if (line->type != RP_JSON_OBJECT)
        return rp_fail(error, RP_ERR_INVALID, "a line must be a JSON object");
    if (get_number(line, "version", LINE_VERSION) != LINE_VERSION)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "the line is of a version this program lacks");
    rp_status status = import_request(cache, line, arena, query, error);
    if (status == RP_OK)
        status = import_facts(cache, line, query, error);
    rp_admission admission = { .verdict = RP_REPLY_GOOD,
                               .usage = { -1, -1 },
                               .upstream_us = get_number(line, "upstream_us", 0),
                               .is_static = rp_json_is_true(rp_json_get(line, "static")) };
    if (status == RP_OK)
        status = import_reply(line, query->request->wire, arena, encoded, &admission.usage, error);
    if (status != RP_OK)
        return status;
    admission.encoded = rp_buffer_str(encoded);
    admission.usage.input_tokens = get_number(line, "input_tokens", admission.usage.input_tokens);
    admission.usage.output_tokens =
        get_number(line, "output_tokens", admission.usage.output_tokens);
    if (options && options->trust_vectors)
        take_vectors(cache, query, line);
    rp_entry_id id;
    return rp_admit_and_wait(cache, query, &admission, &id, error);
}

rp_status
rp_cache_import_line(rp_cache *cache, rp_str line, const rp_cache_import_options *options,
                     rp_error *error)
{
    rp_arena arena;
    rp_buffer encoded;
    rp_query query;
    rp_json_reader *reader;
    rp_status status = rp_json_reader_new(&reader);
    if (status != RP_OK)
        return rp_fail(error, status, "no memory to read JSON");
    rp_arena_init(&arena, LINE_MEMORY_MAX);
    rp_buffer_init(&encoded, LINE_MEMORY_MAX);
    rp_query_init(&query);
    const rp_json *json;
    status = rp_json_parse(reader, &arena, line, &json, error);
    if (status == RP_OK)
        status = import_entry(cache, json, options, &arena, &query, &encoded, error);
    rp_query_fini(&query);
    rp_buffer_fini(&encoded);
    rp_arena_fini(&arena);
    rp_json_reader_free(reader);
    return status;
}
