/* upstream.c - the request goes to the service behind us, the reply to the client.
 *
 * Two ways. Straight: what arrives is written to the client at once, and the
 * fetch pauses when the client is slow. In a flight: a request that may be read
 * and kept publishes what arrives (flight.h), and this client reads from there
 * like everybody who joined.
 *
 * A reply that may be kept is watched on its way (keep.c). What the
 * upstream does wrong before its head becomes a 502 or 504 in the client's
 * protocol; after the head the connection is closed, because nothing else tells the
 * client that the rest is missing. */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "server/server_internal.h"

#include <stdlib.h>

static void
count_follower(rp_visit *visit, const char *outcome)
{
    rp_metrics_count(visit->worker->server->metrics, RP_FAMILY_SINGLEFLIGHT, outcome);
}

static void
leave_flight(rp_visit *visit)
{
    if (!visit->flight)
        return;
    if (!visit->leads)
        rp_flight_leave(visit->flight, &visit->waiter);
    rp_flight_unref(visit->flight);
    visit->flight = NULL;
}

/* There is nothing to share: those who follow go on by themselves. */
static void
end_unshared(rp_visit *visit)
{
    if (!visit->flight)
        return;
    rp_flight_end(visit->flight, RP_FLIGHT_FAILED);
    leave_flight(visit);
}

/* ---- reading from a flight ------------------------------------------------------ */

static void start_fetch(rp_visit *visit);

/* The leader had nothing to share: ask the upstream ourselves. Unless it had nothing because
 * it found the entry of an earlier flight (rp_visit_forward): then that is ours too. */
static void
go_alone(rp_visit *visit)
{
    leave_flight(visit);
    visit->report.collapsed = false;
    rp_visit_ref(visit); /* an answered visit may be gone when it has been replayed */
    const bool landed = rp_visit_replay_late(visit);
    count_follower(visit, landed ? "landed" : "alone");
    if (!landed) {
        visit->may_keep = visit->query.may_write;
        start_fetch(visit);
    }
    rp_visit_unref(visit);
}

/* Give the client what the flight has for it. */
static void
pull(rp_visit *visit)
{
    while (visit->exchange && visit->flight && !visit->output_full) {
        rp_flight_view view;
        switch (rp_flight_next(visit->flight, &visit->waiter, &view)) {
        case RP_FLIGHT_NOTHING:
            return;
        case RP_FLIGHT_HEAD:
            rp_visit_begin(visit, view.http_status, view.headers, view.header_count,
                           view.content_length, !visit->leads);
            break;
        case RP_FLIGHT_DATA:
            rp_visit_write(visit, view.bytes);
            break;
        case RP_FLIGHT_EVENT_WHOLE:
            if (!visit->leads)
                count_follower(visit, "shared");
            leave_flight(visit);
            rp_visit_end(visit, RP_VISIT_SERVED);
            return;
        case RP_FLIGHT_EVENT_BROKEN:
            if (!visit->leads)
                count_follower(visit, "broken");
            leave_flight(visit);
            rp_visit_end(visit, RP_VISIT_ABORTED);
            return;
        case RP_FLIGHT_EVENT_FAILED:
            go_alone(visit);
            return;
        }
    }
}

/* ---- what the upstream says ---------------------------------------------------- */

static void
count_status(rp_visit *visit, int status)
{
    static const char *const classes[] = { "other", "1xx", "2xx", "3xx", "4xx", "5xx" };
    rp_metrics_count(visit->worker->server->metrics, RP_FAMILY_UPSTREAM,
                     status >= 100 && status < 600 ? classes[status / 100] : classes[0]);
}

static int64_t
content_length_of(const rp_header *headers, size_t count)
{
    uint64_t size;
    const rp_str text = rp_http_header(headers, count, "content-length");
    return text.ptr && rp_str_to_u64(text, &size) && size <= INT64_MAX ? (int64_t)size : -1;
}

