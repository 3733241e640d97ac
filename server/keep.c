/* keep.c - a reply on its way is watched, and kept when it was whole and good.
 *
 * It is admitted before its flight leaves the table, so that nobody falls between the
 * two: at once where that needs no more than memory, by the pool where a vector has to
 * be made or the policy has to learn first. Meanwhile the flight can still be joined. A
 * reply that was not shared (the first of a new credential, a refresh) gets a flight for
 * that time, which holds the same reply as a hit would give it. */
#include "base/bytes.h"
#include "server/server_internal.h"

static void
count_skipped(rp_visit *visit, const char *reason)
{
    rp_metrics_count(visit->worker->server->metrics, RP_FAMILY_WRITE_SKIPPED, reason);
}

static rp_admission
admission_of(const rp_visit *visit)
{
    return (rp_admission){
        .verdict = visit->verdict,
        .encoded = rp_buffer_str(&visit->encoded),
        .usage = visit->usage,
        .upstream_us = visit->done_us - visit->forward_us,
    };
}

static void
admit(rp_visit *visit)
{
    const rp_admission admission = admission_of(visit);
    rp_entry_id id;
    const char *refusal =
        rp_admit(visit->worker->server->cache, &visit->query, &admission, &id);
    if (refusal)
        count_skipped(visit, refusal);
}

/* That this call was made although the policy might have served its candidate; 0: it was not. */
static double
audit_probability(const rp_visit *visit)
{
    const rp_decision *decision = &visit->query.result.decision;
    return decision->reason && decision->verdict == RP_MISS ? decision->explore_probability : 0;
}

/* What this miss says about the candidate that it passed over; if the policy might have
 * served that, it was an audit. Pool thread. */
static void
learn(rp_visit *visit)
{
    rp_server *server = visit->worker->server;
    const rp_reply *reply;
    if (!visit->query.drive || rp_reply_open(rp_buffer_str(&visit->encoded), &visit->query_arena,
                                             &reply) != RP_OK)
        return;
    rp_learn_from_miss(server->cache, &visit->query, rp_reply_text(reply));
    const double probability = audit_probability(visit);
    if (probability > 0)
        rp_metrics_audit(server->metrics, visit->route->name, visit->query.neighbor_label,
                         probability);
}

/* Of a call that was made with a probability although there was an answer, the rest of it
 * is what learning costs. */
static void
count_billed(rp_visit *visit)
{
    rp_metrics *metrics = visit->worker->server->metrics;
    const double explored = visit->query_busy ? 0 : audit_probability(visit);
    const double audit = explored > 0 ? 1 - explored : 0;
    rp_metrics_add(metrics, RP_SUM_TOKENS_BILLED_INPUT, visit->usage.input_tokens);
    rp_metrics_add(metrics, RP_SUM_TOKENS_BILLED_OUTPUT, visit->usage.output_tokens);
    rp_visit_add_cost(visit, RP_SUM_COST_BILLED, visit->usage, 1 - audit);
    rp_visit_add_cost(visit, RP_SUM_COST_AUDIT, visit->usage, audit);
}

static void
free_query(void *context)
{
    rp_visit *visit = context;
    visit->query_busy = false;
    rp_visit_unref(visit);
}

static void
give_query_back(rp_visit *visit)
{
    if (visit->landing)
        rp_flight_land(visit->landing);
    (void)!rp_loop_post(visit->worker->loop, free_query, visit);
}

/* Pool thread: the look-up made no vector (refresh, deadline, first use of a credential). */
static void
embed_and_admit(void *context)
{
    rp_visit *visit = context;
    rp_server *server = visit->worker->server;
    if (!atomic_load(&server->is_stopping) &&
        rp_query_embed(server->cache, &visit->query) == RP_OK)
        rp_metrics_add(server->metrics, RP_SUM_ENCODED, 1);
    admit(visit); /* without a vector it is kept for the exact tier */
    give_query_back(visit);
}

/* Pool thread: whether this reply becomes an entry, and for which tier, depends on what it
 * says about the candidate (vCache keeps it only if the neighbor was wrong) or on what was
 * added to a candidate's prompt. */
static void
learn_and_admit(void *context)
{
    rp_visit *visit = context;
    learn(visit);
    if (!atomic_load(&visit->worker->server->is_stopping))
        rp_admit_check(visit->worker->server->cache, &visit->query);
    admit(visit);
    give_query_back(visit);
}

static void
learn_only(void *context)
{
    rp_visit *visit = context;
    learn(visit);
    give_query_back(visit);
}

/* Let the pool work on `query`; false: it is too busy. */
static bool
submit(rp_visit *visit, rp_loop_call *call)
{
    rp_visit_ref(visit);
    visit->query_busy = true;
    if (rp_visit_detach(visit) &&
        rp_pool_submit(visit->worker->server->pool, call, visit) == RP_OK)
        return true;
    visit->query_busy = false;
    rp_visit_unref(visit);
    return false;
}

/* ---- who asks before the pool has kept it -------------------------------------------- */

/* The flight of a reply that nobody could join while it passed. NULL: there is one
 * already, or this reply cannot be given again. */
