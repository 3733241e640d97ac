/* slots.c - see slots.h.
 *
 * Both indexes use linear probing at a load of at most 0.8 and backward-shift deletion
 * (Knuth, The Art of Computer Programming 3, 6.4, algorithm R), so that there are no
 * tombstones and a table that loses and gains entries for years stays as quick. */
#include "store/slots.h"
#include "base/bytes.h"

enum { INDEX_SIZE_MIN = 1024, TENANTS_MIN = 64 };

/* Ids are consecutive and fingerprints come from SHA-256; one multiplication (the
 * golden ratio, Knuth 6.4) spreads both. */
static size_t
home_of(uint64_t value, size_t mask)
{
    return (size_t)((value * 0x9e3779b97f4a7c15u) >> 20) & mask;
}

static bool
index_init(rp_slot_index *index, size_t size)
{
    index->places = calloc(size, sizeof index->places[0]);
    index->mask = size - 1;
    return index->places != NULL;
}

static uint64_t
value_of(const rp_slots *slots, uint32_t number, bool by_key)
{
    const rp_slot *slot = rp_slots_at(slots, number);
    return by_key ? slot->fingerprint : slot->id;
}

static void
index_insert(rp_slot_index *index, uint64_t value, uint32_t number)
{
    size_t at = home_of(value, index->mask);
    while (index->places[at])
        at = (at + 1) & index->mask;
    index->places[at] = number;
}

static void
index_remove(const rp_slots *slots, rp_slot_index *index, uint32_t number, bool by_key)
{
    size_t hole = home_of(value_of(slots, number, by_key), index->mask);
    while (index->places[hole] != number) {
        assert(index->places[hole]);
        hole = (hole + 1) & index->mask;
    }
    for (size_t at = hole;;) {
        at = (at + 1) & index->mask;
        if (!index->places[at])
            break;
        const size_t home = home_of(value_of(slots, index->places[at], by_key), index->mask);
        /* It may move into the hole unless its home lies behind the hole. */
        if (((at - home) & index->mask) >= ((at - hole) & index->mask)) {
            index->places[hole] = index->places[at];
            hole = at;
        }
    }
    index->places[hole] = 0;
}

bool
rp_slots_init(rp_slots *slots, uint64_t budget_bytes, size_t count_max)
{
    *slots = (rp_slots){ .count_max = count_max };
    slots->tenant_capacity = TENANTS_MIN;
    slots->tenant_index_mask = 2 * TENANTS_MIN - 1;
    slots->tenants = calloc(slots->tenant_capacity, sizeof slots->tenants[0]);
    slots->tenant_index = calloc(slots->tenant_index_mask + 1, sizeof slots->tenant_index[0]);
    const bool made = rp_chunks_init(&slots->slots, sizeof(rp_slot), count_max + 1) &&
                      rp_s3fifo_init(&slots->eviction, budget_bytes, count_max) &&
                      index_init(&slots->by_key, INDEX_SIZE_MIN) &&
                      index_init(&slots->by_id, INDEX_SIZE_MIN) && slots->tenants &&
                      slots->tenant_index;
    if (!made)
        rp_slots_fini(slots);
    return made;
}

void
rp_slots_fini(rp_slots *slots)
{
    rp_chunks_fini(&slots->slots);
    rp_s3fifo_fini(&slots->eviction);
    free(slots->by_key.places);
    free(slots->by_id.places);
    free(slots->tenants);
    free(slots->tenant_index);
    *slots = (rp_slots){ 0 };
}

/* ---- growing ---------------------------------------------------------------- */

bool
rp_slots_growth_prepare(const rp_slots *slots, size_t count, rp_slots_growth *out)
{
    *out = (rp_slots_growth){ 0 };
    size_t size = slots->by_id.mask + 1;
    if (count <= size / 5 * 4)
        return true;
    while (count > size / 5 * 4)
        size *= 2;
    if (!index_init(&out->by_key, size) || !index_init(&out->by_id, size)) {
        rp_slots_growth_free(out);
        return false;
    }
    for (uint32_t number = 1; number <= slots->top; number++) {
        if (!(rp_slots_at(slots, number)->flags & RP_SLOT_USED))
            continue;
        index_insert(&out->by_key, value_of(slots, number, true), number);
        index_insert(&out->by_id, value_of(slots, number, false), number);
    }
    return true;
}