static void
on_head(void *context, int status, const rp_header *headers, size_t count)
{
    rp_visit *visit = context;
    visit->first_byte_us = rp_now_us();
    visit->upstream_status = status;
    visit->head_seen = true;
    count_status(visit, status);
    if (rp_visit_learn_credential(visit, status, headers, count)) {
        end_unshared(visit);
        return;
    }
    if (visit->collected && !visit->collected(visit, status, headers, count))
        visit->collected = NULL; /* not what it was meant for: copied as it is */
    if (visit->collected)
        return;
    rp_visit_watch(visit, status, headers, count);
    const int64_t length = content_length_of(headers, count);
    if (visit->flight && (status < 200 || status > 299 ||
                          rp_flight_publish_head(visit->flight, status, headers, count, length) !=
                              RP_OK))
        end_unshared(visit); /* a 429 is this caller's own */
    if (visit->flight)
        pull(visit);
    else
        rp_visit_begin(visit, status, headers, count, length, false);
}

/* The client is slow and nobody else waits, or nothing may be sent yet. */
static bool
pause_fetch(rp_visit *visit)
{
    visit->fetch_paused = true;
    return false;
}

static void
publish(rp_visit *visit, rp_str bytes)
{
    if (rp_flight_publish(visit->flight, bytes) == RP_OK) {
        pull(visit);
        return;
    }
    /* No memory, or much too large for those who follow: nobody gets the rest. */
    rp_flight_end(visit->flight, RP_FLIGHT_BROKEN);
    leave_flight(visit);
    rp_reply_reader_free(visit->reader);
    visit->reader = NULL;
    rp_visit_end(visit, RP_VISIT_ABORTED);
}

static bool
on_data(void *context, rp_str bytes)
{
    rp_visit *visit = context;
    if (visit->held.waits)
        return pause_fetch(visit);
    if (visit->collected) {
        rp_buffer_append(&visit->collect, bytes); /* bounded; asked at the end */
        return true;
    }
    if (visit->flight && rp_flight_is_too_large(visit->flight)) {
        pull(visit);
        if (visit->output_full)
            return pause_fetch(visit);
        /* Caught up, and nobody can join any more. */
        rp_flight_end(visit->flight, RP_FLIGHT_BROKEN);
        leave_flight(visit);
    }
    if (!visit->flight && visit->output_full)
        return pause_fetch(visit);
    if (visit->reader)
        rp_reply_reader_feed(visit->reader, bytes);
    if (visit->flight)
        publish(visit, bytes);
    else
        rp_visit_write(visit, bytes);
    return true;
}

static void
fail_upstream(rp_visit *visit, rp_fetch_result result, const char *detail)
{
    static rp_log_gate gate;
    uint64_t suppressed = 0;
    if (rp_log_gate_open(&gate, rp_now_us(), 5000000, &suppressed))
        rp_log(RP_LOG_WARNING, "upstream %s: %s (%llu more since the last such line)",
               visit->upstream->name, detail ? detail : "failed", (unsigned long long)suppressed);
    if (result == RP_FETCH_TIMEOUT)
        rp_visit_fail(visit, 504, "upstream_error", "upstream_timeout",
                      "the upstream did not answer in time");
    else if (result == RP_FETCH_NO_CONNECTION)
        rp_visit_fail(visit, 502, "upstream_error", "upstream_unreachable",
                      "the upstream cannot be reached");
    else
        rp_visit_fail(visit, 502, "upstream_error", "upstream_broken",
                      "the upstream's reply broke off or was not HTTP");
}

static void
on_done(void *context, rp_fetch_result result, const char *detail)
{
    rp_visit *visit = context;
    const bool whole = result == RP_FETCH_OK;
    visit->fetch = NULL;
    visit->done_us = rp_now_us();
    if (!visit->head_seen) {
        rp_metrics_count(visit->worker->server->metrics, RP_FAMILY_UPSTREAM, "none");
        end_unshared(visit);
        fail_upstream(visit, result, detail);
    } else if (visit->held.waits) {
        visit->held.has_ended = true;
        visit->held.is_whole = whole;
    } else if (visit->collected) {
        if (whole && !rp_buffer_failed(&visit->collect))
            (void)!visit->collected(visit, 0, NULL, 0);
        else
            fail_upstream(visit, RP_FETCH_BROKEN, detail);
    } else {
        if (visit->reader)
            rp_visit_keep(visit, whole);
        if (visit->flight) {
            if (visit->landing) /* whole, and not yet kept */
                rp_flight_complete(visit->flight);
            else
                rp_flight_end(visit->flight, whole ? RP_FLIGHT_WHOLE : RP_FLIGHT_BROKEN);
            if (visit->exchange)
                pull(visit); /* a slow client reads on when it has drained */
            else
                leave_flight(visit);
        } else {
            rp_visit_end(visit, whole ? RP_VISIT_SERVED : RP_VISIT_ABORTED);
        }
    }
    rp_visit_unref(visit);
}