static rp_flight *
make_landing(rp_visit *visit)
{
    rp_worker *worker = visit->worker;
    rp_flight_key key;
    bool leads;
    if (!rp_visit_is_one_answer(visit))
        return NULL;
    rp_visit_flight_key(visit, &key);
    rp_flight *flight =
        rp_flights_join(worker->server->flights, &key, &visit->waiter, &leads);
    if (!flight)
        return NULL;
    if (!leads) {
        rp_flight_leave(flight, &visit->waiter);
        rp_flight_unref(flight);
        return NULL;
    }
    const rp_header type = { RP_STR("Content-Type"), visit->request.stream
                                                         ? RP_STR("text/event-stream; charset=utf-8")
                                                         : RP_STR("application/json") };
    const rp_reply *reply;
    rp_buffer_clear(&worker->scratch);
    if (rp_reply_open(rp_buffer_str(&visit->encoded), &visit->query_arena, &reply) == RP_OK &&
        rp_visit_write_reply(visit, reply, &worker->scratch) &&
        rp_flight_publish_head(flight, 200, &type, 1, (int64_t)worker->scratch.len) == RP_OK &&
        rp_flight_publish(flight, rp_buffer_str(&worker->scratch)) == RP_OK) {
        rp_flight_complete(flight);
        return flight;
    }
    rp_flight_end(flight, RP_FLIGHT_FAILED);
    rp_flight_unref(flight);
    return NULL;
}

/* As submit, for a job after which the reply is kept. */
static bool
submit_keeping(rp_visit *visit, rp_loop_call *call)
{
    visit->landing = visit->flight ? rp_flight_ref(visit->flight) : make_landing(visit);
    if (submit(visit, call))
        return true;
    if (visit->landing && !visit->flight)
        rp_flight_land(visit->landing);
    rp_flight_unref(visit->landing);
    visit->landing = NULL;
    return false;
}

/* ---- on the loop --------------------------------------------------------------------- */

static bool
is_event_stream(const rp_header *headers, size_t count)
{
    const rp_str type = rp_http_header(headers, count, "content-type");
    const rp_str wanted = RP_STR("text/event-stream");
    return type.len >= wanted.len &&
           rp_str_equal_ignoring_case((rp_str){ type.ptr, wanted.len }, wanted);
}

void
rp_visit_watch(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    if (!visit->may_keep)
        return;
    const rp_str encoding = rp_http_header(headers, count, "content-encoding");
    if (encoding.len && !rp_str_equal_ignoring_case(encoding, RP_STR("identity"))) {
        count_skipped(visit, "encoded");
    } else if (rp_reply_reader_new(visit->wire, status, is_event_stream(headers, count),
                                   visit->site->config->cacheable_max, &visit->reader) != RP_OK) {
        visit->reader = NULL;
        count_skipped(visit, "memory");
    }
}

/* `query` is the loop's. */
static void
keep_now(rp_visit *visit)
{
    rp_server *server = visit->worker->server;
    /* A hit that came after its deadline was not served; this reply was. */
    if (visit->report.kind == RP_KIND_BYPASS && visit->query.result.outcome == RP_LOOKUP_HIT)
        visit->query.result.outcome = RP_LOOKUP_MISS;
    rp_query_follow(server->cache, &visit->query);
    const rp_admission admission = admission_of(visit);
    const bool is_good = rp_admit_refusal(server->cache, &visit->query, &admission) == NULL;
    const char *why_none = visit->query.result.reason;
    const bool is_too_long = why_none && strcmp(why_none, "long") == 0; /* as it was before */
    const bool wants_vector = visit->query.tier == RP_TIER_SEMANTIC && !visit->query.vectors &&
                              !is_too_long && rp_cache_makes_vectors(server->cache);
    if (is_good && wants_vector && submit_keeping(visit, embed_and_admit))
        return;
    const bool can_learn = visit->verdict == RP_REPLY_GOOD && visit->query.drive;
    const bool waits_for_verdict =
        can_learn && visit->query.result.decision.keep == RP_KEEP_IF_NEIGHBOR_WRONG;
    const bool wants_pool = waits_for_verdict || rp_admit_wants_check(&visit->query);
    if (is_good && wants_pool && submit_keeping(visit, learn_and_admit))
        return;
    admit(visit);
    if (can_learn)
        (void)submit(visit, learn_only);
}

void
rp_visit_keep(rp_visit *visit, bool whole)
{
    visit->verdict = rp_reply_reader_finish(visit->reader, whole, visit->worker->json,
                                            &visit->encoded, &visit->usage);
    rp_reply_reader_free(visit->reader);
    visit->reader = NULL;
    count_billed(visit);
    if (visit->query_busy)
        visit->keeps_late = true; /* the look-up was left behind and is not back yet */
    else
        keep_now(visit);
}

void
rp_visit_keep_late(rp_visit *visit)
{
    if (!visit->keeps_late)
        return;
    visit->keeps_late = false;
    if (visit->worker->is_stopping) {
        count_skipped(visit, "late");
        return;
    }
    keep_now(visit);
}
