/* native.c - see native.h. One function a call; each reads its members from the body
 * and asks lib/cache. */
#include "server/native.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "server/routing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A request body, its tree and copies of both. */
#define NATIVE_MEMORY_MAX ((size_t)64 << 20)

void
rp_native_fail(rp_native_call *call, int status, const char *message)
{
    rp_json_writer w;
    call->status = status;
    rp_buffer_clear(&call->reply);
    rp_json_writer_init(&w, &call->reply);
    rp_json_open(&w, '{');
    rp_json_key(&w, "error");
    rp_json_open(&w, '{');
    rp_json_key(&w, "message");
    rp_json_put_cstring(&w, message);
    rp_json_key(&w, "type");
    rp_json_put_cstring(&w, status < 500 ? "invalid_request_error" : "server_error");
    rp_json_close(&w, '}');
    rp_json_close(&w, '}');
}

static void
fail_status(rp_native_call *call, rp_status status, const rp_error *error)
{
    const int http_status = status == RP_ERR_NOT_FOUND                               ? 404
                            : status == RP_ERR_INVALID || status == RP_ERR_UNSUPPORTED ? 400
                            : status == RP_ERR_LIMIT                                 ? 413
                            : status == RP_ERR_STALE                                 ? 409
                                                                                     : 503;
    rp_native_fail(call, http_status, error->text[0] ? error->text : rp_status_name(status));
}

/* ---- reading the body ------------------------------------------------------------- */

/* A call being answered: its body as a tree. */
typedef struct work {
    rp_native_call *call;
    rp_arena arena;
    const rp_json *body;
    rp_str tenant; /* whose entries; may be empty for an admin */
} work;

static rp_str
text_of(const work *w, const char *name)
{
    return rp_json_string(rp_json_get(w->body, name));
}

/* 0: not given; check_members saw to it that a given one is at least 1. */
static uint64_t
seconds_of(const work *w, const char *name)
{
    double seconds;
    if (!rp_json_to_double(rp_json_get(w->body, name), &seconds))
        return 0;
    return seconds < 0x1p63 ? (uint64_t)seconds : (uint64_t)INT64_MAX;
}

static double
number_of(const work *w, const char *name, double otherwise)
{
    double number;
    return rp_json_to_double(rp_json_get(w->body, name), &number) ? number : otherwise;
}

/* What a member must be. */
typedef enum member_kind {
    MEMBER_TEXT,     /* empty or null: as if it were not there */
    MEMBER_SELECTOR, /* a text; one that says nothing would select more than was meant */
    MEMBER_SECONDS,  /* whole, 1 or more */
    MEMBER_COSINE,
    MEMBER_SHARE,
    MEMBER_FLAG,
    MEMBER_OBJECT,
    MEMBER_ANY,      /* whoever uses it looks */
} member_kind;

typedef struct member {
    const char *name;
    member_kind kind;
} member;

static const char *const member_expected[] = {
    [MEMBER_TEXT] = "a string",
    [MEMBER_SELECTOR] = "a string that is not empty",
    [MEMBER_SECONDS] = "a whole number of seconds, 1 or more",
    [MEMBER_COSINE] = "a cosine, a number in [-1, 1]",
    [MEMBER_SHARE] = "a share, a number in [0, 1]",
    [MEMBER_FLAG] = "true or false",
    [MEMBER_OBJECT] = "a JSON object",
};

static bool
is_of_kind(const rp_json *value, member_kind kind)
{
    double number = 0;
    const bool is_number = rp_json_to_double(value, &number);
    switch (kind) {
    case MEMBER_TEXT: return value->type == RP_JSON_STRING || value->type == RP_JSON_NULL;
    case MEMBER_SELECTOR: return value->type == RP_JSON_STRING && value->string.len > 0;
    case MEMBER_SECONDS: return is_number && number >= 1 && number == floor(number);
    case MEMBER_COSINE: return is_number && number >= -1 && number <= 1;
    case MEMBER_SHARE: return is_number && number >= 0 && number <= 1;
    case MEMBER_FLAG: return value->type == RP_JSON_BOOL;
    case MEMBER_OBJECT: return value->type == RP_JSON_OBJECT;
    case MEMBER_ANY: break;
    }
    return true;
}

