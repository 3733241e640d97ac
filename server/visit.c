/* visit.c - one client request as an object, from its arrival to the last byte of its reply.
 *
 *     on_request      which kind of path is it; what we answer ourselves
 *     rp_visit_consult  (consult.c) what does it ask, and what does the cache say
 *     upstream.c      anything that is no hit
 *     rp_visit_reply, or _begin and _write: what the client gets
 *     rp_visit_end    counted, logged, gone */
#include "base/bytes.h"
#include "base/clock.h"
#include "server/server_internal.h"

#include <math.h>
#include <stdlib.h>

int64_t
rp_now_us(void)
{
    return rp_clock_monotonic_us(&rp_clock_system);
}

/* ---- life ---------------------------------------------------------------------- */

rp_visit *
rp_visit_ref(rp_visit *visit)
{
    atomic_fetch_add_explicit(&visit->refs, 1, memory_order_relaxed);
    return visit;
}

static void
hold_visit(void *context)
{
    rp_visit_ref(context);
}

static void
discard(rp_visit *visit)
{
    rp_timer_free(visit->timer);
    rp_arena_fini(&visit->arena);
    rp_arena_fini(&visit->query_arena);
    rp_buffer_fini(&visit->encoded);
    rp_buffer_fini(&visit->collect);
    free(visit);
}

/* On the loop's thread. */
static void
release(void *context)
{
    rp_visit *visit = context;
    rp_worker *worker = visit->worker;
    if (visit->has_query)
        rp_query_fini(&visit->query);
    rp_flight_unref(visit->flight);
    rp_flight_unref(visit->landing);
    rp_reply_reader_free(visit->reader);
    rp_site_unref(visit->site);
    if (visit->timer)
        rp_timer_clear(visit->timer);
    if (visit->previous)
        visit->previous->next = visit->next;
    else
        worker->active = visit->next;
    if (visit->next)
        visit->next->previous = visit->previous;
    if (worker->idle_count == RP_WORKER_IDLE_MAX) {
        discard(visit);
        return;
    }
    rp_arena_reset(&visit->arena);
    rp_arena_reset(&visit->query_arena);
    /* A large reply must not stay with an idle visit. */
    rp_buffer_fini(&visit->encoded);
    rp_buffer_fini(&visit->collect);
    visit->next = worker->idle;
    worker->idle = visit;
    worker->idle_count++;
}

void
rp_visits_discard(rp_worker *worker)
{
    while (worker->idle) {
        rp_visit *visit = worker->idle;
        worker->idle = visit->next;
        discard(visit);
    }
    worker->idle_count = 0;
}

void
rp_visits_abort(rp_worker *worker)
{
    for (rp_visit *visit = worker->active, *next; visit; visit = next) {
        rp_visit_ref(visit);
        rp_visit_end(visit, RP_VISIT_ABORTED);
        rp_visit_cancel(visit);
        next = visit->next; /* still in the list: we refer to it */
        rp_visit_unref(visit);
    }
}

