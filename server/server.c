/* server.c - see server.h. Start and end of the threads, and the configuration in force.
 *
 * The end, in this order: no new connections; requests under way (bounded); what is
 * then still under way is broken off on its own loop, so that nothing more is handed
 * to other threads; the batcher and the pool (their last posts reach the loops);
 * the loops; and last the cache, which commits what was admitted. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

#include <errno.h>
#include <math.h>
#include <reprise/reprise.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    POOL_THREADS = 2,      /* disk reads and late embeddings; a guess */
    POOL_QUEUE_MAX = 1024, /* a guess; a full queue costs a miss or a vector, never a wait */
};

/* ---- the configuration in force ------------------------------------------------ */

rp_site *
rp_site_ref(rp_site *site)
{
    atomic_fetch_add_explicit(&site->refs, 1, memory_order_relaxed);
    return site;
}

void
rp_site_unref(rp_site *site)
{
    if (!site || atomic_fetch_sub_explicit(&site->refs, 1, memory_order_acq_rel) != 1)
        return;
    rp_tenants_free(site->tenants);
    free(site->rules);
    rp_config_unref(site->config);
    free(site);
}

static rp_cache_mode
cache_mode(rp_mode mode)
{
    return mode == RP_MODE_SERVE    ? RP_CACHE_SERVE
           : mode == RP_MODE_SHADOW ? RP_CACHE_SHADOW
                                    : RP_CACHE_OFF;
}

static rp_status
fill_rules(rp_cache *cache, const rp_route_config *route, rp_rules *rules, rp_error *error)
{
    rp_rules_init(rules);
    rules->mode = cache_mode(route->mode);
    rules->exact = route->exact;
    rules->semantic = route->semantic;
    rules->min_similarity = isnan(route->min_similarity) ? -1 : (float)route->min_similarity;
    rules->ttl_us = route->ttl_us;
    rules->ttl_max_us = route->ttl_max_us;
    rules->volatile_ttl_us = route->volatile_ttl_us;
    rules->temperature_max = route->temperature_max;
    rules->keep_length = route->keep_length;
    rules->keep_filtered = route->keep_filtered;
    rules->strict_gates = route->strict_gates;
    rules->collision_check = (rp_collision_check)route->collision_check;
    rules->templates = route->templates;
    return rp_cache_decider(cache, rp_str_of(route->name), rp_str_of(route->policy),
                            route->error_max, &rules->decider, error);
}

/* What each configured tenant may hold of the disk, if it says so. */
static rp_status
set_shares(rp_store *store, const rp_config *config, rp_error *error)
{
    rp_store_share *shares = calloc(config->tenant_count + 1, sizeof *shares);
    size_t count = 0;
    rp_status status = shares ? RP_OK : RP_ERR_NOMEM;
    for (size_t i = 0; status == RP_OK && i < config->tenant_count; i++)
        if (config->tenants[i].share_max > 0)
            shares[count++] = (rp_store_share){ rp_str_of(config->tenants[i].name),
                                                config->tenants[i].share_max };
    if (status == RP_OK)
        status = rp_store_shares_set(store, shares, count);
    free(shares);
    return status == RP_OK ? RP_OK : rp_fail(error, status, "the tenants' shares cannot be set: %s",
                                             rp_status_name(status));
}

/* There is no judge in the server: what a judge would decide is a miss. */
static void
warn_of_judges(const rp_route_config *route)
{
    static const char *const judged[] = { "judge", "cascade", "krites" };
    for (size_t i = 0; i < RP_COUNT(judged); i++)
        if (strncmp(route->policy, judged[i], strlen(judged[i])) == 0)
            rp_log(RP_LOG_WARNING,
                   "route %s: policy %s asks a judge, and the server has none yet: what it would "
                   "ask about is a miss", route->name, route->policy);
}