/* A member that the call does not know, or one of another type, is refused and never left
 * out of account: a misspelt "confirm" must not pass, and a "tenant" that is a number must
 * not mean all of them. */
static bool
check_members(work *w, const member *members)
{
    static const member tenant = { "tenant", MEMBER_SELECTOR };
    for (uint32_t i = 0; i < w->body->count; i++) {
        const rp_json *value = &w->body->children[i];
        const member *m = members;
        while (m->name && !rp_str_equal(rp_str_of(m->name), value->name))
            m++;
        if (!m->name && w->call->is_admin && rp_str_equal(value->name, rp_str_of(tenant.name)))
            m = &tenant;
        char message[160];
        if (!m->name)
            snprintf(message, sizeof message, "this call has no member '%.*s'",
                     (int)RP_MIN(value->name.len, (size_t)60), value->name.ptr);
        else if (!is_of_kind(value, m->kind))
            snprintf(message, sizeof message, "\"%s\" must be %s", m->name, member_expected[m->kind]);
        else
            continue;
        rp_native_fail(w->call, 400, message);
        return false;
    }
    return true;
}

static bool
read_body(work *w)
{
    rp_native_call *call = w->call;
    rp_error error = { { 0 } };
    rp_json_reader *reader;
    if (rp_json_reader_new(&reader) != RP_OK) {
        rp_native_fail(call, 503, "no memory");
        return false;
    }
    const rp_status status = rp_json_parse(reader, &w->arena, call->body, &w->body, &error);
    rp_json_reader_free(reader);
    if (status != RP_OK || w->body->type != RP_JSON_OBJECT) {
        rp_native_fail(call, 400, status != RP_OK ? error.text : "the body must be a JSON object");
        return false;
    }
    w->tenant = call->is_admin ? text_of(w, "tenant") : call->tenant;
    return true;
}

/* ---- what is asked about ------------------------------------------------------------ */

#define REQUEST_MEMBERS                                                                        \
    { "prompt", MEMBER_TEXT }, { "request", MEMBER_OBJECT }, { "path", MEMBER_TEXT },          \
    { "namespace", MEMBER_TEXT }, { "category", MEMBER_TEXT }, { "user", MEMBER_TEXT }

static const member lookup_members[] = {
    REQUEST_MEMBERS,
    { "min_similarity", MEMBER_COSINE },
    { "error_max", MEMBER_SHARE },
    { "max_age_seconds", MEMBER_SECONDS },
    { NULL },
};

static const member store_members[] = {
    REQUEST_MEMBERS,
    { "reply", MEMBER_ANY },
    { "ttl_seconds", MEMBER_SECONDS },
    { "tags", MEMBER_ANY },
    { NULL },
};

/* {prompt} or {request, path}; the tenant must be known. */
static bool
read_request(work *w, const member *members, rp_cache_request *out)
{
    if (!check_members(w, members))
        return false;
    if (w->tenant.len == 0) {
        rp_native_fail(w->call, 400, "name the tenant whose entries are meant: \"tenant\"");
        return false;
    }
    const rp_json *request = rp_json_get(w->body, "request");
    *out = (rp_cache_request){
        .tenant = w->tenant,
        .namespace_name = text_of(w, "namespace"),
        .prompt = text_of(w, "prompt"),
        .category = text_of(w, "category"),
        .user = text_of(w, "user"),
        .max_age_seconds = seconds_of(w, "max_age_seconds"),
    };
    if (!out->namespace_name.len)
        out->namespace_name = w->call->headers->namespace_name;
    if (!request)
        return true;
    rp_buffer body;
    rp_buffer_init(&body, NATIVE_MEMORY_MAX);
    rp_json_write(request, &body);
    out->body = rp_arena_copy(&w->arena, rp_buffer_str(&body));
    rp_buffer_fini(&body);
    out->path = text_of(w, "path");
    if (!out->path.len)
        out->path = RP_STR("/v1/chat/completions");
    return true;
}