void
rp_slots_growth_swap(rp_slots *slots, rp_slots_growth *growth)
{
    if (!growth->by_id.places)
        return;
    const rp_slots_growth old = { slots->by_key, slots->by_id };
    slots->by_key = growth->by_key;
    slots->by_id = growth->by_id;
    *growth = old;
}

void
rp_slots_growth_free(rp_slots_growth *growth)
{
    free(growth->by_key.places);
    free(growth->by_id.places);
    *growth = (rp_slots_growth){ 0 };
}

/* Tenants are few next to entries, so both of their arrays are simply copied. */
static bool
reserve_tenants(rp_slots *slots, size_t more)
{
    size_t capacity = slots->tenant_capacity;
    while (capacity - 1 < slots->tenant_count + more)
        capacity *= 2;
    if (capacity == slots->tenant_capacity)
        return true;
    rp_slot_tenant *tenants = calloc(capacity, sizeof tenants[0]);
    uint32_t *index = calloc(2 * capacity, sizeof index[0]);
    if (!tenants || !index) {
        free(tenants);
        free(index);
        return false;
    }
    memcpy(tenants, slots->tenants, slots->tenant_capacity * sizeof tenants[0]);
    for (size_t i = 0; i <= slots->tenant_index_mask; i++) {
        const uint32_t tenant = slots->tenant_index[i];
        if (!tenant)
            continue;
        size_t at = home_of(tenants[tenant].hash, 2 * capacity - 1);
        while (index[at])
            at = (at + 1) & (2 * capacity - 1);
        index[at] = tenant;
    }
    free(slots->tenants);
    free(slots->tenant_index);
    slots->tenants = tenants;
    slots->tenant_index = index;
    slots->tenant_capacity = capacity;
    slots->tenant_index_mask = 2 * capacity - 1;
    return true;
}

bool
rp_slots_reserve(rp_slots *slots, size_t more)
{
    const size_t free_count = slots->top - slots->count;
    const size_t top = slots->top + (more > free_count ? more - free_count : 0);
    return slots->count + more <= slots->count_max &&
           slots->count + more <= (slots->by_id.mask + 1) / 5 * 4 &&
           rp_chunks_reserve(&slots->slots, top + 1) &&
           rp_s3fifo_reserve(&slots->eviction, top) && reserve_tenants(slots, more);
}

/* ---- tenants ---------------------------------------------------------------- */

static uint32_t
find_tenant(const rp_slots *slots, uint64_t hash)
{
    size_t at = home_of(hash, slots->tenant_index_mask);
    for (; slots->tenant_index[at]; at = (at + 1) & slots->tenant_index_mask)
        if (slots->tenants[slots->tenant_index[at]].hash == hash)
            return slots->tenant_index[at];
    return 0;
}

rp_slot_tenant *
rp_slots_tenant(const rp_slots *slots, uint64_t tenant_hash)
{
    const uint32_t tenant = find_tenant(slots, tenant_hash);
    return tenant ? &slots->tenants[tenant] : NULL;
}

static uint32_t
make_tenant(rp_slots *slots, uint64_t hash)
{
    uint32_t tenant = slots->tenant_free;
    if (tenant)
        slots->tenant_free = slots->tenants[tenant].next_free;
    else
        tenant = (uint32_t)slots->tenant_count + 1;
    assert(tenant < slots->tenant_capacity);
    slots->tenant_count++;
    slots->tenants[tenant] = (rp_slot_tenant){ .hash = hash };
    size_t at = home_of(hash, slots->tenant_index_mask);
    while (slots->tenant_index[at])
        at = (at + 1) & slots->tenant_index_mask;
    slots->tenant_index[at] = tenant;
    return tenant;
}