static rp_status
make_site(rp_cache *cache, const rp_config *config, rp_site **out, rp_error *error)
{
    rp_site *site = calloc(1, sizeof *site);
    if (!site)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the configuration");
    atomic_init(&site->refs, 1);
    site->config = rp_config_ref(config);
    site->rules = calloc(config->route_count, sizeof *site->rules);
    rp_status status = site->rules ? RP_OK : RP_ERR_NOMEM;
    if (status == RP_OK)
        status = rp_tenants_new(config, rp_store_secret(rp_cache_store_of(cache)),
                                &site->tenants, error);
    for (size_t i = 0; status == RP_OK && i < config->route_count; i++) {
        warn_of_judges(&config->routes[i]);
        status = fill_rules(cache, &config->routes[i], &site->rules[i], error);
    }
    if (status == RP_OK)
        status = set_shares(rp_cache_store_of(cache), config, error);
    if (status != RP_OK) {
        rp_site_unref(site);
        return status;
    }
    *out = site;
    return RP_OK;
}

typedef struct site_change {
    rp_worker *worker;
    rp_site *site; /* a reference */
} site_change;

static void
change_site(void *context)
{
    site_change *change = context;
    rp_site_unref(change->worker->site);
    change->worker->site = change->site;
    rp_worker_connect(change->worker);
    free(change);
}

static void
connect_worker(void *context)
{
    rp_worker_connect(context);
}

static void
warn_if(bool differs, const char *key)
{
    if (differs)
        rp_log(RP_LOG_WARNING, "%s changed in the configuration; it takes effect at the next start",
               key);
}

static void
warn_if_text_differs(const char *key, const char *old, const char *new)
{
    warn_if((old == NULL) != (new == NULL) || (old && strcmp(old, new) != 0), key);
}

/* What was settled when threads, store and encoder were made. */
static void
warn_about_what_waits(const rp_config *old, const rp_config *new)
{
    warn_if_text_differs("data", old->data, new->data);
    warn_if(old->memory_max != new->memory_max, "memory_max");
    warn_if(old->disk_max != new->disk_max, "disk_max");
    warn_if(old->vectors_on_disk != new->vectors_on_disk, "vectors");
    warn_if(old->loop_threads != new->loop_threads, "threads.loops");
    warn_if(old->pool_threads != new->pool_threads, "threads.pool");
    warn_if(old->connections_max != new->connections_max, "connections_max");
    warn_if(old->cacheable_max < new->cacheable_max, "cacheable_max");
    warn_if(old->body_max != new->body_max, "body_max");
    warn_if(old->head_timeout_us != new->head_timeout_us, "head_timeout");
    warn_if(old->body_timeout_us != new->body_timeout_us, "body_timeout");
    warn_if(old->idle_timeout_us != new->idle_timeout_us, "idle_timeout");
    warn_if(old->seed != new->seed, "seed");
    warn_if_text_differs("log.access", old->access_log, new->access_log);
    warn_if_text_differs("encoder.model", old->encoder_model, new->encoder_model);
    warn_if_text_differs("encoder.tier", old->encoder_tier, new->encoder_tier);
    warn_if(old->encoder_precision != new->encoder_precision, "encoder.precision");
    warn_if(old->encoder_dim != new->encoder_dim, "encoder.dim");
    warn_if(old->encoder_window != new->encoder_window, "encoder.window");
    warn_if_text_differs("verifier.model", old->verifier_model, new->verifier_model);
    warn_if_text_differs("verifier.adapter", old->verifier_adapter, new->verifier_adapter);
    warn_if(old->verifier_precision != new->verifier_precision, "verifier.precision");
}

static void
apply_log_level(const rp_config *config)
{
    static const char *const names[] = { "debug", "info", "warning", "error" };
    for (size_t i = 0; config->log_level && i < RP_COUNT(names); i++)
        if (strcmp(config->log_level, names[i]) == 0)
            rp_log_set_level((rp_log_level)i);
    rp_log_set_json(config->log_json);
}

