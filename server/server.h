/* server.h - the caching proxy as an object: start, reload, drain, stop.
 *
 * Loop threads own the connections and do the waiting; the batcher's threads
 * embed, search and decide; a small pool reads what lies on disk; the store's
 * writer commits. docs/architecture.md has the picture, docs/threads.md the locks.
 *
 * Threads: start and stop belong to one thread; reload and drain may be called from
 *          any. What is said to be lent lives until rp_server_stop. */
#ifndef RP_SERVER_SERVER_H
#define RP_SERVER_SERVER_H

#include "cache/lookup.h"
#include "net/http_server.h"
#include "server/config.h"
#include "server/metrics.h"

typedef struct rp_server rp_server;

/* Open the store, load the encoder, listen, serve. The configuration is referenced. Fails
 * as rp_cache_open and rp_http_server_new do, with a sentence. */
RP_NODISCARD rp_status rp_server_start(const rp_config *config, rp_server **out, rp_error *error);

/* Take what can change while running from a new configuration: tenants, routes, upstreams,
 * log level, listener (address and TLS files; if those cannot be used the old listener stays,
 * which is logged, and the rest is taken). What cannot is named in a warning. On failure the
 * old one stays. By the thread that started the server. */
RP_NODISCARD rp_status rp_server_reload(rp_server *server, const rp_config *config,
                                        rp_error *error);

/* Accept no more; requests under way may end. Returns at once. */
void rp_server_drain(rp_server *server);
/* Wait until drained, at most timeout_us. True: everybody was served. */
bool rp_server_wait_drained(rp_server *server, int64_t timeout_us);
/* Stop now and free. Entries that were admitted are committed. NULL is fine. */
void rp_server_stop(rp_server *server);

/* ---- for the admin listener and others beside the request path ------------------- */

rp_str rp_server_address(const rp_server *server);     /* of the client listener; until a reload */
rp_cache *rp_server_cache(rp_server *server);
rp_metrics *rp_server_metrics(rp_server *server);
/* The configuration in force; a reference for the caller. */
const rp_config *rp_server_config(rp_server *server);
rp_loop *const *rp_server_loops(rp_server *server, size_t *count);
bool rp_server_is_draining(const rp_server *server);
/* Counters, then gauges of cache, store and process, in the Prometheus text format. */
void rp_server_write_metrics(rp_server *server, rp_buffer *out);
/* Run call(context) on a thread that may block. Fails: RP_ERR_BUSY. */
RP_NODISCARD rp_status rp_server_run_blocking(rp_server *server, rp_loop_call *call,
                                              void *context);

#endif
