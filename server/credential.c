/* credential.c - what the upstream says about the caller's credential.
 *
 * A 401 or 403 takes back what an earlier success had proven. The reply that says so is
 * held until that is on the disk: whoever has seen it can rely on the store not to answer
 * this credential again, even if we are killed in the next moment. That costs one commit,
 * once for each credential that stops working. A commit that fails does not hold the reply
 * (the store tries it again by itself), nor is a large reply held. */
#include "base/bytes.h"
#include "server/server_internal.h"

enum { HELD_SIZE_MAX = 64 << 10 }; /* a guess; error objects have some hundred bytes */

/* Both have to happen: the reply is here, and the revocation is on the disk. */
static void
send_when_ready(rp_visit *visit)
{
    const struct rp_held_reply *held = &visit->held;
    if (!held->is_whole || !held->is_written || !visit->exchange)
        return;
    const rp_str body = rp_buffer_str(&visit->collect);
    rp_visit_begin(visit, held->status, held->headers, held->header_count, (int64_t)body.len, false);
    rp_visit_write(visit, body);
    rp_visit_end(visit, RP_VISIT_SERVED);
}

static bool
on_collected(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    (void)headers;
    (void)count;
    if (status != 0)
        return true;
    visit->held.is_whole = true;
    send_when_ready(visit);
    return true;
}

static void
on_written(void *context)
{
    rp_visit *visit = context;
    visit->held.is_written = true;
    send_when_ready(visit);
    rp_visit_unref(visit);
}

/* The store's writer thread. */
static void
post_written(void *context, rp_status status, rp_entry_id id)
{
    rp_visit *visit = context;
    (void)status;
    (void)id;
    if (rp_loop_post(visit->worker->loop, on_written, visit) != RP_OK)
        rp_visit_unref(visit);
}

/* Collect this reply, so that it can be sent later. False: it is too large, or no memory. */
static bool
hold(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    uint64_t size;
    if (!rp_str_to_u64(rp_http_header(headers, count, "content-length"), &size) ||
        size > HELD_SIZE_MAX)
        return false;
    rp_header *copy = rp_arena_calloc(&visit->arena, count, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++) {
        copy[i].name = rp_arena_copy(&visit->arena, headers[i].name);
        copy[i].value = rp_arena_copy(&visit->arena, headers[i].value);
    }
    if (rp_arena_failed(&visit->arena))
        return false;
    visit->held.status = status;
    visit->held.headers = copy;
    visit->held.header_count = count;
    visit->collect.size_max = HELD_SIZE_MAX;
    visit->collected = on_collected;
    return true;
}

bool
rp_visit_learn_credential(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    rp_store *store = rp_cache_store_of(visit->worker->server->cache);
    rp_visit_ref(visit); /* for post_written, which may come before this returns */
    if (!rp_identity_learn(visit->site->tenants, store, &visit->identity, visit->upstream->name,
                           status, visit->time, post_written, visit)) {
        rp_visit_unref(visit);
        return false;
    }
    return hold(visit, status, headers, count);
}
