/* library.c - the synchronous face of the cache: one call, all stages.
 *
 * A request of a library user becomes what the server makes of a request on the wire:
 * parsed JSON, a caller, the default rules. A bare prompt is wrapped into the body of its
 * own family, so that it runs through the same parser and never meets chat traffic. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* Heap that one call may use: a body, its tree, gates and a replay of it. */
#define CALL_MEMORY_MAX ((size_t)64 << 20)

/* ---- the request -------------------------------------------------------------------- */

/* The body of a bare prompt: {"prompt": ..., "user": ...}. */
static rp_str
wrap_prompt(const rp_cache_request *request, rp_arena *arena)
{
    rp_buffer body;
    rp_json_writer writer;
    rp_buffer_init(&body, CALL_MEMORY_MAX);
    rp_json_writer_init(&writer, &body);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "prompt");
    rp_json_put_string(&writer, request->prompt);
    if (request->user.len) {
        rp_json_key(&writer, "user");
        rp_json_put_string(&writer, request->user);
    }
    rp_json_close(&writer, '}');
    const rp_str copy = rp_buffer_failed(&body) ? (rp_str){ 0 }
                                                : rp_arena_copy(arena, rp_buffer_str(&body));
    rp_buffer_fini(&body);
    return copy;
}

static rp_status
parse_json(rp_str text, rp_arena *arena, const rp_json **out, rp_error *error)
{
    rp_json_reader *reader;
    const rp_status made = rp_json_reader_new(&reader);
    if (made != RP_OK)
        return rp_fail(error, made, "no memory to read JSON");
    const rp_status status = rp_json_parse(reader, arena, text, out, error);
    rp_json_reader_free(reader);
    return status;
}

static rp_status
check_request(const rp_cache_request *request, rp_wire *wire, rp_error *error)
{
    if (request->tenant.len == 0 || request->tenant.len > RP_TENANT_SIZE_MAX)
        return rp_fail(error, RP_ERR_INVALID, "a request needs a tenant of 1 to %d bytes",
                       (int)RP_TENANT_SIZE_MAX);
    if (request->namespace_name.len > RP_TAG_SIZE_MAX || request->category.len > RP_TAG_SIZE_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "a namespace or category has at most %d bytes",
                       (int)RP_TAG_SIZE_MAX);
    const bool has_prompt = request->prompt.len > 0, has_body = request->body.len > 0;
    if (has_prompt == has_body)
        return rp_fail(error, RP_ERR_INVALID, "a request has either a prompt or a path and a body");
    *wire = RP_WIRE_PROMPT;
    if (has_body && !rp_wire_of_path(request->path, wire))
        return rp_fail(error, RP_ERR_INVALID, "the path is not one of a protocol that is cached");
    if (has_prompt && !rp_utf8_is_valid(request->prompt))
        return rp_fail(error, RP_ERR_INVALID, "the prompt is not valid UTF-8");
    return RP_OK;
}

rp_status
rp_query_from_request(rp_cache *cache, const rp_cache_request *request, rp_arena *arena,
                      rp_query *query, rp_error *error)
{
    rp_wire wire;
    rp_status status = check_request(request, &wire, error);
    if (status != RP_OK)
        return status;
    const rp_str body = wire == RP_WIRE_PROMPT ? wrap_prompt(request, arena) : request->body;
    rp_request *parsed = rp_arena_calloc(arena, 1, sizeof *parsed);
    if (!body.ptr || !parsed)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    const rp_json *json;
    status = parse_json(body, arena, &json, error);
    if (status == RP_OK)
        status = rp_request_parse(wire, body, json, arena, parsed, error);
    if (status != RP_OK)
        return status;
    rp_query_init(query);
    query->request = parsed;
    query->arena = arena;
    query->caller = (rp_caller){ .tenant = request->tenant,
                                 .endpoint = wire == RP_WIRE_PROMPT ? (rp_str){ 0 } : request->path,
                                 .namespace_name = request->namespace_name.len
                                                       ? request->namespace_name
                                                       : parsed->controls.namespace_name,
                                 .route = RP_STR("default"),
                                 .category = request->category };
    query->rules.mode = cache->mode;
    query->rules.decider = cache->decider;
    query->rules.ttl_us = cache->ttl_us;
    rp_controls_add_body(&query->controls, &parsed->controls);
    if (request->min_similarity > 0)
        query->controls.min_similarity = request->min_similarity;
    if (request->error_max > 0)
        query->controls.error_max = request->error_max;
    if (request->max_age_seconds)
        query->controls.max_age_us = request->max_age_seconds > INT64_MAX / 1000000
                                         ? INT64_MAX
                                         : (int64_t)request->max_age_seconds * 1000000;
    return RP_OK;
}

