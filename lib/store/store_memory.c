/* store_memory.c - what answers without touching the disk: pending entries, hot replies,
 * the exact table. Loop threads call these; each takes the lock once, for a few cache
 * lines. */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/entry.h"
#include "store/store_internal.h"

/* ---- hot replies ------------------------------------------------------------ */

bool
rp_hot_init(rp_hot *hot, uint64_t bytes_max, size_t count_max)
{
    *hot = (rp_hot){ .bytes_max = bytes_max, .count_max = count_max };
    return rp_chunks_init(&hot->places, sizeof(rp_hot_place), count_max + 1) &&
           rp_s3fifo_init(&hot->eviction, bytes_max, count_max);
}

static rp_hot_place *
place_at(const rp_hot *hot, uint32_t place)
{
    return rp_chunks_at(&hot->places, place);
}

void
rp_hot_fini(rp_store *store)
{
    rp_hot *hot = &store->hot;
    for (uint32_t place = 1; place <= hot->top; place++)
        rp_entry_unref(place_at(hot, place)->entry);
    rp_chunks_fini(&hot->places);
    rp_s3fifo_fini(&hot->eviction);
}

static void
empty_place(rp_store *store, uint32_t place)
{
    rp_hot *hot = &store->hot;
    rp_hot_place *at = place_at(hot, place);
    rp_slots_at(&store->slots, at->slot)->hot = 0;
    rp_entry_unref(at->entry);
    *at = (rp_hot_place){ .next_free = hot->free_head };
    hot->free_head = place;
    hot->count--;
}

void
rp_hot_drop(rp_store *store, uint32_t slot)
{
    const uint32_t place = rp_slots_at(&store->slots, slot)->hot;
    if (!place)
        return;
    rp_s3fifo_remove(&store->hot.eviction, place);
    empty_place(store, place);
}

static uint64_t
key_hash_of(void *context, uint32_t place)
{
    return rp_load_le64(place_at(context, place)->entry->key.bytes);
}

uint64_t
rp_store_memory_bytes(const rp_store *store)
{
    return rp_slots_size_bytes(&store->slots) + rp_s3fifo_bytes(&store->hot.eviction) +
           rp_s3fifo_size_bytes(&store->hot.eviction) + rp_chunks_size_bytes(&store->hot.places) +
           rp_credentials_size_bytes(&store->credentials) + rp_epochs_size_bytes(&store->epochs);
}

/* What the tables hold comes out of the same budget; hot replies have the rest, and at
 * least an eighth. */
static uint64_t
hot_bytes_max(const rp_store *store)
{
    const uint64_t tables = rp_store_memory_bytes(store) - rp_s3fifo_bytes(&store->hot.eviction);
    const uint64_t least = store->memory_max / 8;
    return store->memory_max > tables + least ? store->memory_max - tables : least;
}

void
rp_hot_trim(rp_store *store, size_t room)
{
    rp_hot *hot = &store->hot;
    hot->bytes_max = hot_bytes_max(store);
    while (rp_s3fifo_bytes(&hot->eviction) + room > hot->bytes_max) {
        const uint32_t victim = rp_s3fifo_evict(&hot->eviction, key_hash_of, hot);
        if (!victim)
            break;
        empty_place(store, victim);
        store->stats.evicted_memory++;
    }
}

void
rp_hot_insert(rp_store *store, uint32_t slot, const rp_entry *entry)
{
    rp_hot *hot = &store->hot;
    const size_t size = rp_entry_size_bytes(entry);
    /* One reply may not push out most of the others. The eighth is a guess. */
    if (rp_slots_at(&store->slots, slot)->hot || size > hot_bytes_max(store) / 8)
        return;
    /* The place first: it may need memory, which comes out of the same budget. */
    uint32_t place = hot->free_head;
    if (place)
        hot->free_head = place_at(hot, place)->next_free;
    else if (hot->top < hot->count_max && rp_chunks_reserve(&hot->places, hot->top + 2) &&
             rp_s3fifo_reserve(&hot->eviction, hot->top + 1))
        place = ++hot->top;
    else
        return;
    rp_s3fifo_set_budget(&hot->eviction, hot->bytes_max);
    rp_hot_trim(store, size);
    rp_entry_ref(entry);
    *place_at(hot, place) = (rp_hot_place){ entry, slot, 0 };
    rp_slots_at(&store->slots, slot)->hot = place;
    rp_s3fifo_insert(&hot->eviction, place, (uint32_t)size, rp_load_le64(entry->key.bytes));
    hot->count++;
    /* The ghost list may have grown on the way. */
    rp_hot_trim(store, 0);
}

const rp_entry *
rp_hot_form(const rp_entry *entry)
{
    const bool keeps_vectors = entry->window_count > 1;
    if ((!entry->mean || keeps_vectors) && !entry->scope_fields.len) {
        rp_entry_ref(entry);
        return entry;
    }
    return rp_entry_copy(entry, RP_PART_REPLY | (keeps_vectors ? RP_PART_VECTORS : 0));
}

/* ---- pending ---------------------------------------------------------------- */

static size_t
bucket_of_id(rp_entry_id id)
{
    return id % RP_PENDING_BUCKETS;
}