static bool
same_or_none(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The adapter of the encoder in use: another folder, or other files in the same one. One that was
 * written for the next start's encoder waits with it. */
static void
change_adapter(rp_server *server, const rp_config *config)
{
    rp_error error = { { 0 } };
    bool changed;
    if (!rp_cache_encoder(server->cache) || config->encoder_off)
        return;
    if (!same_or_none(server->first->encoder_model, config->encoder_model)) {
        if (!same_or_none(server->site->config->encoder_adapter, config->encoder_adapter))
            rp_log(RP_LOG_WARNING, "encoder.adapter changed in the configuration; it takes effect at "
                                   "the next start, with encoder.model");
        return;
    }
    const int64_t begun_us = rp_now_us();
    if (rp_cache_adapt(server->cache, config->encoder_adapter, &changed, &error) != RP_OK)
        rp_log(RP_LOG_ERROR, "the encoder's adapter stays as it was: %s", error.text);
    else if (changed)
        rp_log(RP_LOG_INFO, "the encoder's adapter was exchanged in %.1f ms: %s; stored prompts "
                            "get new vectors in the background", (double)(rp_now_us() - begun_us) / 1e3,
               config->encoder_adapter ? config->encoder_adapter : "none");
}

rp_status
rp_server_reload(rp_server *server, const rp_config *config, rp_error *error)
{
    rp_site *site;
    if (config->upstream_count == 0)
        return rp_fail(error, RP_ERR_INVALID, "no upstream is configured");
    rp_status status = make_site(server->cache, config, &site, error);
    if (status != RP_OK)
        return status;
    warn_about_what_waits(server->site->config, config);
    apply_log_level(config);
    change_adapter(server, config);
    if (rp_http_server_change(server->http, config->listen, config->tls_certificate,
                              config->tls_key, error) != RP_OK)
        rp_log(RP_LOG_ERROR, "the listener for clients stays as it was: %s", error->text);
    for (size_t i = 0; i < server->worker_count; i++) {
        site_change *change = malloc(sizeof *change);
        if (!change)
            continue; /* this loop keeps the old one */
        *change = (site_change){ &server->workers[i], rp_site_ref(site) };
        if (rp_loop_post(server->workers[i].loop, change_site, change) != RP_OK) {
            rp_site_unref(site);
            free(change);
        }
    }
    pthread_mutex_lock(&server->lock);
    rp_site *before = server->site;
    server->site = site;
    pthread_mutex_unlock(&server->lock);
    rp_site_unref(before);
    rp_access_log_reopen(server->log);
    return RP_OK;
}

/* ---- start --------------------------------------------------------------------- */

static void
warn(void *context, const char *sentence)
{
    (void)context;
    rp_log(RP_LOG_WARNING, "%s", sentence);
}

static rp_status
open_cache(rp_server *server, const rp_config *config, rp_error *error)
{
    const rp_encoder_options encoder = {
        .precision = config->encoder_precision,
        .tier = config->encoder_tier,
        .adapter = config->encoder_adapter,
        .dim = config->encoder_dim,
        .window = config->encoder_window,
    };
    const rp_encoder_options verifier = {
        .precision = config->verifier_precision,
        .tier = config->encoder_tier,
        .adapter = config->verifier_adapter,
    };
    const rp_cache_options options = {
        .folder = config->data,
        .model = config->encoder_off ? NULL : config->encoder_model,
        .encoder_options = &encoder,
        .verifier = config->verifier_model,
        .verifier_options = &verifier,
        .disk_max = config->disk_max,
        .memory_max = config->memory_max,
        .vectors_on_disk = config->vectors_on_disk,
        .seed = config->seed,
        .load_in_background = true,
        .warn = warn,
    };
    return rp_cache_open(&options, &server->cache, error);
}

static rp_status
start_batcher(rp_server *server, const rp_config *config, rp_error *error)
{
    const rp_encoder *encoder = rp_cache_encoder(server->cache);
    if (!encoder)
        return RP_OK;
    const rp_batcher_options options = { .threads = config->pool_threads,
                                         .together = rp_visits_embedded,
                                         .together_context = server };
    return rp_batcher_new(encoder, &options, &server->batcher, error);
}

static rp_status
make_worker(rp_server *server, rp_worker *worker, uint64_t seed, rp_error *error)
{
    worker->server = server;
    worker->site = rp_site_ref(server->site);
    rp_random_init(&worker->random, seed);
    rp_buffer_init(&worker->scratch, 0);
    rp_buffer_init(&worker->line, 0);
    if (rp_json_reader_new(&worker->json) != RP_OK || rp_loop_new(&worker->loop) != RP_OK)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an event loop");
    return RP_OK;
}

/* One a core, at most 16: a guess; one loop alone serves tens of thousands of exact hits
 * a second. */
static size_t
default_loops(void)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : (size_t)RP_MIN(cores, 16);
}