/* Tell the look-up what the proxy would have told it. */
static void
adjust_query(void *context, rp_query *query)
{
    const work *w = context;
    const rp_native_call *call = w->call;
    const bool is_prompt = query->request->wire == RP_WIRE_PROMPT;
    rp_client_headers headers = *call->headers;
    headers.namespace_name = query->caller.namespace_name;
    if (query->caller.category.len)
        headers.category = query->caller.category;
    const rp_str path = query->caller.endpoint;
    const rp_routing routing = rp_routing_find(
        call->site, call->identity.config, w->tenant, path, query->request->model,
        headers.namespace_name, query->request->wire == RP_WIRE_MESSAGES, NULL, NULL);
    /* Not through rp_cache_request, where 0 says that nothing was given. */
    const float min_similarity = (float)number_of(w, "min_similarity", -1);
    const double error_max = number_of(w, "error_max", 1);
    query->caller = rp_routing_caller(&routing, w->tenant, path, &headers);
    /* Attributes are copied by value: `headers` is ours alone. */
    query->caller.attributes = call->headers->attributes;
    if (is_prompt) {
        query->caller.upstream = (rp_str){ 0 };
        query->caller.attribute_count = 0;
    }
    query->rules = call->site->rules[routing.route_index];
    query->controls.min_similarity = fmaxf(min_similarity, call->headers->controls.min_similarity);
    query->controls.error_max = fmin(error_max, call->headers->controls.error_max);
}

/* ---- lookup, explain, store --------------------------------------------------------- */

static void
put_number(rp_json_writer *w, const char *name, double value)
{
    rp_json_key(w, name);
    rp_json_put_double(w, value); /* NaN becomes null */
}

static void
put_text(rp_json_writer *w, const char *name, const char *text)
{
    rp_json_key(w, name);
    rp_json_put_cstring(w, text && *text ? text : NULL);
}

/* A client's tenant whose similarities are nobody's to probe. */
static bool
hides_similarity(const work *w)
{
    const rp_tenant_config *tenant = w->call->identity.config;
    return !w->call->is_admin && tenant && tenant->hide_similarity;
}

static void
write_answer(work *w, const rp_cache_request *request, const rp_cache_answer *answer)
{
    rp_json_writer out;
    rp_json_writer_init(&out, &w->call->reply);
    rp_json_open(&out, '{');
    put_text(&out, "outcome", answer->outcome);
    put_text(&out, "tier", answer->tier);
    put_text(&out, "reason", answer->reason);
    put_text(&out, "entry", answer->entry);
    put_number(&out, "similarity", hides_similarity(w) ? (double)NAN : answer->similarity);
    put_number(&out, "risk", hides_similarity(w) ? (double)NAN : answer->risk);
    rp_json_key(&out, "age_seconds");
    if (answer->entry[0])
        rp_json_put_int(&out, answer->age_seconds);
    else
        rp_json_put_null(&out);
    rp_json_key(&out, "reply");
    if (!answer->hit)
        rp_json_put_null(&out);
    else if (request->body.len)
        rp_json_put_raw(&out, answer->reply);
    else
        rp_json_put_string(&out, answer->reply);
    rp_json_close(&out, '}');
}

/* As for a proxied request: a client's own credential gets answers only if the service that
 * would be asked has accepted it lately. */