void
rp_visit_release(rp_visit *visit)
{
    const struct rp_held_reply held = visit->held;
    visit->held.waits = false;
    if (!held.waits || !visit->exchange)
        return;
    rp_visit_begin(visit, held.status, held.headers, held.header_count,
                   content_length_of(held.headers, held.header_count), false);
    if (held.has_ended) {
        rp_visit_end(visit, held.is_whole ? RP_VISIT_SERVED : RP_VISIT_ABORTED);
    } else if (visit->fetch && visit->fetch_paused) {
        visit->fetch_paused = false;
        rp_fetch_resume(visit->fetch);
    }
}

static void
on_want_body(void *context)
{
    rp_visit *visit = context;
    if (visit->exchange && visit->upload_paused) {
        visit->upload_paused = false;
        rp_exchange_pause_body(visit->exchange, false);
    }
}

static const rp_fetch_handler fetch_handler = {
    .on_head = on_head,
    .on_data = on_data,
    .on_done = on_done,
    .on_want_body = on_want_body,
};

/* ---- sending -------------------------------------------------------------------- */

static bool
same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* One HTTP client for each way of connecting; upstreams that connect alike share it. */
static rp_http_client *
find_client(rp_worker *worker, const rp_upstream_config *upstream, rp_error *error)
{
    for (size_t i = 0; i < worker->client_count; i++)
        if (same_text(worker->clients[i].proxy, upstream->proxy) &&
            same_text(worker->clients[i].authorities, upstream->certificate_authorities) &&
            worker->clients[i].connections_max == upstream->connections_max)
            return worker->clients[i].client;
    if (worker->client_count == RP_WORKER_CLIENTS_MAX) {
        (void)!rp_fail(error, RP_ERR_LIMIT, "more than %d kinds of upstream connections since start",
                       RP_WORKER_CLIENTS_MAX);
        return NULL;
    }
    const rp_http_client_options options = {
        .connections_max = upstream->connections_max,
        .proxy = upstream->proxy,
        .certificate_authorities = upstream->certificate_authorities,
    };
    rp_http_client *client;
    if (rp_http_client_new(worker->loop, &options, &client, error) != RP_OK)
        return NULL;
    const size_t at = worker->client_count++;
    worker->clients[at].proxy = upstream->proxy ? strdup(upstream->proxy) : NULL;
    worker->clients[at].authorities =
        upstream->certificate_authorities ? strdup(upstream->certificate_authorities) : NULL;
    worker->clients[at].connections_max = upstream->connections_max;
    worker->clients[at].client = client;
    return client;
}

void
rp_worker_connect(rp_worker *worker)
{
    const rp_config *config = worker->site->config;
    rp_error error = { { 0 } };
    for (size_t i = 0; i < config->upstream_count; i++) {
        const rp_upstream_config *upstream = &config->upstreams[i];
        rp_http_client *client = find_client(worker, upstream, &error);
        if (!client || rp_http_client_prepare(client, rp_str_of(upstream->url), &error) != RP_OK)
            rp_log(RP_LOG_ERROR, "upstream %s: %s", upstream->name, error.text);
    }
}

/* Will the fetch go on when the client has left? Then the body must not be the exchange's. */
static bool
may_outlive_client(const rp_visit *visit)
{
    return visit->flight || (visit->site->config->finish_on_disconnect && visit->may_keep);
}