static rp_status
make_workers(rp_server *server, const rp_config *config, rp_error *error)
{
    const size_t count = config->loop_threads ? config->loop_threads : default_loops();
    uint64_t seeds[2];
    rp_status status = rp_random_secret(seeds, sizeof seeds);
    if (status != RP_OK)
        return rp_fail(error, status, "the system gives no random numbers");
    server->workers = calloc(count, sizeof *server->workers);
    server->loops = calloc(count, sizeof(rp_loop *));
    if (!server->workers || !server->loops)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for %zu event loops", count);
    for (; status == RP_OK && server->worker_count < count; server->worker_count++) {
        const size_t at = server->worker_count;
        status = make_worker(server, &server->workers[at], seeds[0] + at * seeds[1], error);
        server->loops[at] = server->workers[at].loop;
    }
    return status;
}

static rp_status
listen_for_clients(rp_server *server, const rp_config *config, rp_error *error)
{
    const rp_http_server_options options = {
        .listen = config->listen,
        .body_buffer_max = config->cacheable_max,
        .body_size_max = config->body_max,
        .head_timeout_us = config->head_timeout_us,
        .body_timeout_us = config->body_timeout_us,
        .idle_timeout_us = config->idle_timeout_us,
        .connections_max = config->connections_max,
        .tls_certificate = config->tls_certificate,
        .tls_key = config->tls_key,
    };
    rp_http_handler handler = rp_visit_handler;
    handler.context = server;
    return rp_http_server_new(server->loops, server->worker_count, &options, &handler,
                              &server->http, error);
}

static rp_status
start_parts(rp_server *server, const rp_config *config, rp_error *error)
{
    rp_status status = rp_metrics_new(&server->metrics);
    if (status == RP_OK)
        status = rp_access_log_new(config->access_log ? config->access_log : "off",
                                   server->metrics, &server->log, error);
    if (status == RP_OK)
        status = rp_flights_new(config->cacheable_max, &server->flights);
    if (status == RP_OK)
        status = open_cache(server, config, error);
    if (status == RP_OK)
        status = make_site(server->cache, config, &server->site, error);
    if (status == RP_OK)
        status = start_batcher(server, config, error);
    if (status == RP_OK)
        status = rp_pool_new(POOL_THREADS, POOL_QUEUE_MAX, &server->pool, error);
    if (status == RP_OK)
        status = make_workers(server, config, error);
    if (status == RP_OK)
        status = listen_for_clients(server, config, error);
    for (size_t i = 0; status == RP_OK && i < server->worker_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "loop-%u", (unsigned)i % 1000);
        status = rp_loop_start(server->workers[i].loop, name);
        server->running_count += status == RP_OK;
        if (status == RP_OK)
            status = rp_loop_post(server->workers[i].loop, connect_worker, &server->workers[i]);
    }
    return status;
}

rp_status
rp_server_start(const rp_config *config, rp_server **out, rp_error *error)
{
    if (config->upstream_count == 0)
        return rp_fail(error, RP_ERR_INVALID,
                       "no upstream is configured; give --upstream URL or upstreams: in the file");
    rp_server *server = calloc(1, sizeof *server);
    if (!server)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the server");
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->drained_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    server->started_us = rp_clock_wall_us(&rp_clock_system);
    server->first = rp_config_ref(config);
    apply_log_level(config);
    rp_error own = { { 0 } };
    const rp_status status = start_parts(server, config, error ? error : &own);
    if (status != RP_OK) {
        if (error && !error->text[0])
            (void)!rp_fail(error, status, "cannot start: %s", rp_status_name(status));
        rp_server_stop(server);
        return status;
    }
    *out = server;
    return RP_OK;
}

