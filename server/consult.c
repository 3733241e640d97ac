/* consult.c - what one client request asks, and what the cache says about it.
 *
 *     understand    body, headers, tenant, route, scope        (bad: 4xx or bypass)
 *     look_up       exact tier, here, without waiting
 *       cold        its reply is on disk: pool, and back
 *       semantic    batcher: embed, search, decide; and back
 *     conclude      hit: replay. Anything else: upstream.c
 *
 * An exact hit never leaves the loop's thread and copies nothing of the request.
 * While another thread works on `query` a timer runs: when lookup_deadline passes,
 * the request goes on without the cache and the late result is only used to give
 * the new entry its vector. */
#include "base/bytes.h"
#include "base/log.h"
#include "server/routing.h"
#include "server/server_internal.h"

#include <math.h>

/* ---- a hit --------------------------------------------------------------------- */

static rp_usage
estimate_saved(const rp_visit *visit, const rp_entry *entry, const rp_reply *reply)
{
    rp_usage usage = rp_reply_usage(reply);
    if (usage.input_tokens < 0)
        usage.input_tokens = entry->input_tokens;
    if (usage.output_tokens < 0)
        usage.output_tokens = entry->output_tokens;
    if (usage.input_tokens < 0)
        usage.input_tokens = (int64_t)visit->request.text_tokens_hint;
    if (usage.output_tokens < 0)
        usage.output_tokens = (int64_t)(rp_reply_text(reply).len / 4);
    return usage;
}

static void
report_entry(rp_visit *visit)
{
    const rp_lookup_result *result = &visit->query.result;
    rp_cache_report *report = &visit->report;
    const rp_entry *entry = result->entry;
    report->tier = result->tier;
    rp_store_id_encode(rp_cache_store_of(visit->worker->server->cache), entry->id, report->entry);
    /* An entry that came while this request waited is younger than the request. */
    report->age_us = RP_MAX(visit->query.now - entry->created, 0);
    report->ttl_us = entry->expires ? RP_MAX(entry->expires - visit->query.now, 0) : -1;
    report->saved = estimate_saved(visit, entry, result->reply);
}

bool
rp_visit_write_reply(rp_visit *visit, const rp_reply *reply, rp_buffer *out)
{
    rp_random *random = &visit->worker->random;
    const rp_replay_options options = {
        .wire = visit->request.wire,
        .stream = visit->request.stream,
        .include_usage = visit->request.include_usage,
        .zero_usage = visit->site->config->usage_zero,
        .created = visit->time / 1000000,
        .id_random = { rp_random_next(random), rp_random_next(random) },
    };
    return rp_reply_replay(reply, &options, out) == RP_OK && !rp_buffer_failed(out);
}

/* False: this reply cannot be given in the form that was asked for; nothing was sent. */
static bool
replay(rp_visit *visit)
{
    rp_worker *worker = visit->worker;
    const rp_lookup_result *result = &visit->query.result;
    /* Search stays within the scope; here it is checked once more, because an answer of
     * another scope is the one thing that must never leave. */
    if (memcmp(&result->entry->scope, &visit->query.scope, sizeof visit->query.scope) != 0) {
        rp_log(RP_LOG_ERROR, "an entry of another scope was about to be served; it was not. "
                             "Please report this");
        rp_metrics_count(worker->server->metrics, RP_FAMILY_MISS_REASONS, "scope-violation");
        return false;
    }
    const int64_t begun_us = rp_now_us();
    rp_buffer_clear(&worker->scratch);
    if (!rp_visit_write_reply(visit, result->reply, &worker->scratch))
        return false;
    report_entry(visit);
    rp_remember_request(worker->server->cache, &visit->query, rp_str_of(visit->request_id));

    rp_reply_head head;
    rp_reply_head_init(&head);
    if (visit->request.stream) {
        rp_reply_head_add(&head, RP_STR("Content-Type"), RP_STR("text/event-stream; charset=utf-8"));
        rp_reply_head_add(&head, RP_STR("Cache-Control"), RP_STR("no-cache"));
    } else {
        rp_reply_head_add(&head, RP_STR("Content-Type"), RP_STR("application/json"));
    }
    visit->replay_us = rp_now_us() - begun_us;
    rp_metrics_stage(worker->server->metrics, RP_STAGE_REPLAY, visit->replay_us);
    rp_visit_reply(visit, 200, &head, rp_buffer_str(&worker->scratch));
    return true;
}