static void
drop_tenant(rp_slots *slots, uint32_t tenant)
{
    uint32_t *index = slots->tenant_index;
    const size_t mask = slots->tenant_index_mask;
    size_t hole = home_of(slots->tenants[tenant].hash, mask);
    while (index[hole] != tenant)
        hole = (hole + 1) & mask;
    for (size_t at = (hole + 1) & mask; index[at]; at = (at + 1) & mask) {
        const size_t home = home_of(slots->tenants[index[at]].hash, mask);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index[hole] = index[at];
            hole = at;
        }
    }
    index[hole] = 0;
    slots->tenants[tenant].next_free = slots->tenant_free;
    slots->tenant_free = tenant;
    slots->tenant_count--;
}

static void
tenant_push(rp_slots *slots, uint32_t tenant, uint32_t number)
{
    rp_slot_tenant *owner = &slots->tenants[tenant];
    rp_slot *slot = rp_slots_at(slots, number);
    slot->tenant_newer = 0;
    slot->tenant_older = owner->head;
    if (owner->head)
        rp_slots_at(slots, owner->head)->tenant_newer = number;
    else
        owner->tail = number;
    owner->head = number;
}

static void
tenant_unlink(rp_slots *slots, uint32_t number)
{
    const rp_slot *slot = rp_slots_at(slots, number);
    rp_slot_tenant *owner = &slots->tenants[slot->tenant];
    if (slot->tenant_newer)
        rp_slots_at(slots, slot->tenant_newer)->tenant_older = slot->tenant_older;
    else
        owner->head = slot->tenant_older;
    if (slot->tenant_older)
        rp_slots_at(slots, slot->tenant_older)->tenant_newer = slot->tenant_newer;
    else
        owner->tail = slot->tenant_newer;
}

/* ---- slots ------------------------------------------------------------------ */

uint32_t
rp_slots_insert(rp_slots *slots, uint64_t fingerprint, const rp_slot *values,
                uint64_t tenant_hash, bool known)
{
    uint32_t number = slots->free_head;
    if (number)
        slots->free_head = rp_slots_at(slots, number)->tenant_older;
    else
        number = ++slots->top;
    rp_slot *slot = rp_slots_at(slots, number);
    *slot = *values;
    slot->fingerprint = fingerprint;
    slot->hot = 0;
    slot->flags = (values->flags & (RP_SLOT_STATIC | RP_SLOT_UNTOLD)) | RP_SLOT_USED;
    slots->count++;

    uint32_t tenant = find_tenant(slots, tenant_hash);
    if (!tenant)
        tenant = make_tenant(slots, tenant_hash);
    slot->tenant = tenant;
    tenant_push(slots, tenant, number);
    rp_slot_tenant *owner = &slots->tenants[tenant];
    owner->count++;
    owner->bytes += slot->size;
    if (slot->flags & RP_SLOT_STATIC)
        owner->static_bytes += slot->size;
    else if (known)
        rp_s3fifo_insert_main(&slots->eviction, number, slot->size);
    else
        rp_s3fifo_insert(&slots->eviction, number, slot->size, fingerprint);

    index_insert(&slots->by_key, fingerprint, number);
    index_insert(&slots->by_id, slot->id, number);
    return number;
}

void
rp_slots_doom(rp_slots *slots, uint32_t number)
{
    rp_slot *slot = rp_slots_at(slots, number);
    assert(!(slot->flags & RP_SLOT_DOOMED));
    slot->flags |= RP_SLOT_DOOMED;
    slots->tenants[slot->tenant].doomed_bytes += slot->size;
    rp_s3fifo_remove(&slots->eviction, number);
}