static bool
may_read(const work *w, const rp_cache_request *request)
{
    const rp_native_call *call = w->call;
    if (call->is_admin)
        return true;
    const rp_str model = rp_json_string(rp_json_get(rp_json_get(w->body, "request"), "model"));
    rp_wire wire;
    const bool anthropic = rp_wire_of_path(request->path, &wire) && wire == RP_WIRE_MESSAGES;
    const rp_routing routing =
        rp_routing_find(call->site, call->identity.config, w->tenant, request->path, model,
                        request->namespace_name, anthropic, NULL, NULL);
    return rp_identity_may_read(call->site->tenants, rp_cache_store_of(call->server->cache),
                                &call->identity, routing.upstream ? routing.upstream->name : "",
                                rp_clock_wall_us(&rp_clock_system));
}

static void
write_unproven(work *w)
{
    rp_json_writer out;
    rp_json_writer_init(&out, &w->call->reply);
    rp_json_put_raw(&out, RP_STR("{\"outcome\":\"miss\",\"tier\":null,\"reason\":\"credential-unproven\","
                                 "\"entry\":null,\"similarity\":null,\"risk\":null,"
                                 "\"age_seconds\":null,\"reply\":null}"));
}

static void
run_lookup(work *w)
{
    rp_cache_request request;
    rp_cache_answer *answer = NULL;
    rp_error error = { { 0 } };
    if (!read_request(w, lookup_members, &request))
        return;
    if (!may_read(w, &request)) {
        write_unproven(w);
        return;
    }
    const rp_status status =
        rp_cache_lookup_as(w->call->server->cache, &request, adjust_query, w, &answer, &error);
    if (status == RP_OK)
        write_answer(w, &request, answer);
    else
        fail_status(w->call, status, &error);
    rp_cache_answer_free(answer);
}

static void
run_explain(work *w)
{
    rp_cache_request request;
    rp_error error = { { 0 } };
    char *json = NULL;
    size_t len = 0;
    if (!read_request(w, lookup_members, &request))
        return;
    if (!may_read(w, &request)) {
        rp_native_fail(w->call, 403, "the upstream has not accepted this credential lately");
        return;
    }
    if (hides_similarity(w)) {
        rp_native_fail(w->call, 403, "this tenant hides similarities; the admin listener explains");
        return;
    }
    const rp_status status =
        rp_cache_explain_as(w->call->server->cache, &request, adjust_query, w, &json, &len, &error);
    if (status == RP_OK)
        rp_buffer_append(&w->call->reply, (rp_str){ json, len });
    else
        fail_status(w->call, status, &error);
    free(json);
}

static bool
read_tags(work *w, rp_cache_store_options *options, rp_str *tags)
{
    const rp_json *list = rp_json_get(w->body, "tags");
    bool good = !list || (list->type == RP_JSON_ARRAY && list->count <= RP_TAGS_MAX);
    options->tags = tags;
    for (uint32_t i = 0; list && good && i < list->count; i++) {
        good = list->children[i].type == RP_JSON_STRING;
        if (good)
            tags[options->tag_count++] = list->children[i].string;
    }
    if (!good)
        rp_native_fail(w->call, 400, "\"tags\" must be a list of at most 16 strings");
    return good;
}

static void
run_store(work *w)
{
    rp_cache_request request;
    rp_cache_store_options options = { .ttl_seconds = seconds_of(w, "ttl_seconds") };
    rp_str tags[RP_TAGS_MAX];
    rp_error error = { { 0 } };
    char entry[33];
    const rp_json *reply = rp_json_get(w->body, "reply");
    if (!read_request(w, store_members, &request) || !read_tags(w, &options, tags))
        return;
    if (!reply) {
        rp_native_fail(w->call, 400, "\"reply\" is missing");
        return;
    }
    rp_buffer bytes;
    if (!request.body.len && reply->type != RP_JSON_STRING) {
        rp_native_fail(w->call, 400, "the \"reply\" to a prompt must be a string");
        return;
    }
    rp_buffer_init(&bytes, NATIVE_MEMORY_MAX);
    if (request.body.len)
        rp_json_write(reply, &bytes);
    else
        rp_buffer_append(&bytes, rp_json_string(reply));
    const rp_status status =
        rp_cache_store_as(w->call->server->cache, &request, adjust_query, w, rp_buffer_str(&bytes),
                          &options, entry, &error);
    rp_buffer_fini(&bytes);
    if (status != RP_OK) {
        fail_status(w->call, status, &error);
        return;
    }
    rp_json_writer out;
    w->call->status = 201;
    rp_json_writer_init(&out, &w->call->reply);
    rp_json_open(&out, '{');
    put_text(&out, "entry", entry);
    rp_json_close(&out, '}');
}