/* ---- from the look-up to what is done about it --------------------------------- */

static rp_outcome_kind
kind_of(rp_lookup_outcome outcome)
{
    switch (outcome) {
    case RP_LOOKUP_HIT:
        return RP_KIND_HIT;
    case RP_LOOKUP_BYPASS:
        return RP_KIND_BYPASS;
    case RP_LOOKUP_REFRESH:
        return RP_KIND_REFRESH;
    case RP_LOOKUP_SHADOW_HIT:
        return RP_KIND_SHADOW_HIT;
    default:
        return RP_KIND_MISS;
    }
}

/* No hit: forward, unless only the cache was wanted. */
static void
go_on(rp_visit *visit)
{
    if (!visit->headers.only_if_cached) {
        rp_visit_forward(visit);
        return;
    }
    /* RFC 9111, 5.2.1.7. */
    visit->report.kind = RP_KIND_MISS;
    visit->report.only_if_cached = true;
    rp_visit_fail(visit, 504, "cache_miss", "only_if_cached",
                  "no stored reply answers this request, and only-if-cached forbids to ask "
                  "the upstream");
}

static void start_cold(rp_visit *visit);
static void start_semantic(rp_visit *visit);

/* `query` is the loop's again, and says how things stand. */
static void
conclude(rp_visit *visit)
{
    const rp_lookup_result *result = &visit->query.result;
    rp_cache_report *report = &visit->report;
    if (result->outcome == RP_LOOKUP_WANTS_JUDGE) /* has_judge is never set here */
        rp_lookup_judged(visit->worker->server->cache, &visit->query, RP_JUDGE_UNSURE, 0);
    if (result->outcome == RP_LOOKUP_COLD) {
        start_cold(visit);
        return;
    }
    if (result->outcome == RP_LOOKUP_WANTS_SEMANTIC) {
        start_semantic(visit);
        return;
    }
    visit->timing = *result;
    report->kind = kind_of(result->outcome);
    report->tier = RP_TIER_NONE;
    report->reason = result->reason;
    report->similarity = (double)result->similarity;
    report->embed_us = result->embed_us;
    report->search_us = result->search_us;
    report->policy_us = result->policy_us + result->gate_us;
    report->risk = result->decision.reason ? result->decision.risk : (double)NAN;
    if (result->decision.reason && visit->query.rules.decider)
        report->policy = rp_decider_spec(visit->query.rules.decider);
    if (result->outcome == RP_LOOKUP_HIT) {
        if (replay(visit))
            return;
        report->kind = RP_KIND_MISS;
        report->reason = "form";
        visit->query.result.outcome = RP_LOOKUP_MISS; /* the new reply takes the entry's place */
    }
    visit->may_keep = visit->query.may_write && report->kind != RP_KIND_BYPASS;
    go_on(visit);
}

bool
rp_visit_replay_late(rp_visit *visit)
{
    rp_cache *cache = visit->worker->server->cache;
    rp_query *query = &visit->query;
    if (!query->may_read ||
        rp_store_exact(rp_cache_store_of(cache), query->scope, query->key) == 0)
        return false;
    const rp_lookup_result before = query->result;
    rp_lookup_exact(cache, query);
    if (query->result.outcome != RP_LOOKUP_HIT) {
        query->result = before; /* kept for another user, say: still a miss */
        return false;
    }
    visit->report.kind = RP_KIND_HIT;
    visit->report.reason = query->result.reason;
    visit->report.similarity = (double)query->result.similarity;
    if (replay(visit))
        return true;
    visit->report.kind = RP_KIND_MISS;
    visit->report.reason = "form";
    return false;
}