void
rp_visit_unref(rp_visit *visit)
{
    if (atomic_fetch_sub_explicit(&visit->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (rp_loop_is_current(visit->worker->loop))
        release(visit);
    else
        (void)!rp_loop_post(visit->worker->loop, release, visit);
}

static void on_wake(void *context);

static rp_visit *
take_visit(rp_worker *worker)
{
    rp_visit *visit = worker->idle;
    rp_timer *timer = NULL;
    rp_arena arena, query_arena;
    if (visit) {
        worker->idle = visit->next;
        worker->idle_count--;
        timer = visit->timer;
        arena = visit->arena;
        query_arena = visit->query_arena;
    } else {
        visit = malloc(sizeof *visit);
        if (!visit)
            return NULL;
        rp_arena_init(&arena, 0);
        rp_arena_init(&query_arena, 0);
    }
    /* All but the large parts that are filled in before they are read. */
    memset(visit, 0, offsetof(rp_visit, headers));
    memset(&visit->identity, 0, offsetof(rp_visit, request) - offsetof(rp_visit, identity));
    memset((char *)visit + offsetof(rp_visit, has_query), 0,
           sizeof *visit - offsetof(rp_visit, has_query));
    visit->timer = timer;
    visit->arena = arena;
    visit->query_arena = query_arena;
    visit->worker = worker;
    atomic_init(&visit->refs, 1);
    rp_buffer_init(&visit->encoded, 0);
    rp_buffer_init(&visit->collect, 0);
    visit->report.similarity = visit->report.risk = (double)NAN;
    visit->report.kind = RP_KIND_BYPASS;
    visit->report.ttl_us = -1;
    visit->report.saved = visit->usage = (rp_usage){ -1, -1 };
    visit->waiter.loop = worker->loop;
    visit->waiter.wake = on_wake;
    visit->waiter.hold = hold_visit;
    visit->waiter.context = visit;
    visit->next = worker->active;
    if (visit->next)
        visit->next->previous = visit;
    worker->active = visit;
    return visit;
}

/* ---- the end ------------------------------------------------------------------- */

static void
count_stages(rp_visit *visit)
{
    rp_metrics *metrics = visit->worker->server->metrics;
    if (visit->parse_us > 0)
        rp_metrics_stage(metrics, RP_STAGE_PARSE, visit->parse_us);
    if (visit->first_byte_us)
        rp_metrics_stage(metrics, RP_STAGE_UPSTREAM, visit->first_byte_us - visit->forward_us);
    const rp_lookup_result *result = &visit->timing;
    const struct {
        rp_stage stage;
        int64_t duration_us;
    } rows[] = {
        { RP_STAGE_EMBED, result->embed_us },   { RP_STAGE_SEARCH, result->search_us },
        { RP_STAGE_GATE, result->gate_us },     { RP_STAGE_POLICY, result->policy_us },
        { RP_STAGE_VERIFY, result->verify_us }, { RP_STAGE_JUDGE, result->judge_us },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        if (rows[i].duration_us > 0)
            rp_metrics_stage(metrics, rows[i].stage, rows[i].duration_us);
}

void
rp_visit_add_cost(rp_visit *visit, rp_sum sum, rp_usage usage, double share)
{
    const rp_config *config = visit->site->config;
    const rp_price_config *price = rp_config_price(config, visit->request.model);
    if (!price)
        return;
    /* US$ for a million tokens are 1e6 of our 1e-12 US$ for one. */
    const double cost = (double)RP_MAX(usage.input_tokens, 0) * price->input_usd * 1e6 +
                        (double)RP_MAX(usage.output_tokens, 0) * price->output_usd * 1e6;
    rp_metrics_add(visit->worker->server->metrics, sum, (int64_t)(cost * share));
}

static void
count_visit(rp_visit *visit)
{
    rp_metrics *metrics = visit->worker->server->metrics;
    const rp_cache_report *report = &visit->report;
    rp_metrics_request(metrics, visit->route ? visit->route->name : "none", report->tier,
                       report->kind, visit->api);
    if (report->kind != RP_KIND_HIT && report->reason)
        rp_metrics_count(metrics, RP_FAMILY_MISS_REASONS, report->reason);
    count_stages(visit);
    if (isfinite(report->similarity) && report->tier != RP_TIER_EXACT)
        rp_metrics_similarity(metrics, report->kind, report->similarity);
    rp_metrics_add(metrics, RP_SUM_BYTES_IN, (int64_t)visit->bytes_in);
    rp_metrics_add(metrics, RP_SUM_BYTES_OUT, (int64_t)visit->bytes_out);
    if (visit->client_gone)
        rp_metrics_add(metrics, RP_SUM_CLIENT_GONE, 1);
    if (report->kind == RP_KIND_HIT) {
        rp_metrics_entry_age(metrics, report->age_us);
        rp_metrics_add(metrics, RP_SUM_TOKENS_SAVED_INPUT, report->saved.input_tokens);
        rp_metrics_add(metrics, RP_SUM_TOKENS_SAVED_OUTPUT, report->saved.output_tokens);
        rp_visit_add_cost(visit, RP_SUM_COST_SAVED, report->saved, 1);
    }
}

/* The exchange must still be there: the line names method and path. */
static void
log_visit(rp_visit *visit, const rp_http_request *request)
{
    rp_server *server = visit->worker->server;
    if (!rp_access_log_is_on(server->log))
        return;
    const rp_lookup_result *timing = &visit->timing;
    const rp_access_record record = {
        .time = visit->time,
        .request_id = visit->request_id,
        .route = visit->route ? visit->route->name : NULL,
        .api = visit->api,
        .tenant = visit->identity.name,
        .method = request->method,
        .path = request->path,
        .client_address = request->client_address,
        .kind = visit->report.kind,
        .tier = visit->report.tier,
        .reason = visit->report.reason,
        .similarity = visit->report.similarity,
        .entry = visit->report.entry,
        .stream = visit->has_query && visit->request.stream,
        .collapsed = visit->report.collapsed,
        .client_gone = visit->client_gone,
        .status = visit->status,
        .upstream_status = visit->upstream_status,
        .total_us = rp_now_us() - visit->start_us,
        .parse_us = visit->parse_us,
        .exact_us = timing->exact_us,
        .embed_us = timing->embed_us,
        .search_us = timing->search_us,
        .gate_us = timing->gate_us,
        .policy_us = timing->policy_us,
        .verify_us = timing->verify_us,
        .judge_us = timing->judge_us,
        .replay_us = visit->replay_us,
        .load_us = timing->load_us,
        .upstream_first_us = visit->first_byte_us ? visit->first_byte_us - visit->forward_us : 0,
        .bytes_in = visit->bytes_in,
        .bytes_out = visit->bytes_out,
    };
    rp_access_log_write(server->log, &record, &visit->worker->line);
}

void
rp_visit_end(rp_visit *visit, rp_visit_end_kind kind)
{
    rp_exchange *exchange = visit->exchange;
    if (!exchange)
        return;
    visit->client_gone = kind == RP_VISIT_GONE;
    log_visit(visit, rp_exchange_request(exchange));
    count_visit(visit);
    visit->awaits_lookup = false;
    visit->exchange = NULL;
    rp_exchange_set_context(exchange, NULL);
    if (kind == RP_VISIT_SERVED)
        rp_exchange_end(exchange);
    else if (kind == RP_VISIT_ABORTED)
        rp_exchange_abort(exchange);
    rp_visit_unref(visit);
}

static void
add_cors(rp_visit *visit, rp_reply_head *head)
{
    const rp_config *config = visit->site->config;
    if (!config->cors)
        return;
    rp_reply_head_add(head, RP_STR("Access-Control-Allow-Origin"), rp_str_of(config->cors_origin));
    rp_reply_head_add(head, RP_STR("Access-Control-Expose-Headers"), RP_STR("*"));
}

static void
add_report(rp_visit *visit, rp_reply_head *head)
{
    visit->report.request_id = visit->request_id;
    visit->report.aliases = visit->site->config->emit_aliases;
    visit->report.hide_similarity =
        visit->identity.config && visit->identity.config->hide_similarity;
    if (visit->report.overhead_us == 0)
        visit->report.overhead_us = rp_now_us() - visit->start_us;
    rp_reply_head_add_report(head, &visit->report);
    add_cors(visit, head);
}

void
rp_visit_reply(rp_visit *visit, int status, rp_reply_head *head, rp_str body)
{
    if (!visit->exchange)
        return;
    add_report(visit, head);
    visit->status = status;
    visit->bytes_out = body.len;
    rp_exchange_begin(visit->exchange, status, head->headers, head->count,
                      status == 204 ? RP_BODY_NONE : (int64_t)body.len);
    if (body.len)
        rp_exchange_write(visit->exchange, body);
    rp_visit_end(visit, RP_VISIT_SERVED);
}

void
rp_visit_fail(rp_visit *visit, int status, const char *type, const char *code, const char *message)
{
    rp_reply_head head;
    rp_reply_head_init(&head);
    rp_reply_head_add(&head, RP_STR("Content-Type"), RP_STR("application/json"));
    if (status == 503)
        rp_reply_head_add(&head, RP_STR("Retry-After"), RP_STR("1"));
    rp_buffer *body = &visit->worker->scratch;
    rp_buffer_clear(body);
    rp_wire wire = visit->is_wire ? visit->wire : RP_WIRE_CHAT;
    if (visit->headers.place == RP_CREDENTIAL_X_API_KEY)
        wire = RP_WIRE_MESSAGES; /* speaks Anthropic, whatever the path */
    rp_wire_error_body(wire, status, type, code, rp_str_of(message), body);
    rp_visit_reply(visit, status, &head, rp_buffer_str(body));
}

void
rp_visit_begin(rp_visit *visit, int status, const rp_header *headers, size_t count,
               int64_t content_length, bool shared)
{
    if (!visit->exchange)
        return;
    rp_reply_head head;
    rp_reply_head_init(&head);
    for (size_t i = 0; i < count; i++) {
        /* A cookie is for the one who asked, not for those who follow. */
        if (rp_header_is_dropped_from_reply(headers[i].name) ||
            (shared && rp_str_equal_ignoring_case(headers[i].name, RP_STR("set-cookie"))))
            continue;
        rp_reply_head_add(&head, headers[i].name, headers[i].value);
    }
    add_report(visit, &head);
    visit->status = status;
    visit->head_sent = true;
    const bool no_body = status == 204 || status == 304;
    rp_exchange_begin(visit->exchange, status, head.headers, head.count,
                      no_body              ? RP_BODY_NONE
                      : content_length >= 0 ? content_length
                                            : RP_BODY_CHUNKED);
}

bool
rp_visit_write(rp_visit *visit, rp_str bytes)
{
    if (!visit->exchange)
        return true;
    visit->bytes_out += bytes.len;
    if (!rp_exchange_write(visit->exchange, bytes))
        visit->output_full = true;
    return !visit->output_full;
}

/* The query has a list of its own where protocols share entries. */
static void
detach_attributes(rp_arena *arena, rp_caller *caller)
{
    rp_attribute *copy = rp_arena_calloc(arena, caller->attribute_count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < caller->attribute_count; i++)
        copy[i] = (rp_attribute){ caller->attributes[i].name,
                                  rp_arena_copy(arena, caller->attributes[i].value) };
    if (copy)
        caller->attributes = copy;
}

bool
rp_visit_detach(rp_visit *visit)
{
    rp_arena *arena = &visit->arena;
    rp_client_headers *headers = &visit->headers;
    headers->namespace_name = rp_arena_copy(arena, headers->namespace_name);
    headers->category = rp_arena_copy(arena, headers->category);
    rp_caller *caller = &visit->query.caller;
    detach_attributes(arena, caller);
    caller->namespace_name = rp_arena_copy(arena, caller->namespace_name);
    caller->category = rp_arena_copy(arena, caller->category);
    caller->endpoint = rp_arena_copy(arena, caller->endpoint);
    visit->query.controls.tags = rp_arena_copy(arena, visit->query.controls.tags);
    return !rp_arena_failed(arena);
}

/* ---- from and to the HTTP server ----------------------------------------------- */

static void
make_request_id(rp_visit *visit)
{
    uint8_t bytes[8];
    rp_store_le64(bytes, rp_random_next(&visit->worker->random));
    rp_hex_encode(bytes, sizeof bytes, visit->request_id);
}

/* h2c is only an offer (Java's client makes it each time): without an answer the client
 * stays with HTTP/1.1. Anything else, websockets above all, cannot be proxied here. */
static bool
wants_upgrade(const rp_http_request *request)
{
    const rp_str upgrade = rp_http_header(request->headers, request->header_count, "upgrade");
    return upgrade.len && !rp_str_equal_ignoring_case(upgrade, RP_STR("h2c"));
}

static void
dispatch(rp_visit *visit, const rp_http_request *request)
{
    if (wants_upgrade(request)) {
        rp_visit_fail(visit, 501, "invalid_request_error", "upgrade_unsupported",
                      "this server does not change protocols");
        return;
    }
    const bool is_server = rp_str_equal(request->path, RP_STR("*")); /* OPTIONS only */
    if (!is_server && (request->path.len == 0 || request->path.ptr[0] != '/')) {
        rp_visit_fail(visit, 400, "invalid_request_error", "invalid_path",
                      "the request target must begin with a slash");
        return;
    }
    if (visit->headers.problem) {
        rp_visit_fail(visit, 400, "invalid_request_error", "invalid_header",
                      visit->headers.problem);
        return;
    }
    rp_identity_of(visit->site->tenants, &visit->headers, &visit->arena, &visit->identity);
    if (rp_local_answer(visit))
        return;
    rp_visit_consult(visit, request);
}

static rp_worker *
find_worker(rp_server *server, const rp_loop *loop)
{
    for (size_t i = 0; i < server->worker_count; i++)
        if (server->workers[i].loop == loop)
            return &server->workers[i];
    return NULL;
}

static void
on_request(void *context, rp_exchange *exchange, const rp_http_request *request)
{
    rp_worker *worker = find_worker(context, rp_exchange_loop(exchange));
    rp_visit *visit = worker->is_stopping ? NULL : take_visit(worker);
    if (!visit) {
        const rp_header headers[] = { { RP_STR("Retry-After"), RP_STR("1") },
                                      { RP_STR("Content-Type"), RP_STR("application/json") } };
        rp_metrics_add(worker->server->metrics, RP_SUM_REFUSED, 1);
        rp_exchange_reply(exchange, 503, headers, RP_COUNT(headers),
                          RP_STR("{\"type\":\"error\",\"error\":{\"message\":\"the server is stopping or "
                                 "out of memory\",\"type\":\"overloaded_error\",\"param\":null,"
                                 "\"code\":null}}"));
        return;
    }
    visit->start_us = rp_now_us();
    visit->time = rp_clock_wall_us(&rp_clock_system);
    visit->site = rp_site_ref(worker->site);
    visit->exchange = exchange;
    rp_exchange_set_context(exchange, visit);
    make_request_id(visit);
    visit->bytes_in = request->body.len;
    visit->is_wire = rp_str_equal(request->method, RP_STR("POST")) &&
                     rp_wire_of_path(request->path, &visit->wire);
    visit->api = visit->is_wire ? rp_wire_name(visit->wire) : "other";
    rp_client_headers_read(request, &visit->arena, &visit->headers);
    dispatch(visit, request);
}

static void
on_body(void *context, rp_exchange *exchange, rp_str bytes, bool last)
{
    (void)context;
    rp_visit *visit = rp_exchange_context(exchange);
    if (!visit)
        return;
    visit->bytes_in += bytes.len;
    rp_visit_upload(visit, bytes, last);
}

static void
on_gone(void *context, rp_exchange *exchange)
{
    (void)context;
    rp_visit *visit = rp_exchange_context(exchange);
    if (!visit)
        return;
    rp_visit_ref(visit);
    if (visit->status == 0)
        visit->status = 499; /* nginx's word for a client that left; only in the log */
    rp_visit_end(visit, RP_VISIT_GONE);
    rp_visit_forward_gone(visit);
    rp_visit_unref(visit);
}

static void
on_drained(void *context, rp_exchange *exchange)
{
    (void)context;
    rp_visit *visit = rp_exchange_context(exchange);
    if (!visit)
        return;
    visit->output_full = false;
    rp_visit_drained(visit);
}

/* The flight has news for this visit; its post holds a reference. */
static void
on_wake(void *context)
{
    rp_visit *visit = context;
    rp_visit_drained(visit);
    rp_visit_unref(visit);
}

const rp_http_handler rp_visit_handler = {
    .on_request = on_request,
    .on_body = on_body,
    .on_gone = on_gone,
    .on_drained = on_drained,
};