/* ---- look up -------------------------------------------------------------------------- */

/* The reply in the form of the request; false: it cannot be had in that form. */
static bool
render_reply(const rp_query *query, rp_buffer *out)
{
    if (query->request->wire == RP_WIRE_PROMPT) {
        rp_buffer_append(out, rp_reply_text(query->result.reply));
        return !rp_buffer_failed(out);
    }
    rp_replay_options options = { .wire = query->request->wire,
                                  .created = query->now / 1000000 };
    if (rp_random_secret(options.id_random, sizeof options.id_random) != RP_OK)
        return false;
    return rp_reply_replay(query->result.reply, &options, out) == RP_OK && !rp_buffer_failed(out);
}

static rp_cache_answer *
make_answer(rp_cache *cache, const rp_query *query, rp_str reply)
{
    rp_cache_answer *answer = calloc(1, sizeof *answer + reply.len + 1);
    if (!answer)
        return NULL;
    const rp_lookup_result *result = &query->result;
    answer->hit = result->outcome == RP_LOOKUP_HIT;
    answer->outcome = rp_lookup_outcome_name(result->outcome);
    answer->tier = result->tier == RP_TIER_EXACT      ? "exact"
                   : result->tier == RP_TIER_SEMANTIC ? "semantic"
                                                      : "";
    answer->reason = result->reason;
    answer->similarity = result->similarity;
    answer->risk = result->decision.reason ? result->decision.risk : NAN;
    if (result->entry) {
        rp_store_id_encode(cache->store, result->entry->id, answer->entry);
        /* A clock that was set back makes nothing younger than new. */
        answer->age_seconds = RP_MAX(query->now - result->entry->created, 0) / 1000000;
    }
    char *bytes = (char *)(answer + 1);
    if (reply.len)
        memcpy(bytes, reply.ptr, reply.len);
    answer->reply = (rp_str){ bytes, reply.len };
    return answer;
}

rp_status
rp_cache_lookup(rp_cache *cache, const rp_cache_request *request, rp_cache_answer **out,
                rp_error *error)
{
    return rp_cache_lookup_as(cache, request, NULL, NULL, out, error);
}

rp_status
rp_cache_lookup_as(rp_cache *cache, const rp_cache_request *request, rp_query_adjust *adjust,
                   void *context, rp_cache_answer **out, rp_error *error)
{
    rp_arena arena;
    rp_buffer reply;
    rp_query query;
    rp_arena_init(&arena, CALL_MEMORY_MAX);
    rp_buffer_init(&reply, CALL_MEMORY_MAX);
    rp_query_init(&query);
    rp_status status = rp_query_from_request(cache, request, &arena, &query, error);
    if (status != RP_OK)
        goto out;
    if (adjust)
        adjust(context, &query);
    rp_lookup_all(cache, &query);
    if (query.result.outcome == RP_LOOKUP_HIT && !render_reply(&query, &reply)) {
        rp_lookup_skip(cache, &query, "form");
        rp_buffer_clear(&reply);
    }
    rp_cache_answer *answer = make_answer(cache, &query, rp_buffer_str(&reply));
    if (answer)
        *out = answer;
    else
        status = rp_fail(error, RP_ERR_NOMEM, "no memory for an answer");
out:
    rp_query_fini(&query);
    rp_buffer_fini(&reply);
    rp_arena_fini(&arena);
    return status;
}

void
rp_cache_answer_free(rp_cache_answer *answer)
{
    free(answer);
}

rp_status
rp_cache_explain(rp_cache *cache, const rp_cache_request *request, char **json, size_t *len,
                 rp_error *error)
{
    return rp_cache_explain_as(cache, request, NULL, NULL, json, len, error);
}