/* The look-up was late, or could not begin: the request goes on without it. */
static void
leave_out(rp_visit *visit, const char *reason)
{
    visit->report.kind = RP_KIND_BYPASS;
    visit->report.reason = reason;
    if (!visit->query_busy)
        visit->may_keep = visit->query.may_write;
    go_on(visit);
}

static void
on_deadline(void *context)
{
    rp_visit *visit = context;
    if (!visit->awaits_lookup || !visit->exchange)
        return;
    visit->awaits_lookup = false;
    leave_out(visit, "deadline");
}

/* Another thread has finished with `query`. */
static void
on_looked_up(void *context)
{
    rp_visit *visit = context;
    visit->query_busy = false;
    if (visit->awaits_lookup) {
        visit->awaits_lookup = false;
        rp_timer_clear(visit->timer);
        if (visit->exchange)
            conclude(visit);
    }
    rp_visit_keep_late(visit);
    rp_visit_unref(visit);
}

static void
post_looked_up(rp_visit *visit)
{
    (void)!rp_loop_post(visit->worker->loop, on_looked_up, visit);
}

/* Hand `query` to another thread. False: no memory, or the deadline has passed. */
static bool
hand_over(rp_visit *visit)
{
    if (visit->query_busy)
        return false;
    if (!visit->timer &&
        rp_timer_new(visit->worker->loop, on_deadline, visit, &visit->timer) != RP_OK)
        return false;
    const int64_t left_us = visit->query.deadline_us - rp_now_us();
    if (left_us <= 0 || !rp_visit_detach(visit))
        return false;
    rp_timer_set(visit->timer, left_us);
    rp_visit_ref(visit);
    visit->may_keep = visit->query.may_write; /* asked again only when `query` is ours */
    visit->query_busy = visit->awaits_lookup = true;
    return true;
}

static void
take_back(rp_visit *visit)
{
    visit->query_busy = visit->awaits_lookup = false;
    rp_timer_clear(visit->timer);
    rp_visit_unref(visit);
}

/* Pool thread. */
static void
look_up_cold(void *context)
{
    rp_visit *visit = context;
    rp_lookup_cold(visit->worker->server->cache, &visit->query);
    post_looked_up(visit);
}

static void
start_cold(rp_visit *visit)
{
    if (!hand_over(visit)) {
        leave_out(visit, "deadline");
        return;
    }
    if (rp_pool_submit(visit->worker->server->pool, look_up_cold, visit) != RP_OK) {
        take_back(visit);
        leave_out(visit, "pool-busy");
    }
}

/* Batcher thread: texts that were encoded together are searched for together. */
void
rp_visits_embedded(void *context, void *const *visits, const rp_batch_result *results, size_t count)
{
    rp_server *server = context;
    rp_query *queries[64];
    size_t n = 0;
    for (size_t i = 0; i < count && n < RP_COUNT(queries); i++) {
        rp_query *query = &((rp_visit *)visits[i])->query;
        if (rp_query_embedding(server->cache, query, results[i].embedding,
                               results[i].waited_us + results[i].encode_us) == RP_OK)
            queries[n++] = query;
    }
    rp_lookup_search_many(server->cache, queries, n);
}