/* ---- the end ------------------------------------------------------------------- */

static void
on_all_gone(void *context)
{
    rp_server *server = context;
    pthread_mutex_lock(&server->lock);
    server->has_drained = true;
    pthread_cond_broadcast(&server->drained_changed);
    pthread_mutex_unlock(&server->lock);
}

void
rp_server_drain(rp_server *server)
{
    if (atomic_exchange(&server->is_draining, true))
        return;
    rp_http_server_drain(server->http, on_all_gone, server);
}

bool
rp_server_wait_drained(rp_server *server, int64_t timeout_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_us / 1000000;
    until.tv_nsec += timeout_us % 1000000 * 1000;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&server->lock);
    while (!server->has_drained &&
           pthread_cond_timedwait(&server->drained_changed, &server->lock, &until) != ETIMEDOUT)
        ;
    const bool drained = server->has_drained;
    pthread_mutex_unlock(&server->lock);
    return drained;
}

/* On the worker's own loop: from now on it hands nothing to batcher or pool. */
static void
quiesce(void *context)
{
    rp_worker *worker = context;
    rp_server *server = worker->server;
    worker->is_stopping = true;
    rp_visits_abort(worker);
    pthread_mutex_lock(&server->lock);
    server->quiet_count++;
    pthread_cond_broadcast(&server->drained_changed);
    pthread_mutex_unlock(&server->lock);
}