rp_status
rp_cache_explain_as(rp_cache *cache, const rp_cache_request *request, rp_query_adjust *adjust,
                    void *context, char **json, size_t *len, rp_error *error)
{
    rp_arena arena;
    rp_buffer out;
    rp_query query;
    rp_arena_init(&arena, CALL_MEMORY_MAX);
    rp_buffer_init(&out, CALL_MEMORY_MAX);
    rp_query_init(&query);
    rp_status status = rp_query_from_request(cache, request, &arena, &query, error);
    if (status == RP_OK) {
        if (adjust)
            adjust(context, &query);
        query.explain = true;
        rp_lookup_all(cache, &query);
        rp_explain_write(cache, &query, &out);
        rp_buffer_append_char(&out, 0);
        if (rp_buffer_failed(&out)) {
            status = rp_fail(error, RP_ERR_NOMEM, "no memory for an explanation");
        } else {
            *json = rp_buffer_take(&out, len);
            --*len; /* the zero does not count */
        }
    }
    rp_query_fini(&query);
    rp_buffer_fini(&out);
    rp_arena_fini(&arena);
    return status;
}

/* ---- store ------------------------------------------------------------------------------ */

rp_status
rp_admission_wait_init(rp_admission_wait *wait)
{
    *wait = (rp_admission_wait){ .status = RP_OK };
    pthread_mutex_init(&wait->lock, NULL);
    pthread_cond_init(&wait->done, NULL);
    return RP_OK;
}

void
rp_admission_wait_done(void *context, rp_status status, rp_entry_id id)
{
    rp_admission_wait *wait = context;
    pthread_mutex_lock(&wait->lock);
    wait->status = status;
    wait->id = id;
    wait->finished = true;
    pthread_cond_signal(&wait->done);
    pthread_mutex_unlock(&wait->lock);
}

rp_status
rp_admission_wait_fini(rp_admission_wait *wait, bool expected)
{
    pthread_mutex_lock(&wait->lock);
    while (expected && !wait->finished)
        pthread_cond_wait(&wait->done, &wait->lock);
    pthread_mutex_unlock(&wait->lock);
    pthread_mutex_destroy(&wait->lock);
    pthread_cond_destroy(&wait->done);
    return wait->status;
}

static rp_status
fail_admission(const char *reason, rp_error *error)
{
    const struct { const char *reason; rp_status status; } codes[] = {
        { "share", RP_ERR_LIMIT },       { "size", RP_ERR_LIMIT },
        { "busy", RP_ERR_BUSY },         { "paused", RP_ERR_IO },
        { "store", RP_ERR_INVALID },     { "memory", RP_ERR_NOMEM },
        { "bypass", RP_ERR_UNSUPPORTED }, { "read-only", RP_ERR_UNSUPPORTED },
    };
    rp_status status = RP_ERR_INVALID;
    for (size_t i = 0; i < RP_COUNT(codes); i++)
        if (strcmp(codes[i].reason, reason) == 0)
            status = codes[i].status;
    return rp_fail(error, status, "the reply is not kept: %s", reason);
}

rp_status
rp_admit_and_wait(rp_cache *cache, rp_query *query, rp_admission *admission, rp_entry_id *id,
                  rp_error *error)
{
    rp_query_follow(cache, query);
    rp_status status = RP_OK;
    if (query->tier == RP_TIER_SEMANTIC && rp_cache_makes_vectors(cache) && !query->vectors)
        status = rp_query_embed(cache, query);
    if (status != RP_OK && status != RP_ERR_LIMIT) /* too long or broken: for the exact tier */
        rp_cache_failed(cache, "embed");
    rp_admit_check(cache, query);
    rp_admission_wait wait;
    status = rp_admission_wait_init(&wait);
    if (status != RP_OK)
        return status;
    admission->done = rp_admission_wait_done;
    admission->done_context = &wait;
    const char *refusal = rp_admit(cache, query, admission, id);
    status = rp_admission_wait_fini(&wait, refusal == NULL);
    if (refusal)
        return fail_admission(refusal, error);
    return status == RP_OK ? RP_OK
                           : rp_fail(error, status, "the entry could not be committed: %s",
                                     rp_status_name(status));
}