/* ---- feedback, invalidate, flush ------------------------------------------------------ */

static void
run_feedback(work *w)
{
    static const member members[] = {
        { "entry", MEMBER_SELECTOR },
        { "request_id", MEMBER_SELECTOR },
        { "correct", MEMBER_FLAG },
        { "reason", MEMBER_TEXT },
        { NULL },
    };
    rp_error error = { { 0 } };
    rp_cache *cache = w->call->server->cache;
    const rp_json *correct = rp_json_get(w->body, "correct");
    const rp_str entry = text_of(w, "entry"), request_id = text_of(w, "request_id");
    if (!check_members(w, members))
        return;
    if (w->tenant.len == 0 || !correct ||
        (entry.len > 0) == (request_id.len > 0)) {
        rp_native_fail(w->call, 400, "feedback needs \"correct\" (true or false) and either "
                                     "\"entry\" or \"request_id\" (and an admin \"tenant\")");
        return;
    }
    const rp_status status =
        entry.len ? rp_cache_feedback(cache, w->tenant, entry, correct->boolean, &error)
                  : rp_feedback_request(cache, w->tenant, request_id, correct->boolean, &error);
    if (status == RP_OK)
        rp_buffer_append(&w->call->reply, RP_STR("{\"accepted\":true}"));
    else
        fail_status(w->call, status, &error);
}

static void
write_removed(work *w, bool has_matched, size_t matched, size_t removed)
{
    rp_json_writer out;
    rp_json_writer_init(&out, &w->call->reply);
    rp_json_open(&out, '{');
    if (has_matched) {
        rp_json_key(&out, "matched");
        rp_json_put_uint(&out, matched);
    }
    rp_json_key(&out, "removed");
    rp_json_put_uint(&out, removed);
    rp_json_close(&out, '}');
}

static void
run_invalidate(work *w)
{
    static const member members[] = {
        { "entry", MEMBER_SELECTOR },
        { "tag", MEMBER_SELECTOR },
        { "namespace", MEMBER_SELECTOR },
        { "model", MEMBER_SELECTOR },
        { "older_than_seconds", MEMBER_SECONDS },
        { "confirm", MEMBER_FLAG },
        { NULL },
    };
    if (!check_members(w, members))
        return;
    const rp_json *confirm = rp_json_get(w->body, "confirm");
    const rp_cache_selector selector = {
        .tenant = w->tenant,
        .namespace_name = text_of(w, "namespace"),
        .model = text_of(w, "model"),
        .tag = text_of(w, "tag"),
        .entry = text_of(w, "entry"),
        .older_than_seconds = seconds_of(w, "older_than_seconds"),
    };
    if (!selector.namespace_name.len && !selector.model.len && !selector.tag.len &&
        !selector.entry.len && !selector.older_than_seconds) {
        rp_native_fail(w->call, 400, "say which: entry, tag, namespace, model or older_than_seconds; "
                                     "everything is /v1/reprise/flush");
        return;
    }
    size_t matched = 0, removed = 0;
    rp_error error = { { 0 } };
    const rp_status status = rp_cache_invalidate(w->call->server->cache, &selector,
                                                 rp_json_is_true(confirm), &matched, &removed, &error);
    if (status == RP_OK)
        write_removed(w, true, matched, removed);
    else
        fail_status(w->call, status, &error);
}