void
rp_slots_remove(rp_slots *slots, uint32_t number)
{
    rp_slot *slot = rp_slots_at(slots, number);
    assert(slot->flags & RP_SLOT_USED && !slot->hot);
    index_remove(slots, &slots->by_key, number, true);
    index_remove(slots, &slots->by_id, number, false);
    rp_s3fifo_remove(&slots->eviction, number);
    tenant_unlink(slots, number);
    rp_slot_tenant *owner = &slots->tenants[slot->tenant];
    owner->bytes -= slot->size;
    if (slot->flags & RP_SLOT_STATIC)
        owner->static_bytes -= slot->size;
    if (slot->flags & RP_SLOT_DOOMED)
        owner->doomed_bytes -= slot->size;
    if (--owner->count == 0)
        drop_tenant(slots, slot->tenant);
    *slot = (rp_slot){ .tenant_older = slots->free_head };
    slots->free_head = number;
    slots->count--;
}

uint32_t
rp_slots_find_id(const rp_slots *slots, rp_entry_id id)
{
    const rp_slot_index *index = &slots->by_id;
    for (size_t at = home_of(id, index->mask); index->places[at]; at = (at + 1) & index->mask)
        if (rp_slots_at(slots, index->places[at])->id == id)
            return index->places[at];
    return 0;
}

void
rp_slots_fetch_id(const rp_slots *slots, rp_entry_id soon, rp_entry_id later)
{
    const rp_slot_index *index = &slots->by_id;
    const uint32_t number = index->places[home_of(soon, index->mask)];
    if (number)
        __builtin_prefetch(rp_slots_at(slots, number));
    __builtin_prefetch(&index->places[home_of(later, index->mask)]);
}

uint32_t
rp_slots_find_key(const rp_slots *slots, uint64_t fingerprint, rp_slot_accept *accept,
                  void *context)
{
    const rp_slot_index *index = &slots->by_key;
    size_t at = home_of(fingerprint, index->mask);
    for (; index->places[at]; at = (at + 1) & index->mask) {
        const rp_slot *slot = rp_slots_at(slots, index->places[at]);
        if (slot->fingerprint == fingerprint && accept(context, slot))
            return index->places[at];
    }
    return 0;
}

/* ---- eviction --------------------------------------------------------------- */

static uint64_t
fingerprint_of(void *context, uint32_t number)
{
    return rp_slots_at(context, number)->fingerprint;
}

uint32_t
rp_slots_evict(rp_slots *slots)
{
    const uint32_t number = rp_s3fifo_evict(&slots->eviction, fingerprint_of, slots);
    if (number)
        rp_slots_doom(slots, number);
    return number;
}

uint32_t
rp_slots_evict_tenant(rp_slots *slots, uint64_t tenant_hash)
{
    const uint32_t tenant = find_tenant(slots, tenant_hash);
    if (!tenant)
        return 0;
    /* Each entry is passed at most once a use, three times in all, and once more. The
     * lock is held, so a tenant of very many static entries is not searched to the end. */
    const uint32_t steps_max = RP_MIN(slots->tenants[tenant].count * 4u, 65536u);
    for (uint32_t step = 0; step < steps_max; step++) {
        const uint32_t number = slots->tenants[tenant].tail;
        const rp_slot *slot = rp_slots_at(slots, number);
        const unsigned uses = rp_s3fifo_uses(&slots->eviction, number);
        const bool stays = slot->flags & (RP_SLOT_STATIC | RP_SLOT_DOOMED);
        if (!stays && uses == 0) {
            rp_slots_doom(slots, number);
            return number;
        }
        if (!stays)
            rp_s3fifo_uses_set(&slots->eviction, number, uses - 1);
        tenant_unlink(slots, number);
        tenant_push(slots, tenant, number);
    }
    return 0;
}

size_t
rp_slots_size_bytes(const rp_slots *slots)
{
    return rp_chunks_size_bytes(&slots->slots) + rp_s3fifo_size_bytes(&slots->eviction) +
           (slots->by_key.mask + slots->by_id.mask + 2) * sizeof(uint32_t) +
           slots->tenant_capacity * sizeof slots->tenants[0] +
           (slots->tenant_index_mask + 1) * sizeof(uint32_t);
}