/* The reply as encoded bytes. */
static rp_reply_verdict
encode_reply(rp_wire wire, rp_str reply, rp_buffer *out, rp_usage *usage)
{
    rp_json_reader *reader;
    if (rp_json_reader_new(&reader) != RP_OK)
        return RP_REPLY_UNREADABLE;
    rp_buffer body;
    rp_buffer_init(&body, CALL_MEMORY_MAX);
    if (wire == RP_WIRE_PROMPT) {
        rp_json_write_string(reply, &body);
        reply = rp_buffer_str(&body);
    }
    const rp_reply_verdict verdict = rp_reply_from_body(wire, reply, reader, out, usage);
    rp_buffer_fini(&body);
    rp_json_reader_free(reader);
    return verdict;
}

static rp_status
join_tags(const rp_cache_store_options *options, rp_arena *arena, rp_str *out, rp_error *error)
{
    if (options->tag_count > RP_TAGS_MAX)
        return rp_fail(error, RP_ERR_INVALID, "an entry has at most %d tags", (int)RP_TAGS_MAX);
    rp_buffer list;
    rp_buffer_init(&list, 0);
    rp_status status = RP_OK;
    for (size_t i = 0; i < options->tag_count; i++) {
        if (memchr(options->tags[i].ptr, ',', options->tags[i].len))
            status = RP_ERR_INVALID;
        rp_buffer_append(&list, options->tags[i]);
        rp_buffer_append_char(&list, ',');
    }
    if (status == RP_OK)
        status = rp_tags_parse(rp_buffer_str(&list), arena, out);
    rp_buffer_fini(&list);
    return status == RP_OK
               ? RP_OK
               : rp_fail(error, status == RP_ERR_NOMEM ? status : RP_ERR_INVALID,
                         "a tag has 1 to %d bytes of UTF-8, no comma, no control characters",
                         (int)RP_TAG_SIZE_MAX);
}

rp_status
rp_cache_store(rp_cache *cache, const rp_cache_request *request, rp_str reply,
               const rp_cache_store_options *options, char *entry, rp_error *error)
{
    return rp_cache_store_as(cache, request, NULL, NULL, reply, options, entry, error);
}

rp_status
rp_cache_store_as(rp_cache *cache, const rp_cache_request *request, rp_query_adjust *adjust,
                  void *context, rp_str reply, const rp_cache_store_options *options, char *entry,
                  rp_error *error)
{
    static const rp_cache_store_options defaults;
    rp_arena arena;
    rp_buffer encoded;
    rp_query query;
    rp_arena_init(&arena, CALL_MEMORY_MAX);
    rp_buffer_init(&encoded, CALL_MEMORY_MAX);
    rp_query_init(&query);
    options = options ? options : &defaults;
    rp_status status = rp_query_from_request(cache, request, &arena, &query, error);
    if (status == RP_OK && adjust)
        adjust(context, &query);
    if (status == RP_OK)
        status = join_tags(options, &arena, &query.controls.tags, error);
    if (status != RP_OK)
        goto out;
    if (options->ttl_seconds >= INT64_MAX / 1000000)
        query.rules.ttl_us = 0;
    else if (options->ttl_seconds)
        query.controls.ttl_us = (int64_t)options->ttl_seconds * 1000000;
    if (options->ttl_seconds == RP_TTL_FOREVER)
        query.controls.ttl_us = -1;
    status = rp_query_prepare(cache, &query);
    if (query.result.outcome == RP_LOOKUP_BYPASS) {
        status = rp_fail(error, RP_ERR_UNSUPPORTED, "the request is never cached: %s",
                         query.result.reason);
        goto out;
    }
    rp_admission admission = { .verdict = encode_reply(query.request->wire, reply, &encoded,
                                                       &admission.usage) };
    admission.encoded = rp_buffer_str(&encoded);
    rp_entry_id id;
    status = rp_admit_and_wait(cache, &query, &admission, &id, error);
    if (status == RP_OK && entry)
        rp_store_id_encode(cache->store, id, entry);
out:
    rp_query_fini(&query);
    rp_buffer_fini(&encoded);
    rp_arena_fini(&arena);
    return status;
}

rp_status
rp_cache_feedback(rp_cache *cache, rp_str tenant, rp_str entry, bool correct, rp_error *error)
{
    rp_entry_id id;
    if (!rp_store_id_decode(cache->store, entry, &id))
        return rp_fail(error, RP_ERR_NOT_FOUND, "there is no such entry");
    return rp_feedback(cache, tenant, id, correct, error);
}