static void
run_flush(work *w)
{
    static const member members[] = { { "confirm", MEMBER_TEXT }, { NULL } };
    if (!check_members(w, members))
        return;
    if (!rp_str_equal(text_of(w, "confirm"), RP_STR("flush"))) {
        rp_native_fail(w->call, 400, "a flush removes everything: confirm it with {\"confirm\":\"flush\"}");
        return;
    }
    size_t removed = 0;
    rp_error error = { { 0 } };
    const rp_status status = rp_cache_flush(w->call->server->cache, w->tenant, &removed, &error);
    if (status == RP_OK)
        write_removed(w, false, 0, removed);
    else
        fail_status(w->call, status, &error);
}

/* ---- stats ------------------------------------------------------------------------------ */

static void
run_stats(work *w)
{
    rp_cache_stats stats;
    rp_server *server = w->call->server;
    rp_cache_stats_get(server->cache, &stats);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        { "entries", stats.entries },         { "vectors", stats.vectors },
        { "index_bytes", stats.index_bytes }, { "index_lists", stats.index_lists },
        { "policy_bytes", stats.policy_bytes },
        { "disk_bytes", stats.disk_bytes },   { "disk_max", stats.disk_max },
        { "memory_bytes", stats.memory_bytes }, { "memory_max", stats.memory_max },
        { "hits_exact", stats.hits_exact },   { "hits_semantic", stats.hits_semantic },
        { "misses", stats.misses },           { "bypasses", stats.bypasses },
        { "shadow_hits", stats.shadow_hits }, { "stored", stats.stored },
        { "not_stored", stats.not_stored },   { "committed", stats.committed },
        { "evicted", stats.evicted },         { "expired", stats.expired },
        { "damaged", stats.damaged },         { "failures", stats.failures },
        { "outcomes_right", stats.outcomes_right }, { "outcomes_wrong", stats.outcomes_wrong },
        { "recall_found", stats.recall_found }, { "recall_missed", stats.recall_missed },
        { "recall_missed_far", stats.recall_missed_far },
        { "tokens_saved_input", rp_metrics_sum(server->metrics, RP_SUM_TOKENS_SAVED_INPUT) },
        { "tokens_saved_output", rp_metrics_sum(server->metrics, RP_SUM_TOKENS_SAVED_OUTPUT) },
        { "tokens_billed_input", rp_metrics_sum(server->metrics, RP_SUM_TOKENS_BILLED_INPUT) },
        { "tokens_billed_output", rp_metrics_sum(server->metrics, RP_SUM_TOKENS_BILLED_OUTPUT) },
    };
    rp_json_writer out;
    rp_json_writer_init(&out, &w->call->reply);
    rp_json_open(&out, '{');
    rp_json_key(&out, "ready");
    rp_json_put_bool(&out, stats.ready);
    rp_json_key(&out, "semantic");
    rp_json_put_bool(&out, stats.semantic);
    put_number(&out, "loaded_share", stats.loaded_share);
    rp_json_key(&out, "reembed_waiting");
    rp_json_put_uint(&out, stats.reembed_waiting);
    rp_json_key(&out, "admission_paused");
    rp_json_put_bool(&out, stats.admission_paused);
    put_text(&out, "fingerprint", stats.fingerprint);
    for (size_t i = 0; i < RP_COUNT(numbers); i++) {
        rp_json_key(&out, numbers[i].name);
        rp_json_put_uint(&out, numbers[i].value);
    }
    rp_json_close(&out, '}');
}

/* ---- the whole ---------------------------------------------------------------------------- */

typedef struct call_row {
    const char *name;
    void (*run)(work *w);
    bool has_body, admin_only;
} call_row;

static const call_row calls[] = {
    { "lookup", run_lookup, true, false },         { "store", run_store, true, false },
    { "explain", run_explain, true, false },       { "feedback", run_feedback, true, false },
    { "invalidate", run_invalidate, true, false }, { "flush", run_flush, true, false },
    { "stats", run_stats, false, true },
};

