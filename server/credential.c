/* credential.c - what the upstream says about the caller's credential.
 *
 * A 401 or 403 takes back what an earlier success had proven. The reply that says so is
 * held until that is on the disk: whoever has seen it can rely on the store not to answer
 * this credential again, even if we are killed in the next moment. That costs one commit,
 * once for each credential that stops working. Held is the head; of the body, however long
 * it is, the fetch is paused. A commit that fails does not hold the reply (the store tries it
 * again by itself). */
#include "base/bytes.h"
#include "server/server_internal.h"

static void
on_written(void *context)
{
    rp_visit *visit = context;
    rp_visit_release(visit);
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

/* False: no memory to hold it. */
static bool
hold(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    rp_header *copy = rp_arena_calloc(&visit->arena, count ? count : 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++) {
        copy[i].name = rp_arena_copy(&visit->arena, headers[i].name);
        copy[i].value = rp_arena_copy(&visit->arena, headers[i].value);
    }
    if (rp_arena_failed(&visit->arena))
        return false;
    visit->held = (struct rp_held_reply){
        .waits = true, .status = status, .headers = copy, .header_count = count
    };
    return true;
}

/* Lists of models, health and documents many services show to anybody, whatever key came along:
 * what is no call of a model accepts nobody. */
bool
rp_visit_learn_credential(rp_visit *visit, int status, const rp_header *headers, size_t count)
{
    if (!visit->is_wire && status < 400)
        return false;
    rp_store *store = rp_cache_store_of(visit->worker->server->cache);
    rp_visit_ref(visit); /* for post_written, which may come before this returns */
    if (!rp_identity_learn(visit->site->tenants, store, &visit->identity, visit->upstream->name,
                           status, visit->time, post_written, visit)) {
        rp_visit_unref(visit);
        return false;
    }
    return hold(visit, status, headers, count);
}
