/* slots.h - what is known in memory about every entry: the exact table, expiry,
 * size, tenant, and which of them go when a budget is full.
 *
 * A slot takes 48 bytes and 16 in the eviction queues; two open-addressed indexes of
 * 4-byte slot numbers (by 64 bits of the key, by id) take 10 to 20 more. Only the
 * writer thread changes the set of slots, so it may prepare larger indexes without
 * the lock and swap them in under it: no reader waits for a table to grow.
 *
 * Memory:  rp_slots_size_bytes; count_max bounds it.
 * Threads: the caller holds the store's lock, except where a line says otherwise. */
#ifndef RP_STORE_SLOTS_H
#define RP_STORE_SLOTS_H

#include "store/s3fifo.h"
#include "store/store.h"

typedef enum rp_slot_flag {
    RP_SLOT_USED = 1 << 0,
    RP_SLOT_DOOMED = 1 << 1, /* out of service; its removal is not committed yet */
    RP_SLOT_STATIC = 1 << 2, /* never evicted */
    RP_SLOT_TOLD = 1 << 3,   /* the removed event was sent */
    RP_SLOT_UNTOLD = 1 << 4, /* found by a reload: the added event is to be sent */
} rp_slot_flag;

typedef struct rp_slot {
    uint64_t fingerprint; /* first 8 bytes of the key */
    rp_entry_id id;
    rp_time expires; /* 0: never */
    uint32_t size;   /* bytes on disk, about */
    uint32_t tenant; /* number of its tenant */
    uint32_t tenant_newer, tenant_older;
    uint32_t hot;    /* place in the hot table, 0: not there */
    uint32_t flags;  /* rp_slot_flag */
} rp_slot;

typedef struct rp_slot_tenant {
    uint64_t hash; /* of its name */
    uint64_t bytes, static_bytes;
    uint64_t doomed_bytes; /* of bytes: leave with the next commit */
    uint32_t count;
    uint32_t head, tail;  /* its slots, newest and oldest */
    uint32_t next_free;
} rp_slot_tenant;

typedef struct rp_slot_index {
    uint32_t *places; /* owned (mask + 1); slot numbers, 0: free */
    size_t mask;
} rp_slot_index;

typedef struct rp_slots {
    rp_chunks slots;
    rp_s3fifo eviction;
    rp_slot_index by_key, by_id;
    rp_slot_tenant *tenants; /* owned (tenant_capacity), from 1 */
    uint32_t *tenant_index;  /* owned (tenant_index_mask + 1) */
    size_t tenant_capacity, tenant_count, tenant_index_mask;
    uint32_t tenant_free;
    size_t count, count_max;
    uint32_t top;       /* highest slot number ever used */
    uint32_t free_head; /* a list through tenant_older */
} rp_slots;

bool rp_slots_init(rp_slots *slots, uint64_t budget_bytes, size_t count_max);
void rp_slots_fini(rp_slots *slots);

/* Larger indexes for `count` slots, made without the lock by the writer thread, then
 * swapped in under it. prepare: false without memory; *out needs no swap if empty. */
typedef struct rp_slots_growth {
    rp_slot_index by_key, by_id;
} rp_slots_growth;
bool rp_slots_growth_prepare(const rp_slots *slots, size_t count, rp_slots_growth *out);
void rp_slots_growth_swap(rp_slots *slots, rp_slots_growth *growth);
/* Frees the old ones after a swap, or the new ones without one; needs no lock. */
void rp_slots_growth_free(rp_slots_growth *growth);
/* Make place for `more` further slots and tenants, after the indexes have grown.
 * False: no memory, or count_max. */
bool rp_slots_reserve(rp_slots *slots, size_t more);

/* Cannot fail after rp_slots_reserve. `known` says that it comes from an earlier run.
 * Returns the slot's number. */
uint32_t rp_slots_insert(rp_slots *slots, uint64_t fingerprint, const rp_slot *values,
                         uint64_t tenant_hash, bool known);
void rp_slots_remove(rp_slots *slots, uint32_t number);

static inline rp_slot *
rp_slots_at(const rp_slots *slots, uint32_t number)
{
    return rp_chunks_at(&slots->slots, number);
}
/* Have what is known of an id at hand when it will be looked for soon: two trips to memory. */
void rp_slots_fetch_id(const rp_slots *slots, rp_entry_id soon, rp_entry_id later);
/* 0: none. */
uint32_t rp_slots_find_id(const rp_slots *slots, rp_entry_id id);
/* The first slot with this fingerprint that `accept` takes; 0: none. */
typedef bool rp_slot_accept(void *context, const rp_slot *slot);
uint32_t rp_slots_find_key(const rp_slots *slots, uint64_t fingerprint, rp_slot_accept *accept,
                           void *context);

/* Take a slot out of service: it will not be found live or chosen again. */
void rp_slots_doom(rp_slots *slots, uint32_t number);
/* Choose the next to be evicted and doom it; 0: none can be. */
uint32_t rp_slots_evict(rp_slots *slots);
/* The same among the entries of one tenant: oldest first, with a further round for
 * each use (CLOCK with the counters of the eviction queues). */
uint32_t rp_slots_evict_tenant(rp_slots *slots, uint64_t tenant_hash);

/* NULL: unknown. Valid until the next change. */
rp_slot_tenant *rp_slots_tenant(const rp_slots *slots, uint64_t tenant_hash);
size_t rp_slots_size_bytes(const rp_slots *slots);

#endif
