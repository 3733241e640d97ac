/* reasons.c - how often each reason was met.
 *
 * Open addressing over a fixed table, without a lock: the hot path counts here on every
 * request. A label is at home at the hash of its bytes; two files may hold the same label
 * at two addresses, so labels are compared by content. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/hash.h"

void
rp_cache_count(rp_cache *cache, const char *kind, const char *reason)
{
    const uint64_t home = rp_hash64_seeded(rp_str_of(reason), rp_hash64(rp_str_of(kind)));
    for (size_t step = 0; step < RP_REASON_SLOTS; step++) {
        rp_reason_slot *slot = &cache->reasons[(home + step) % RP_REASON_SLOTS];
        const char *held = atomic_load_explicit(&slot->reason, memory_order_acquire);
        if (!held) {
            /* Claim by kind first, so that whoever sees the reason sees its kind. */
            const char *nobody = NULL;
            if (!atomic_compare_exchange_strong(&slot->kind, &nobody, kind) &&
                strcmp(nobody, kind) != 0)
                continue; /* claimed a moment ago for another kind */
            nobody = NULL;
            if (atomic_compare_exchange_strong(&slot->reason, &nobody, reason))
                held = reason;
            else
                held = nobody;
        }
        if (strcmp(held, reason) == 0 && strcmp(atomic_load(&slot->kind), kind) == 0) {
            atomic_fetch_add_explicit(&slot->count, 1, memory_order_relaxed);
            return;
        }
    }
}

void
rp_cache_failed(rp_cache *cache, const char *what)
{
    atomic_fetch_add_explicit(&cache->failures, 1, memory_order_relaxed);
    rp_cache_count(cache, "failure", what);
}

void
rp_cache_reasons(rp_cache *cache, rp_reason_each *each, void *context)
{
    for (size_t i = 0; i < RP_REASON_SLOTS; i++) {
        rp_reason_slot *slot = &cache->reasons[i];
        const char *reason = atomic_load_explicit(&slot->reason, memory_order_acquire);
        if (reason && !each(context, atomic_load(&slot->kind), reason,
                            atomic_load_explicit(&slot->count, memory_order_relaxed)))
            return;
    }
}