static void
quiesce_workers(rp_server *server)
{
    size_t posted = 0;
    for (size_t i = 0; i < server->running_count; i++)
        posted += rp_loop_post(server->workers[i].loop, quiesce, &server->workers[i]) == RP_OK;
    pthread_mutex_lock(&server->lock);
    while (server->quiet_count < posted)
        pthread_cond_wait(&server->drained_changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
}

/* On the worker's own loop, the last thing it does. */
static void
close_worker(void *context)
{
    rp_worker *worker = context;
    for (size_t i = 0; i < worker->client_count; i++) {
        rp_http_client_free(worker->clients[i].client);
        free(worker->clients[i].proxy);
        free(worker->clients[i].authorities);
    }
    worker->client_count = 0;
    rp_visits_discard(worker);
    rp_loop_stop(worker->loop);
}

static void
stop_workers(rp_server *server)
{
    for (size_t i = 0; i < server->running_count; i++)
        if (rp_loop_post(server->workers[i].loop, close_worker, &server->workers[i]) == RP_OK)
            rp_loop_join(server->workers[i].loop);
    rp_http_server_free(server->http);
    for (size_t i = 0; i < server->worker_count; i++) {
        rp_worker *worker = &server->workers[i];
        rp_loop_free(worker->loop);
        rp_site_unref(worker->site);
        rp_json_reader_free(worker->json);
        rp_buffer_fini(&worker->scratch);
        rp_buffer_fini(&worker->line);
    }
    free(server->workers);
    free(server->loops);
}

void
rp_server_stop(rp_server *server)
{
    if (!server)
        return;
    if (server->http && !atomic_load(&server->is_draining))
        rp_server_drain(server);
    quiesce_workers(server);
    atomic_store(&server->is_stopping, true);
    /* What the writer still tells a loop (credential.c) comes while there is one. */
    if (server->cache)
        (void)!rp_store_sync(rp_cache_store_of(server->cache));
    rp_batcher_free(server->batcher);
    rp_pool_free(server->pool);
    stop_workers(server);
    rp_flights_free(server->flights);
    rp_site_unref(server->site);
    rp_cache_close(server->cache);
    rp_access_log_free(server->log);
    rp_metrics_free(server->metrics);
    rp_config_unref(server->first);
    pthread_cond_destroy(&server->drained_changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

/* ---- for others ------------------------------------------------------------------ */

rp_str
rp_server_address(const rp_server *server)
{
    return rp_http_server_address(server->http);
}

rp_cache *
rp_server_cache(rp_server *server)
{
    return server->cache;
}

rp_metrics *
rp_server_metrics(rp_server *server)
{
    return server->metrics;
}

const rp_config *
rp_server_config(rp_server *server)
{
    pthread_mutex_lock(&server->lock);
    const rp_config *config = rp_config_ref(server->site->config);
    pthread_mutex_unlock(&server->lock);
    return config;
}

rp_loop *const *
rp_server_loops(rp_server *server, size_t *count)
{
    *count = server->worker_count;
    return server->loops;
}

bool
rp_server_is_draining(const rp_server *server)
{
    return atomic_load(&server->is_draining);
}

rp_status
rp_server_run_blocking(rp_server *server, rp_loop_call *call, void *context)
{
    return rp_pool_submit(server->pool, call, context);
}

typedef struct reason_writer {
    rp_buffer *out;
    const char *kind, *name, *label;
} reason_writer;

static bool
write_reason(void *context, const char *kind, const char *reason, uint64_t count)
{
    const reason_writer *writer = context;
    if (strcmp(kind, writer->kind) == 0 && count) {
        rp_buffer_printf(writer->out, "%s{%s=\"", writer->name, writer->label);
        rp_metrics_write_label(writer->out, reason);
        rp_buffer_printf(writer->out, "\"} %llu\n", (unsigned long long)count);
    }
    return true;
}

static void
write_reasons(rp_server *server, rp_buffer *out)
{
    reason_writer gates = { out, "gate", "reprise_cache_gate_rejections_total", "gate" };
    rp_buffer_append(out, RP_STR("# HELP reprise_cache_gate_rejections_total Candidates that a "
                                 "gate turned down.\n"
                                 "# TYPE reprise_cache_gate_rejections_total counter\n"));
    rp_cache_reasons(server->cache, write_reason, &gates);
    reason_writer failures = { out, "failure", "reprise_cache_failures_total", "reason" };
    rp_buffer_append(out, RP_STR("# HELP reprise_cache_failures_total Failures inside the cache "
                                 "that became misses.\n"
                                 "# TYPE reprise_cache_failures_total counter\n"));
    rp_cache_reasons(server->cache, write_reason, &failures);
}

static void
write_bounds(rp_server *server, rp_buffer *out)
{
    pthread_mutex_lock(&server->lock);
    rp_site *site = rp_site_ref(server->site);
    pthread_mutex_unlock(&server->lock);
    rp_buffer_append(out, RP_STR("# HELP reprise_error_rate_bound Bound on wrong answers among all "
                                 "requests that the route's policy keeps.\n"
                                 "# TYPE reprise_error_rate_bound gauge\n"));
    for (size_t i = 0; i < site->config->route_count; i++) {
        const double bound = rp_decider_error_bound(site->rules[i].decider);
        if (isnan(bound))
            continue;
        rp_buffer_append(out, RP_STR("reprise_error_rate_bound{route=\""));
        rp_metrics_write_label(out, site->config->routes[i].name);
        rp_buffer_printf(out, "\"} %.6g\n", bound);
    }
    rp_site_unref(site);
}

/* Pages of this process in memory, from the second number of /proc/self/statm. */
static double
resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long total = 0, resident = 0;
    if (!file)
        return 0;
    if (fscanf(file, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void
write_cache_gauges(rp_server *server, rp_buffer *out)
{
    rp_cache_stats stats;
    rp_cache_stats_get(server->cache, &stats);
    rp_metrics_write_value(out, "reprise_entries", "gauge", "Entries in the store.", "",
                           (double)stats.entries);
    rp_metrics_write_value(out, "reprise_vectors", "gauge", "Vectors in the index.", "",
                           (double)stats.vectors);
    rp_buffer_append(out, RP_STR("# HELP reprise_memory_bytes Heap by use.\n"
                                 "# TYPE reprise_memory_bytes gauge\n"));
    rp_buffer_printf(out,
                     "reprise_memory_bytes{use=\"index\"} %llu\n"
                     "reprise_memory_bytes{use=\"store\"} %llu\n"
                     "reprise_memory_bytes{use=\"policy\"} %llu\n",
                     (unsigned long long)stats.index_bytes, (unsigned long long)stats.memory_bytes,
                     (unsigned long long)stats.policy_bytes);
    rp_metrics_write_value(out, "reprise_disk_bytes", "gauge", "Bytes of the store's file.", "",
                           (double)stats.disk_bytes);
    rp_buffer_printf(out,
                     "# HELP reprise_evictions_total Entries that left on their own.\n"
                     "# TYPE reprise_evictions_total counter\n"
                     "reprise_evictions_total{reason=\"budget\"} %llu\n"
                     "reprise_evictions_total{reason=\"expired\"} %llu\n"
                     "reprise_evictions_total{reason=\"damaged\"} %llu\n",
                     (unsigned long long)stats.evicted, (unsigned long long)stats.expired,
                     (unsigned long long)stats.damaged);
    rp_metrics_write_value(out, "reprise_admission_paused", "gauge",
                           "1 while the store takes nothing new (disk full, I/O error).", "",
                           stats.admission_paused);
    rp_buffer_printf(out,
                     "# HELP reprise_index_recall_checks_total Searches made again over all "
                     "vectors of their scope, by whether the nearest had been found.\n"
                     "# TYPE reprise_index_recall_checks_total counter\n"
                     "reprise_index_recall_checks_total{result=\"found\"} %llu\n"
                     "reprise_index_recall_checks_total{result=\"missed\"} %llu\n"
                     "reprise_index_recall_checks_total{result=\"missed_far\"} %llu\n",
                     (unsigned long long)stats.recall_found,
                     (unsigned long long)stats.recall_missed,
                     (unsigned long long)stats.recall_missed_far);
    rp_metrics_write_value(out, "reprise_reembed_waiting", "gauge",
                           "Entries that an exchanged encoder has not looked at yet.", "",
                           (double)stats.reembed_waiting);
    rp_metrics_write_value(out, "reprise_ready", "gauge", "1 when the index is loaded.", "",
                           stats.ready);
    rp_metrics_write_value(out, "reprise_semantic", "gauge", "1 when the semantic tier is on.", "",
                           stats.semantic);
    rp_buffer_printf(out,
                     "# HELP reprise_build_info Version and encoder.\n"
                     "# TYPE reprise_build_info gauge\n"
                     "reprise_build_info{version=\"%s\",model=\"",
                     RP_VERSION);
    const rp_encoder *encoder = rp_cache_encoder(server->cache);
    if (encoder) { /* a folder's name, which may hold anything */
        char name[256];
        snprintf(name, sizeof name, "%.*s", RP_FMT(rp_encoder_name(encoder)));
        rp_metrics_write_label(out, name);
    }
    rp_buffer_printf(out, "\",fingerprint=\"%s\"} 1\n", stats.fingerprint);
}

void
rp_server_write_metrics(rp_server *server, rp_buffer *out)
{
    rp_metrics_write(server->metrics, out);
    write_bounds(server, out);
    write_reasons(server, out);
    write_cache_gauges(server, out);
    rp_metrics_write_value(out, "reprise_connections", "gauge", "Open client connections.", "",
                           (double)rp_http_server_connections(server->http));
    rp_metrics_write_value(out, "reprise_in_flight_shared", "gauge",
                           "Upstream calls that identical requests may join.", "",
                           (double)rp_flights_count(server->flights));
    rp_metrics_write_value(out, "reprise_in_flight_followers", "gauge",
                           "Requests that wait for another's upstream call.", "",
                           (double)rp_flights_follower_count(server->flights));
    rp_metrics_write_value(out, "reprise_encoder_waiting", "gauge", "Texts waiting to be encoded.",
                           "", server->batcher ? (double)rp_batcher_waiting(server->batcher) : 0);
    rp_metrics_write_value(out, "process_resident_memory_bytes", "gauge",
                           "Resident memory of the process.", "", resident_bytes());
}