/* Batcher thread: search and decide here, so that it is one hop there and one back. */
static void
on_embedded(void *context, const rp_batch_result *batch)
{
    rp_visit *visit = context;
    rp_server *server = visit->worker->server;
    rp_query *query = &visit->query;
    if (batch->status == RP_OK) {
        rp_metrics_add(server->metrics, RP_SUM_ENCODED, 1);
        /* An eighth of the new value: follows a change within some ten batches. */
        const long long old_us = atomic_load_explicit(&server->encode_us, memory_order_relaxed);
        atomic_store_explicit(&server->encode_us, old_us + (batch->encode_us - old_us) / 8,
                              memory_order_relaxed);
    }
    if (batch->status == RP_ERR_TIMEOUT)
        rp_lookup_skip(server->cache, query, "deadline");
    else if (batch->status == RP_ERR_LIMIT)
        rp_lookup_skip(server->cache, query, "long");
    else if (batch->status != RP_OK)
        rp_lookup_skip(server->cache, query, "encoder");
    else if (query->is_searched ||
             rp_query_embedding(server->cache, query, batch->embedding,
                                batch->waited_us + batch->encode_us) == RP_OK)
        rp_lookup_semantic(server->cache, query);
    else
        rp_lookup_skip(server->cache, query, "encoder");
    post_looked_up(visit);
}

/* Would this text still be waiting when the deadline comes? A batch takes several texts,
 * how many depends on their lengths; four is a guess on the safe side. */
static bool
is_queue_too_long(rp_server *server, int64_t left_us)
{
    const int64_t waiting = (int64_t)rp_batcher_waiting(server->batcher);
    const int64_t encode_us = atomic_load_explicit(&server->encode_us, memory_order_relaxed);
    return waiting > 4 && waiting * encode_us / 4 > left_us;
}

static void
start_semantic(rp_visit *visit)
{
    rp_server *server = visit->worker->server;
    rp_query *query = &visit->query;
    if (!server->batcher) {
        rp_lookup_skip(server->cache, query, "no-encoder");
        conclude(visit);
        return;
    }
    if (is_queue_too_long(server, query->deadline_us - rp_now_us())) {
        leave_out(visit, "encoder-busy");
        return;
    }
    if (!hand_over(visit)) {
        leave_out(visit, "deadline");
        return;
    }
    if (rp_batcher_submit_to(server->batcher, rp_query_encoder(query), query->fuzzy,
                             query->deadline_us, on_embedded, visit) != RP_OK) {
        take_back(visit);
        leave_out(visit, "encoder-busy");
    }
}

/* ---- what is asked ------------------------------------------------------------- */

static rp_str
find_header(void *context, const char *name)
{
    const rp_http_request *request = context;
    return rp_http_header(request->headers, request->header_count, name);
}

static void
find_route(rp_visit *visit, const rp_http_request *request, rp_str model)
{
    const bool anthropic = visit->is_wire ? visit->wire == RP_WIRE_MESSAGES
                                          : visit->headers.place == RP_CREDENTIAL_X_API_KEY;
    const rp_routing routing = rp_routing_find(
        visit->site, visit->identity.config, visit->identity.name, request->path, model,
        visit->headers.namespace_name, anthropic, find_header, (void *)(uintptr_t)request);
    visit->route = routing.route;
    visit->route_index = routing.route_index;
    visit->upstream = routing.upstream;
}

/* Forward without the cache having a part in it. */
static void
pass_through(rp_visit *visit, const rp_http_request *request, rp_str model, const char *reason)
{
    if (!visit->route)
        find_route(visit, request, model);
    visit->report.kind = RP_KIND_BYPASS;
    visit->report.reason = reason;
    go_on(visit);
}

static void
prepare_query(rp_visit *visit, const rp_http_request *request)
{
    rp_server *server = visit->worker->server;
    rp_query *query = &visit->query;
    rp_query_init(query);
    visit->has_query = true;
    query->request = &visit->request;
    query->arena = &visit->query_arena;
    query->rules = visit->site->rules[visit->route_index];
    query->controls = visit->headers.controls;
    rp_controls_add_body(&query->controls, &visit->request.controls);
    if (!visit->headers.namespace_name.len)
        visit->headers.namespace_name = visit->request.controls.namespace_name;
    query->deadline_us = visit->start_us + visit->site->config->lookup_deadline_us;
    const rp_routing routing = { visit->route, visit->route_index, visit->upstream };
    query->caller = rp_routing_caller(&routing, visit->identity.name, request->path, &visit->headers);
    (void)rp_query_prepare(server->cache, query); /* a failure is a bypass, with its reason */
}