/* Address, path and query in one piece; this is on the way of every forwarded request, so
 * without printf. */
static rp_str
join_url(rp_arena *arena, rp_str address, rp_str path, rp_str query)
{
    const size_t len = address.len + path.len + (query.len ? 1 + query.len : 0);
    char *text = rp_arena_alloc(arena, len);
    if (!text)
        return (rp_str){ NULL, 0 };
    memcpy(text, address.ptr, address.len);
    char *at = text + address.len;
    if (path.len)
        memcpy(at, path.ptr, path.len);
    at += path.len;
    if (query.len) {
        *at++ = '?';
        memcpy(at, query.ptr, query.len);
    }
    return (rp_str){ text, len };
}

static bool
fill_fetch(rp_visit *visit, rp_fetch_request *out)
{
    const rp_http_request *request = rp_exchange_request(visit->exchange);
    const rp_upstream_config *upstream = visit->upstream;
    rp_arena *arena = &visit->arena;
    const bool anthropic = visit->is_wire ? visit->wire == RP_WIRE_MESSAGES
                                          : visit->headers.place == RP_CREDENTIAL_X_API_KEY;
    const rp_forward_options options = {
        .identity = visit->may_keep || visit->collected,
        .key = visit->identity.config ? visit->identity.config->upstream_key : NULL,
        .anthropic = anthropic,
    };
    memset(out, 0, sizeof *out);
    out->method = request->method; /* lent until rp_fetch_start has copied it, as the fields are */
    /* From path and query, not from the target, which a client may write as a whole
     * address of its own ("GET http://elsewhere/ HTTP/1.1"). */
    out->url = join_url(arena, rp_str_of(upstream->url), request->path, request->query);
    out->headers = rp_headers_forward(request, &options, arena, &out->header_count);
    out->body = visit->has_query ? visit->request.forward_body : request->body;
    if (may_outlive_client(visit))
        out->body = rp_arena_copy(arena, out->body);
    out->body_is_whole = request->body_is_whole;
    out->body_size = request->body_is_whole ? (int64_t)out->body.len : request->body_size;
    out->connect_timeout_us = upstream->connect_timeout_us;
    out->first_byte_timeout_us = upstream->first_byte_timeout_us;
    out->idle_timeout_us = upstream->idle_timeout_us;
    return out->headers && !rp_arena_failed(arena);
}

static void
start_fetch(rp_visit *visit)
{
    rp_error error = { { 0 } };
    rp_fetch_request request;
    rp_http_client *client = find_client(visit->worker, visit->upstream, &error);
    visit->forward_us = rp_now_us();
    visit->report.overhead_us = visit->forward_us - visit->start_us;
    if (client && fill_fetch(visit, &request) &&
        rp_fetch_start(client, &request, &fetch_handler, visit, &visit->fetch, &error) == RP_OK) {
        rp_visit_ref(visit);
        return;
    }
    visit->fetch = NULL;
    end_unshared(visit);
    fail_upstream(visit, RP_FETCH_NO_CONNECTION, error.text[0] ? error.text : "no memory");
}

bool
rp_visit_is_one_answer(const rp_visit *visit)
{
    const rp_request *request = &visit->request;
    for (size_t i = 0; i < request->field_count; i++) {
        const rp_field *field = &request->fields[i];
        if ((rp_str_equal(field->name, RP_STR("n")) ||
             rp_str_equal(field->name, RP_STR("best_of"))) &&
            !rp_str_equal(field->value, RP_STR("1")) &&
            !rp_str_equal(field->value, RP_STR("null")))
            return false; /* not from request.reason, which names only one of several */
    }
    return true;
}

/* Only requests that may be read and kept share, and never those for several answers. */
static bool
may_share(const rp_visit *visit)
{
    return visit->has_query && !visit->query_busy && visit->may_keep && visit->query.may_read &&
           !visit->query.controls.no_read && !visit->query.controls.no_write &&
           visit->report.kind == RP_KIND_MISS && rp_visit_is_one_answer(visit);
}