static const call_row *
find_call(const rp_native_call *call)
{
    for (size_t i = 0; i < RP_COUNT(calls); i++)
        if (rp_str_equal(call->name, rp_str_of(calls[i].name)) &&
            (call->is_admin || !calls[i].admin_only))
            return &calls[i];
    return NULL;
}

void
rp_native_run(rp_native_call *call)
{
    const call_row *row = find_call(call);
    call->status = 200;
    call->allow = NULL;
    if (!row) {
        rp_native_fail(call, 404, "there is no such call on this listener");
        return;
    }
    if (!(row->has_body ? call->is_post : call->is_get)) {
        call->allow = row->has_body ? "POST" : "GET, HEAD";
        rp_native_fail(call, 405, row->has_body ? "this call is a POST" : "this call is a GET");
        return;
    }
    work w = { .call = call };
    rp_arena_init(&w.arena, NATIVE_MEMORY_MAX);
    if (!row->has_body || read_body(&w))
        row->run(&w);
    if (rp_buffer_failed(&call->reply) || rp_arena_failed(&w.arena))
        rp_native_fail(call, 503, "no memory for this call");
    rp_arena_fini(&w.arena);
}

/* ---- from a listener and back ------------------------------------------------------------- */

typedef struct job {
    rp_native_call call;
    rp_arena arena; /* copies of what belongs to the exchange */
    rp_client_headers headers;
    rp_loop *loop;
    rp_native_done *done;
    void *context;
} job;

static void
free_job(job *j)
{
    rp_site_unref(j->call.site);
    rp_buffer_fini(&j->call.reply);
    rp_arena_fini(&j->arena);
    free(j);
}

/* On the loop again. */
static void
hand_back(void *context)
{
    job *j = context;
    j->done(j->context, &j->call);
    free_job(j);
}

/* Pool thread. */
static void
run_job(void *context)
{
    job *j = context;
    rp_native_run(&j->call);
    if (rp_loop_post(j->loop, hand_back, j) != RP_OK)
        free_job(j); /* the loop has ended, and with it whoever waited */
}

static bool
copy_headers(job *j, const rp_client_headers *headers)
{
    j->headers = *headers;
    j->headers.credential = (rp_str){ 0 };
    j->headers.namespace_name = rp_arena_copy(&j->arena, headers->namespace_name);
    j->headers.category = rp_arena_copy(&j->arena, headers->category);
    for (size_t i = 0; i < headers->attribute_count; i++) {
        j->headers.attributes[i].name = rp_arena_copy(&j->arena, headers->attributes[i].name);
        j->headers.attributes[i].value = rp_arena_copy(&j->arena, headers->attributes[i].value);
    }
    j->call.headers = &j->headers;
    return !rp_arena_failed(&j->arena);
}

rp_status
rp_native_start(const rp_native_call *call, rp_loop *loop, rp_native_done *done, void *context)
{
    job *j = calloc(1, sizeof *j);
    if (!j)
        return RP_ERR_NOMEM;
    rp_arena_init(&j->arena, 0);
    j->call = *call;
    j->call.site = rp_site_ref(call->site);
    j->call.name = rp_arena_copy(&j->arena, call->name);
    j->call.tenant = rp_arena_copy(&j->arena, call->tenant);
    j->call.body = rp_arena_copy(&j->arena, call->body);
    rp_buffer_init(&j->call.reply, NATIVE_MEMORY_MAX);
    j->loop = loop;
    j->done = done;
    j->context = context;
    rp_status status = copy_headers(j, call->headers) ? RP_OK : RP_ERR_NOMEM;
    if (status == RP_OK)
        status = rp_server_run_blocking(call->server, run_job, j);
    if (status != RP_OK)
        free_job(j);
    return status;
}