static void
look_up(rp_visit *visit)
{
    rp_server *server = visit->worker->server;
    rp_query *query = &visit->query;
    if (query->result.outcome == RP_LOOKUP_MISS &&
        !rp_identity_may_read(visit->site->tenants, rp_cache_store_of(server->cache),
                              &visit->identity, visit->upstream->name, query->now)) {
        /* Not yet accepted by the upstream, or too long ago: it has to speak first. */
        query->may_read = false;
        visit->report.kind = RP_KIND_MISS;
        visit->report.reason = "credential-unproven";
        visit->may_keep = query->may_write;
        go_on(visit);
        return;
    }
    if (query->result.outcome == RP_LOOKUP_MISS)
        rp_lookup_exact(server->cache, query);
    conclude(visit);
}

/* Why a body that is no plain JSON is not an error: it may be one that only we refuse. */
static const char *
reason_of_json(rp_status status)
{
    return status == RP_ERR_EXISTS        ? "duplicate-key"
           : status == RP_ERR_LIMIT       ? "depth"
           : status == RP_ERR_UNSUPPORTED ? "number"
           : status == RP_ERR_CORRUPT     ? "surrogate"
                                          : "memory";
}

/* The cacheable paths: understand the request, then look it up. */
static void
visit_wire(rp_visit *visit, const rp_http_request *request)
{
    const rp_str none = { 0 };
    if (!request->body_is_whole || request->body.len > visit->site->config->cacheable_max) {
        pass_through(visit, request, none, "too-large");
        return;
    }
    if (rp_http_header(request->headers, request->header_count, "content-encoding").len) {
        pass_through(visit, request, none, "encoded");
        return;
    }
    /* Not the visit's own arena, which holds whose request this is: what is refused is thrown
     * away. A tree may be larger than its text, but not by any factor. */
    rp_arena *arena = &visit->query_arena;
    arena->size_max = 16 * request->body.len + (1 << 20);
    const rp_json *json;
    rp_error error = { { 0 } };
    const rp_status parsed = rp_json_parse(visit->worker->json, arena, request->body, &json, &error);
    const bool own = parsed == RP_OK && visit->wire == RP_WIRE_EMBEDDINGS && rp_local_embeds(json);
    const rp_status understood =
        parsed == RP_OK && !own
            ? rp_request_parse(visit->wire, request->body, json, arena, &visit->request, &error)
            : parsed;
    arena->size_max = 0;
    if (own) {
        rp_local_embeddings(visit, json);
        return;
    }
    if (understood != RP_OK)
        rp_arena_reset(arena);
    if (parsed == RP_ERR_INVALID) {
        visit->report.reason = "malformed";
        rp_visit_fail(visit, 400, "invalid_request_error", "invalid_json", error.text);
        return;
    }
    if (understood != RP_OK) {
        pass_through(visit, request, none, parsed == RP_OK ? "body" : reason_of_json(parsed));
        return;
    }
    find_route(visit, request, visit->request.model);
    prepare_query(visit, request);
    visit->parse_us = rp_now_us() - visit->start_us;
    if (!visit->identity.is_known) {
        visit->report.kind = RP_KIND_BYPASS;
        visit->report.reason = visit->headers.has_several ? "several-credentials" : "no-credential";
        go_on(visit);
        return;
    }
    look_up(visit);
}

void
rp_visit_consult(rp_visit *visit, const rp_http_request *request)
{
    if (visit->is_wire)
        visit_wire(visit, request);
    else
        pass_through(visit, request, (rp_str){ 0 }, "path");
}