void
rp_visit_flight_key(const rp_visit *visit, rp_flight_key *out)
{
    const rp_query *query = &visit->query;
    const char form[2] = { visit->request.stream ? 's' : 'b',
                           visit->request.include_usage ? 'u' : '-' };
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update(&hash, (rp_str){ (const char *)query->key.bytes, sizeof query->key.bytes });
    rp_sha256_update(&hash, (rp_str){ form, sizeof form });
    const rp_volatility words = rp_query_volatility(query);
    if (words.personal || words.temporal) {
        rp_sha256_update(&hash, (rp_str){ (const char *)query->user_hash, 16 });
        rp_sha256_update(&hash, (rp_str){ (const char *)query->metadata_hash, 16 });
    }
    rp_sha256_final(&hash, out->bytes);
}

void
rp_visit_forward(rp_visit *visit)
{
    if (may_share(visit)) {
        rp_flight_key key;
        rp_visit_flight_key(visit, &key);
        visit->flight = rp_flights_join(visit->worker->server->flights, &key, &visit->waiter,
                                        &visit->leads);
        if (visit->flight && !visit->leads) {
            visit->report.collapsed = true;
            visit->may_keep = false; /* the leader keeps it */
            pull(visit);
            return;
        }
        /* Between our look-up and now the flight before this one may have landed, on
         * another loop: its entry is there since before it left the table. */
        rp_visit_ref(visit); /* an answered visit may be gone when it has been replayed */
        const bool landed = visit->flight && rp_visit_replay_late(visit);
        if (landed)
            end_unshared(visit);
        rp_visit_unref(visit);
        if (landed)
            return;
    }
    start_fetch(visit);
}

void
rp_visit_upload(rp_visit *visit, rp_str bytes, bool last)
{
    if (!visit->fetch)
        return; /* answered already, or never begun: the rest is of no use */
    if (!rp_fetch_send(visit->fetch, bytes, last) && !last && visit->exchange) {
        visit->upload_paused = true;
        rp_exchange_pause_body(visit->exchange, true);
    }
}

static void
abort_fetch(rp_visit *visit)
{
    rp_fetch_cancel(visit->fetch);
    visit->fetch = NULL;
    rp_reply_reader_free(visit->reader); /* nothing partial is ever stored */
    visit->reader = NULL;
    leave_flight(visit);
    rp_visit_unref(visit);
}

void
rp_visit_cancel(rp_visit *visit)
{
    if (visit->flight && visit->leads)
        rp_flight_end(visit->flight, RP_FLIGHT_BROKEN);
    if (visit->fetch)
        abort_fetch(visit);
    else
        leave_flight(visit);
}

void
rp_visit_forward_gone(rp_visit *visit)
{
    if (!visit->fetch) {
        if (visit->flight && !visit->leads)
            count_follower(visit, "gone");
        leave_flight(visit);
        return;
    }
    /* A client that left does not hold the fetch up any more. */
    visit->output_full = false;
    const bool resume = visit->fetch_paused;
    visit->fetch_paused = false;
    if (visit->site->config->finish_on_disconnect && visit->may_keep) {
        if (resume)
            rp_fetch_resume(visit->fetch);
        return;
    }
    if (visit->flight && visit->leads && !rp_flight_abandon(visit->flight, &visit->waiter)) {
        if (resume)
            rp_fetch_resume(visit->fetch);
        return;
    }
    abort_fetch(visit);
}

/* The client takes more, or the flight has news, or (as a leader without a client) the
 * last follower has left. */
void
rp_visit_drained(rp_visit *visit)
{
    if (!visit->exchange) {
        if (visit->flight && visit->leads && visit->fetch &&
            !visit->site->config->finish_on_disconnect &&
            rp_flight_abandon(visit->flight, &visit->waiter))
            abort_fetch(visit);
        return;
    }
    rp_visit_ref(visit); /* what it pulls may be its end */
    if (visit->flight)
        pull(visit);
    if (visit->exchange && visit->fetch && visit->fetch_paused && !visit->output_full) {
        visit->fetch_paused = false;
        rp_fetch_resume(visit->fetch);
    }
    rp_visit_unref(visit);
}