static size_t
bucket_of_key(const rp_key *key)
{
    return rp_load_le64(key->bytes) % RP_PENDING_BUCKETS;
}

void
rp_pending_insert(rp_store *store, rp_op *op)
{
    rp_op **by_id = &store->pending_by_id[bucket_of_id(op->entry->id)];
    rp_op **by_key = &store->pending_by_key[bucket_of_key(&op->entry->key)];
    op->next_by_id = *by_id;
    op->next_by_key = *by_key; /* in front: the newest of a key is found first */
    *by_id = *by_key = op;
    store->pending_count++;
}

void
rp_pending_remove(rp_store *store, rp_op *op)
{
    if (op->hidden)
        return;
    op->hidden = true;
    rp_op **at = &store->pending_by_id[bucket_of_id(op->entry->id)];
    while (*at != op)
        at = &(*at)->next_by_id;
    *at = op->next_by_id;
    at = &store->pending_by_key[bucket_of_key(&op->entry->key)];
    while (*at != op)
        at = &(*at)->next_by_key;
    *at = op->next_by_key;
    store->pending_count--;
}

rp_op *
rp_pending_find(const rp_store *store, rp_entry_id id)
{
    if (!store->pending_count)
        return NULL;
    rp_op *op = store->pending_by_id[bucket_of_id(id)];
    while (op && op->entry->id != id)
        op = op->next_by_id;
    return op;
}

static rp_op *
find_pending_key(const rp_store *store, const rp_key *key)
{
    if (!store->pending_count)
        return NULL;
    rp_op *op = store->pending_by_key[bucket_of_key(key)];
    while (op && memcmp(op->entry->key.bytes, key->bytes, sizeof key->bytes) != 0)
        op = op->next_by_key;
    return op;
}

/* ---- lookups ---------------------------------------------------------------- */

static bool
is_over(rp_time expires, rp_time now)
{
    return expires && expires <= now;
}

static bool
same_scope(const rp_scope *a, const rp_scope *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

uint32_t
rp_store_find_live(const rp_store *store, rp_entry_id id, rp_time now)
{
    const uint32_t number = rp_slots_find_id(&store->slots, id);
    if (!number)
        return 0;
    const rp_slot *slot = rp_slots_at(&store->slots, number);
    return slot->flags & RP_SLOT_DOOMED || is_over(slot->expires, now) ? 0 : number;
}

typedef struct wanted_key {
    const rp_store *store;
    const rp_scope *scope;
    const rp_key *key;
    rp_time now;
} wanted_key;

static bool
accept_slot(void *context, const rp_slot *slot)
{
    const wanted_key *wanted = context;
    if (slot->flags & RP_SLOT_DOOMED || is_over(slot->expires, wanted->now))
        return false;
    if (!slot->hot)
        return true;
    const rp_entry *entry = place_at(&wanted->store->hot, slot->hot)->entry;
    return memcmp(entry->key.bytes, wanted->key->bytes, sizeof entry->key.bytes) == 0 &&
           same_scope(&entry->scope, wanted->scope);
}

rp_entry_id
rp_store_exact(rp_store *store, rp_scope scope, rp_key key)
{
    const wanted_key wanted = { store, &scope, &key, rp_clock_wall_us(store->clock) };
    rp_entry_id id = 0;
    pthread_mutex_lock(&store->lock);
    const rp_op *op = find_pending_key(store, &key);
    if (op) {
        /* What is pending replaces what is committed, so this is the answer either way. */
        if (!op->cancelled && !is_over(op->entry->expires, wanted.now) &&
            same_scope(&op->entry->scope, &scope))
            id = op->entry->id;
    } else {
        const uint32_t number = rp_slots_find_key(&store->slots, rp_load_le64(key.bytes),
                                                  accept_slot, (void *)&wanted);
        if (number)
            id = rp_slots_at(&store->slots, number)->id;
    }
    pthread_mutex_unlock(&store->lock);
    return id;
}

const rp_entry *
rp_store_hot(rp_store *store, rp_scope scope, rp_entry_id id)
{
    const rp_time now = rp_clock_wall_us(store->clock);
    const rp_entry *entry = NULL;
    pthread_mutex_lock(&store->lock);
    const rp_op *op = rp_pending_find(store, id);
    if (op) {
        entry = op->cancelled ? NULL : op->entry;
    } else {
        const uint32_t number = rp_store_find_live(store, id, now);
        const uint32_t place = number ? rp_slots_at(&store->slots, number)->hot : 0;
        if (place) {
            entry = place_at(&store->hot, place)->entry;
            rp_s3fifo_touch(&store->hot.eviction, place);
        }
    }
    if (entry && (is_over(entry->expires, now) || !same_scope(&entry->scope, &scope)))
        entry = NULL;
    if (entry)
        rp_entry_ref(entry);
    pthread_mutex_unlock(&store->lock);
    return entry;
}

void
rp_store_touch(rp_store *store, rp_entry_id id)
{
    pthread_mutex_lock(&store->lock);
    const uint32_t number = rp_slots_find_id(&store->slots, id);
    if (number)
        rp_s3fifo_touch(&store->slots.eviction, number);
    pthread_mutex_unlock(&store->lock);
}
