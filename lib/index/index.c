/* index.c - scopes, ids, readers, and when memory may go: see index_internal.h.
 *
 * Scopes are found through one of STRIPES hash tables, each under a lock that is held
 * for a look-up and never during a scan. An entry's place is found by its id through
 * an open table of 8-byte cells (list number, slot); the id itself is read from the
 * list, so that it is kept only once. Both are the writer's but for the scope tables. */
#include "index/index_internal.h"

#include "base/bytes.h"

#include <assert.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum {
    STRIPES = 16,
    FIRST_BUCKETS = 16,
    FIRST_PLACES = 256,
    READERS_MAX = 1024,
    TOGETHER_MAX = 8,        /* searches that go through a scope together */
    CENTER_COUNT_MIN = 1024, /* vectors that a first center is taken from; a guess */
    CENTER_SAMPLE = 4096,    /* vectors a center is the mean of: its error is then 1/64 of a
                                number's own spread */
    LISTS_FROM = 50000,      /* from which on a scope has lists: earlier ones miss more; docs/performance.md */
    LISTS_FROM_MIN = 2 * CHUNK_SLOTS,
    TEND_LOOK = 4096,        /* scopes looked at in one call, in search of one with work; a guess */
    TEND_POLITE = 64,        /* times that whoever tends waits for others, at most; a guess: 4 ms */
};

#define NOT_SEARCHED SIZE_MAX
/* From which measure_imbalance on signs are those of rotated vectors. MiniLM has .01; where
 * all signs are set in 40 % or 60 % of the vectors it is .2. A guess. */
#define IMBALANCE_MAX 0.2

typedef struct scope_node {
    rp_scope scope;
    struct scope_node *next; /* of the same bucket */
    ivf *_Atomic lists;      /* NULL while the scope is small; pairs with searches' acquire */
    flat list;
} scope_node;

typedef struct stripe {
    _Alignas(64) pthread_rwlock_t lock;
    scope_node **buckets; /* owned */
    size_t bucket_count, node_count;
} stripe;

/* A search in progress says which epoch it began in; 0: no search. */
typedef struct reader {
    _Alignas(64) _Atomic uint64_t epoch;
    sift sift;
    float *query; /* (dim_padded) in `memory` */
    void *memory; /* owned */
} reader;

/* Something that searches older than `epoch` may still see. */
typedef struct retired {
    uint64_t epoch;
    void *memory; /* to free; NULL: a slot */
    size_t size_bytes;
    uint32_t list_number, slot;
} retired;

typedef struct place {
    uint32_t list_number; /* 0: free */
    uint32_t slot;
} place;

struct rp_index {
    shape shape;
    size_t count_max, lists_from, list_max;
    pthread_mutex_t writer; /* adds, removes; never taken by a search */
    _Atomic uint32_t waiting; /* adds and removes that want it; whoever tends lets them go first.
                                 Relaxed: a hint */
    uint32_t holds;         /* rp_index_hold_lists */
    uint32_t tended;        /* list number that rp_index_tend is at */
    _Atomic size_t count;   /* relaxed: a figure */
    _Atomic size_t list_figure; /* inverted lists; relaxed */
    _Atomic size_t size_figure; /* relaxed copy of size_bytes for the other threads */
    size_t size_bytes;

    stripe stripes[STRIPES];
    flat **lists; /* by number, 1..; a free number links to the next one */
    uint32_t list_count, list_capacity, free_number;

    place *places;
    size_t place_count; /* a power of two */

    _Atomic uint64_t epoch; /* from 1 */
    reader *readers;
    size_t reader_count;
    retired *retired; /* a ring: oldest first */
    size_t retired_at, retired_count, retired_capacity;

    center *centers; /* newest first, owned */
    _Atomic bool rotates; /* the newest one does; relaxed, a figure */
    size_t center_due; /* count at which the next one is made */
};

/* ---- epochs ------------------------------------------------------------------- */

static _Thread_local size_t reader_last;

/* A free reader, or NULL. */
static reader *
take_reader(rp_index *index)
{
    for (size_t i = 0; i < index->reader_count; i++) {
        reader *r = &index->readers[(reader_last + i) % index->reader_count];
        uint64_t none = 0;
        if (atomic_load_explicit(&r->epoch, memory_order_relaxed) != 0)
            continue;
        /* Sequentially consistent, as are the writer's unlinking and its look at the
         * readers: either it sees us, or we see what it unlinked. */
        if (atomic_compare_exchange_strong(&r->epoch, &none, atomic_load(&index->epoch))) {
            reader_last = (size_t)(r - index->readers);
            return r;
        }
    }
    return NULL;
}

/* A free reader; waits while searchers_max searches are under way. */
static reader *
begin_search(rp_index *index)
{
    for (unsigned round = 0;; round++) {
        reader *r = take_reader(index);
        if (r)
            return r;
        if (round < 16)
            sched_yield();
        else
            nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    }
}

static void
end_search(reader *r)
{
    /* Release: what we read, we read before. */
    atomic_store_explicit(&r->epoch, 0, memory_order_release);
}

/* The oldest epoch that a search still is in. */
static uint64_t
oldest_epoch(rp_index *index)
{
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < index->reader_count; i++) {
        const uint64_t epoch = atomic_load(&index->readers[i].epoch);
        if (epoch && epoch < oldest)
            oldest = epoch;
    }
    return oldest;
}

/* Wait for every search under way: the way out when there is no memory to remember. */
static void
wait_for_searches(rp_index *index)
{
    const uint64_t now = atomic_fetch_add(&index->epoch, 1);
    while (oldest_epoch(index) <= now)
        sched_yield();
}

static void retire_memory(void *context, void *memory, size_t size_bytes);

static retirer
retirer_of(rp_index *index)
{
    return (retirer){ retire_memory, index, &index->size_bytes };
}

static void
let_go(rp_index *index, const retired *item)
{
    if (item->memory) {
        free(item->memory);
        index->size_bytes -= item->size_bytes;
    } else if (item->list_number) {
        retirer r = retirer_of(index);
        rp_flat_release(index->lists[item->list_number], &r, item->slot);
    }
}

static void
let_go_of_the_old(rp_index *index)
{
    if (index->retired_count == 0)
        return;
    const uint64_t oldest = oldest_epoch(index);
    while (index->retired_count && index->retired[index->retired_at].epoch < oldest) {
        let_go(index, &index->retired[index->retired_at]);
        index->retired_at = (index->retired_at + 1) % index->retired_capacity;
        index->retired_count--;
    }
}

static bool
grow_retired(rp_index *index)
{
    const size_t capacity = RP_MAX((size_t)64, index->retired_capacity * 2);
    retired *grown = malloc(capacity * sizeof *grown);
    if (!grown)
        return false;
    for (size_t i = 0; i < index->retired_count; i++)
        grown[i] = index->retired[(index->retired_at + i) % index->retired_capacity];
    free(index->retired);
    index->size_bytes += (capacity - index->retired_capacity) * sizeof *grown;
    index->retired = grown;
    index->retired_at = 0;
    index->retired_capacity = capacity;
    return true;
}

static void
retire_item(rp_index *index, retired item)
{
    item.epoch = atomic_fetch_add(&index->epoch, 1);
    if (index->retired_count == index->retired_capacity && !grow_retired(index)) {
        wait_for_searches(index);
        let_go(index, &item);
        return;
    }
    index->retired[(index->retired_at + index->retired_count++) % index->retired_capacity] = item;
}

static void
retire_memory(void *context, void *memory, size_t size_bytes)
{
    retire_item(context, (retired){ .memory = memory, .size_bytes = size_bytes });
}

/* ---- scopes ------------------------------------------------------------------- */

/* A scope is a SHA-256, so any of its bytes are as good as a hash of it. */
static stripe *
stripe_of(rp_index *index, const rp_scope *scope)
{
    return &index->stripes[scope->bytes[31] % STRIPES];
}

static scope_node **
bucket_of(const stripe *s, const rp_scope *scope)
{
    return &s->buckets[rp_load_le64(scope->bytes) & (s->bucket_count - 1)];
}

static scope_node *
find_node(const stripe *s, const rp_scope *scope)
{
    scope_node *node = *bucket_of(s, scope);
    while (node && memcmp(node->scope.bytes, scope->bytes, sizeof scope->bytes) != 0)
        node = node->next;
    return node;
}

/* With the stripe locked for writing. Without memory the buckets stay as they are. */
static void
grow_buckets(rp_index *index, stripe *s)
{
    const size_t old_count = s->bucket_count;
    scope_node **old = s->buckets;
    scope_node **grown = calloc(old_count * 2, sizeof *grown);
    if (!grown)
        return;
    s->buckets = grown;
    s->bucket_count = old_count * 2;
    index->size_bytes += old_count * sizeof *grown;
    for (size_t i = 0; i < old_count; i++)
        while (old[i]) {
            scope_node *node = old[i];
            old[i] = node->next;
            node->next = *bucket_of(s, &node->scope);
            *bucket_of(s, &node->scope) = node;
        }
    free(old);
}

/* Free numbers are linked through the table itself: an odd "pointer" is 2 * next + 1. */
static bool
take_number(rp_index *index, flat *list)
{
    if (index->free_number) {
        list->number = index->free_number;
        index->free_number = (uint32_t)((uintptr_t)index->lists[list->number] >> 1);
    } else {
        if (index->list_count + 1 >= index->list_capacity) {
            const uint32_t capacity = RP_MAX(64u, index->list_capacity * 2);
            flat **grown = realloc(index->lists, capacity * sizeof *grown);
            if (!grown)
                return false;
            index->size_bytes += (capacity - index->list_capacity) * sizeof *grown;
            index->lists = grown;
            index->list_capacity = capacity;
        }
        list->number = ++index->list_count;
    }
    index->lists[list->number] = list;
    return true;
}

static scope_node *
make_node(rp_index *index, stripe *s, const rp_scope *scope)
{
    scope_node *node = calloc(1, sizeof *node);
    if (!node || !take_number(index, &node->list)) {
        free(node);
        return NULL;
    }
    node->scope = *scope;
    index->size_bytes += sizeof *node;
    pthread_rwlock_wrlock(&s->lock);
    if (s->node_count >= s->bucket_count)
        grow_buckets(index, s);
    node->next = *bucket_of(s, scope);
    *bucket_of(s, scope) = node;
    s->node_count++;
    pthread_rwlock_unlock(&s->lock);
    return node;
}

static void
drop_node(rp_index *index, scope_node *node)
{
    stripe *s = stripe_of(index, &node->scope);
    pthread_rwlock_wrlock(&s->lock);
    scope_node **link = bucket_of(s, &node->scope);
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    s->node_count--;
    pthread_rwlock_unlock(&s->lock);
    retirer r = retirer_of(index);
    ivf *lists = atomic_load_explicit(&node->lists, memory_order_relaxed);
    if (lists) {
        atomic_fetch_sub_explicit(&index->list_figure, rp_ivf_count(lists), memory_order_relaxed);
        rp_ivf_clear(lists, &index->shape, &r);
    }
    rp_flat_clear(&node->list, &index->shape, &r);
    /* The number may mean another list before a retired slot of this one is let go. */
    for (size_t i = 0; i < index->retired_count; i++) {
        retired *item = &index->retired[(index->retired_at + i) % index->retired_capacity];
        if (!item->memory && item->list_number == node->list.number)
            *item = (retired){ .epoch = item->epoch, .list_number = 0 };
    }
    index->lists[node->list.number] = (flat *)((uintptr_t)index->free_number << 1 | 1);
    index->free_number = node->list.number;
    retire_memory(index, node, sizeof *node);
}

/* ---- ids ---------------------------------------------------------------------- */

static size_t
home_of(const rp_index *index, rp_entry_id id)
{
    return (size_t)(id * 0x9e3779b97f4a7c15u >> 20) & (index->place_count - 1);
}

static rp_entry_id
id_at(const rp_index *index, const place *p)
{
    return rp_flat_id(index->lists[p->list_number], &index->shape, p->slot);
}

/* The place of `id`, or the free one where it would go. */
static place *
find_place(const rp_index *index, rp_entry_id id)
{
    size_t at = home_of(index, id);
    while (index->places[at].list_number && id_at(index, &index->places[at]) != id)
        at = (at + 1) & (index->place_count - 1);
    return &index->places[at];
}

static bool
grow_places(rp_index *index)
{
    place *old = index->places;
    const size_t old_count = index->place_count;
    place *grown = calloc(old_count * 2, sizeof *grown);
    if (!grown)
        return false;
    index->places = grown;
    index->place_count = old_count * 2;
    index->size_bytes += old_count * sizeof *grown;
    for (size_t i = 0; i < old_count; i++)
        if (old[i].list_number)
            *find_place(index, id_at(index, &old[i])) = old[i];
    free(old);
    return true;
}

/* Close the gap that a removed place leaves, so that probing still finds what had
 * been pushed past it (Knuth, volume 3, 6.4, algorithm R). The removed entry's id must
 * still be readable. */
static void
free_place(rp_index *index, place *gone)
{
    const size_t mask = index->place_count - 1;
    size_t hole = (size_t)(gone - index->places);
    for (size_t at = (hole + 1) & mask; index->places[at].list_number; at = (at + 1) & mask) {
        const size_t home = home_of(index, id_at(index, &index->places[at]));
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->places[hole] = index->places[at];
            hole = at;
        }
    }
    index->places[hole] = (place){ 0 };
}

/* ---- centers ------------------------------------------------------------------ */

/* Add up to CENTER_SAMPLE vectors, spread over all lists, to the sums, or, with a mean, count
 * the numbers above it. Returns how many vectors there were. */
static size_t
add_samples(const rp_index *index, const float *mean, double *sums)
{
    float vector[RP_DIM_MAX];
    size_t taken = 0;
    const size_t step = RP_MAX((size_t)1, index->place_count / (2 * CENTER_SAMPLE));
    for (size_t at = 0; at < index->place_count && taken < CENTER_SAMPLE; at += step) {
        const place *p = &index->places[at];
        if (!p->list_number)
            continue;
        rp_flat_vector(index->lists[p->list_number], &index->shape, p->slot, vector);
        for (size_t i = 0; i < index->shape.dim; i++)
            sums[i] += mean ? vector[i] > mean[i] : (double)vector[i];
        taken++;
    }
    return taken;
}

/* How unequal the signs are after centring, on average: 0 where each is set in half of the
 * vectors, 1 where it is the same in all. */
static double
measure_imbalance(const rp_index *index, const float *mean)
{
    double above[RP_DIM_MAX] = { 0 }, sum = 0;
    const size_t taken = add_samples(index, mean, above);
    for (size_t i = 0; taken && i < index->shape.dim; i++)
        sum += fabs(2 * above[i] / (double)taken - 1);
    return sum / (double)index->shape.dim;
}

static center *
make_center(rp_index *index)
{
    const size_t dim = index->shape.dim;
    center *made = calloc(1, sizeof *made + dim * sizeof(float));
    if (!made)
        return NULL;
    double sums[RP_DIM_MAX] = { 0 };
    const size_t taken = add_samples(index, NULL, sums);
    for (size_t i = 0; taken && i < dim; i++)
        made->mean[i] = (float)(sums[i] / (double)taken);
    made->square = (float)index->shape.kernels->square(made->mean, dim);
    made->rotated = measure_imbalance(index, made->mean) > IMBALANCE_MAX;
    if (made->rotated) {
        float plain[RP_DIM_MAX];
        memcpy(plain, made->mean, dim * sizeof *plain);
        rp_rotate(plain, dim, made->mean);
    }
    atomic_store_explicit(&index->rotates, made->rotated, memory_order_relaxed);
    index->size_bytes += sizeof *made + dim * sizeof(float);
    made->older = index->centers;
    index->centers = made;
    return made;
}

/* At 1,024 vectors, and each time they have become eight times as many, up to a
 * million: later ones would hardly move. */
static void
recenter_when_due(rp_index *index)
{
    if (!index->shape.sieve || index->center_due == 0 ||
        atomic_load_explicit(&index->count, memory_order_relaxed) < index->center_due)
        return;
    index->center_due = index->center_due < (1u << 16) ? index->center_due * 8 : 0;
    center *made = make_center(index);
    if (!made)
        return;
    index->shape.center = made;
    retirer r = retirer_of(index);
    for (uint32_t number = 1; number <= index->list_count; number++)
        if (!((uintptr_t)index->lists[number] & 1))
            if (!rp_flat_recenter(index->lists[number], &index->shape, &r))
                return;
}

/* ---- the contract ------------------------------------------------------------- */

static bool
make_readers(rp_index *index, size_t count)
{
    const shape *s = &index->shape;
    const size_t chunk_max = index->count_max / CHUNK_SLOTS + 2;
    const size_t sift_size = (rp_sift_size(s, chunk_max, index->list_max) + 63) / 64 * 64;
    const size_t query_size = (s->dim_padded * sizeof(float) + 63) / 64 * 64;
    index->readers = aligned_alloc(64, count * sizeof *index->readers);
    if (!index->readers)
        return false;
    memset(index->readers, 0, count * sizeof *index->readers);
    for (; index->reader_count < count; index->reader_count++) {
        reader *r = &index->readers[index->reader_count];
        if (!(r->memory = aligned_alloc(64, query_size + sift_size)))
            return false;
        r->query = r->memory;
        memset(r->query, 0, query_size);
        rp_sift_init(&r->sift, s, chunk_max, (char *)r->memory + query_size);
        index->size_bytes += sizeof *r + query_size + sift_size;
    }
    return true;
}

static bool
make_tables(rp_index *index)
{
    index->place_count = FIRST_PLACES;
    index->places = calloc(index->place_count, sizeof *index->places);
    index->size_bytes += index->place_count * sizeof *index->places;
    for (size_t i = 0; i < STRIPES; i++) {
        stripe *s = &index->stripes[i];
        pthread_rwlock_init(&s->lock, NULL);
        s->bucket_count = FIRST_BUCKETS;
        s->buckets = calloc(s->bucket_count, sizeof *s->buckets);
        index->size_bytes += s->bucket_count * sizeof *s->buckets;
        if (!s->buckets)
            return false;
    }
    return index->places != NULL;
}

rp_status
rp_index_new(const rp_index_options *options, rp_index **out)
{
    /* Slot numbers have 32 bits, and list numbers too. */
    if (options->dim == 0 || options->dim > RP_DIM_MAX || options->count_max == 0 ||
        options->count_max > UINT32_MAX / 2 || options->searchers_max > READERS_MAX)
        return RP_ERR_INVALID;
    rp_index *index = aligned_alloc(64, (sizeof *index + 63) / 64 * 64);
    if (!index)
        return RP_ERR_NOMEM;
    memset(index, 0, sizeof *index);
    index->count_max = options->count_max;
    index->lists_from = options->lists_from
                            ? RP_MAX(options->lists_from, (size_t)LISTS_FROM_MIN) : LISTS_FROM;
    index->list_max = rp_ivf_list_max(options->count_max, index->lists_from);
    index->size_bytes = sizeof *index;
    index->shape = (shape){ .dim = options->dim,
                            .dim_padded = (options->dim + CODE_PAD - 1) / CODE_PAD * CODE_PAD,
                            .words = (options->dim + 63) / 64,
                            .words_first = (options->dim + 127) / 128,
                            .sign_margin = (float)(SIGN_MARGIN * sqrt((double)options->dim)),
                            .first_margin = (float)(HALF_MARGIN * sqrt((double)options->dim)),
                            .kernels = rp_scan_best(),
                            .sieve = options->dim >= SIEVE_DIM_MIN,
                            .originals = !options->without_originals };
    atomic_init(&index->epoch, 1);
    index->center_due = CENTER_COUNT_MIN;
    pthread_mutex_init(&index->writer, NULL);
    const bool made = make_tables(index) &&
                      make_readers(index, RP_MAX(options->searchers_max, (size_t)1));
    if (made)
        index->shape.center = make_center(index); /* zeros, for a start */
    if (!made || !index->shape.center) {
        rp_index_free(index);
        return RP_ERR_NOMEM;
    }
    atomic_store(&index->size_figure, index->size_bytes);
    *out = index;
    return RP_OK;
}

void
rp_index_free(rp_index *index)
{
    if (!index)
        return;
    for (size_t i = 0; i < STRIPES; i++) {
        stripe *s = &index->stripes[i];
        for (size_t b = 0; s->buckets && b < s->bucket_count; b++)
            while (s->buckets[b])
                drop_node(index, s->buckets[b]);
        free(s->buckets);
        pthread_rwlock_destroy(&s->lock);
    }
    while (index->retired_count) {
        free(index->retired[index->retired_at].memory);
        index->retired_at = (index->retired_at + 1) % index->retired_capacity;
        index->retired_count--;
    }
    for (size_t i = 0; i < index->reader_count; i++)
        free(index->readers[i].memory);
    while (index->centers) {
        center *older = index->centers->older;
        free(index->centers);
        index->centers = older;
    }
    pthread_mutex_destroy(&index->writer);
    free(index->readers);
    free(index->retired);
    free(index->lists);
    free(index->places);
    free(index);
}


/* Do a part of what is due with the lists of a scope; searches go to better ones when these
 * are made. Returns whether something was due. */
static bool
step_lists(rp_index *index, scope_node *node, ivf *lists, retirer *r)
{
    const bool stepped = rp_ivf_step(lists, &node->list, &index->shape, r);
    ivf *successor = rp_ivf_successor(lists);
    if (!successor)
        return stepped;
    atomic_store_explicit(&node->lists, successor, memory_order_release);
    rp_ivf_clear(lists, &index->shape, r);
    return true;
}

/* Begin lists over a scope that is large enough; without memory it stays flat. */
static bool
begin_lists(rp_index *index, scope_node *node, retirer *r)
{
    ivf *made = index->shape.sieve && node->list.live >= index->lists_from
                    ? rp_ivf_new(&node->list, &index->shape, r, index->list_max) : NULL;
    if (made)
        atomic_store_explicit(&node->lists, made, memory_order_release);
    return made != NULL;
}

static size_t
count_lists(const scope_node *node)
{
    const ivf *lists = atomic_load_explicit(&node->lists, memory_order_relaxed);
    return lists ? rp_ivf_count(lists) : 0;
}

/* Keep up the inverted lists of a scope, and begin them when it has become large. */
static bool
list_added(rp_index *index, scope_node *node, retirer *r, uint32_t slot, const float *vector)
{
    ivf *lists = atomic_load_explicit(&node->lists, memory_order_relaxed);
    if (!lists) {
        if (index->holds == 0)
            begin_lists(index, node, r); /* or the next vector tries again */
        return true;
    }
    const size_t before = count_lists(node);
    const bool added = rp_ivf_added(lists, &node->list, &index->shape, r, slot, vector);
    if (added && index->holds == 0)
        step_lists(index, node, lists, r);
    atomic_fetch_add_explicit(&index->list_figure, count_lists(node) - before,
                              memory_order_relaxed); /* wraps if fewer, and back */
    return added;
}

static rp_status
add_locked(rp_index *index, const rp_scope *scope, rp_entry_id id, const float *vector)
{
    const size_t count = atomic_load_explicit(&index->count, memory_order_relaxed);
    if (count == index->count_max)
        return RP_ERR_LIMIT;
    if (find_place(index, id)->list_number)
        return RP_ERR_EXISTS;
    if ((count + 1) * 5 > index->place_count * 4 && !grow_places(index))
        return RP_ERR_NOMEM;
    stripe *s = stripe_of(index, scope);
    scope_node *node = find_node(s, scope); /* only writers change it, and we are the one */
    if (!node && !(node = make_node(index, s, scope)))
        return RP_ERR_NOMEM;
    retirer r = retirer_of(index);
    place *p = find_place(index, id);
    uint32_t slot;
    if (!rp_flat_add(&node->list, &index->shape, &r, id, vector, &slot)) {
        if (node->list.live == 0)
            drop_node(index, node);
        return RP_ERR_NOMEM;
    }
    if (!list_added(index, node, &r, slot, vector)) {
        rp_flat_hide(&node->list, &index->shape, slot);
        retire_item(index, (retired){ .list_number = node->list.number, .slot = slot });
        return RP_ERR_NOMEM;
    }
    *p = (place){ node->list.number, slot };
    atomic_store_explicit(&index->count, count + 1, memory_order_relaxed);
    return RP_OK;
}

static void
lock_writer(rp_index *index)
{
    atomic_fetch_add_explicit(&index->waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&index->writer);
    atomic_fetch_sub_explicit(&index->waiting, 1, memory_order_relaxed);
    let_go_of_the_old(index);
}

static void
unlock_writer(rp_index *index)
{
    atomic_store_explicit(&index->size_figure, index->size_bytes, memory_order_relaxed);
    pthread_mutex_unlock(&index->writer);
}

rp_status
rp_index_add(rp_index *index, rp_scope scope, rp_entry_id id, const float *vector)
{
    const double length = sqrt(index->shape.kernels->square(vector, index->shape.dim));
    if (id == 0 || !(fabs(length - 1) <= 1e-3)) /* so written, NaN is refused too */
        return RP_ERR_INVALID;
    lock_writer(index);
    const rp_status status = add_locked(index, &scope, id, vector);
    if (status == RP_OK)
        recenter_when_due(index);
    unlock_writer(index);
    return status;
}

static scope_node *
node_of(flat *list)
{
    return (scope_node *)((char *)list - offsetof(scope_node, list));
}

bool
rp_index_remove(rp_index *index, rp_entry_id id)
{
    lock_writer(index);
    place *p = id ? find_place(index, id) : NULL;
    const bool present = p && p->list_number;
    if (present) {
        const place was = *p;
        flat *list = index->lists[was.list_number];
        free_place(index, p);
        rp_flat_hide(list, &index->shape, was.slot);
        scope_node *node = node_of(list);
        ivf *lists = atomic_load_explicit(&node->lists, memory_order_relaxed);
        retirer r = retirer_of(index);
        if (lists) {
            const size_t before = count_lists(node);
            rp_ivf_hidden(lists, list, &index->shape, &r, was.slot);
            if (list->live)
                step_lists(index, node, lists, &r);
            atomic_fetch_sub_explicit(&index->list_figure, before - count_lists(node),
                                      memory_order_relaxed);
        }
        atomic_fetch_sub_explicit(&index->count, 1, memory_order_relaxed);
        if (list->live == 0)
            drop_node(index, node);
        else
            retire_item(index, (retired){ .list_number = was.list_number, .slot = was.slot });
    }
    unlock_writer(index);
    return present;
}

void
rp_index_hold_lists(rp_index *index, bool hold)
{
    lock_writer(index);
    assert(hold || index->holds);
    index->holds += hold ? 1 : -1u;
    unlock_writer(index);
}

/* Returns whether something was due. */
static bool
tend_scope(rp_index *index, scope_node *node)
{
    retirer r = retirer_of(index);
    ivf *lists = atomic_load_explicit(&node->lists, memory_order_relaxed);
    if (!lists)
        return begin_lists(index, node, &r);
    const size_t before = count_lists(node);
    const bool stepped = step_lists(index, node, lists, &r);
    atomic_fetch_add_explicit(&index->list_figure, count_lists(node) - before,
                              memory_order_relaxed); /* wraps if fewer, and back */
    return stepped;
}

bool
rp_index_tend(rp_index *index)
{
    /* A mutex is taken again at once by whoever has just let it go, so those who wait for it
     * would wait as long as there is work here. */
    for (int i = 0; i < TEND_POLITE && atomic_load_explicit(&index->waiting, memory_order_relaxed); i++)
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    pthread_mutex_lock(&index->writer);
    let_go_of_the_old(index);
    bool stepped = false;
    for (int i = 0; i < TEND_LOOK && !stepped && index->tended <= index->list_count; i++) {
        flat *list = index->tended ? index->lists[index->tended] : NULL;
        if (list && !((uintptr_t)list & 1)) /* a number in use */
            stepped = tend_scope(index, node_of(list));
        index->tended += !stepped;
    }
    const bool more = stepped || index->tended <= index->list_count;
    if (!more)
        index->tended = 0;
    unlock_writer(index);
    return more;
}

/* Searches of one scope that go through it together. */
typedef struct party {
    reader *readers[TOGETHER_MAX];
    rp_index_query *queries[TOGETHER_MAX];
    size_t count;
} party;

/* Look through a scope: near the queries only, or everywhere. */
static void
search_scope(rp_index *index, const scope_node *node, const party *p, bool everywhere)
{
    sift *sifts[TOGETHER_MAX];
    const ivf *lists = atomic_load_explicit(&node->lists, memory_order_acquire);
    const size_t live = atomic_load_explicit(&node->list.live, memory_order_relaxed);
    bool listed = lists && !everywhere;
    for (size_t i = 0; i < p->count; i++) {
        reader *r = p->readers[i];
        sifts[i] = &r->sift;
        memcpy(r->query, p->queries[i]->vector, index->shape.dim * sizeof *r->query);
        rp_sift_start(&r->sift, r->query, p->queries[i]->k);
        /* Lists that are not published at the first query may be at the second: what has begun
         * without them goes on without them. */
        listed = listed && rp_ivf_sift(lists, &r->sift, live);
        if (everywhere)
            rp_sift_all(&r->sift, &node->list);
    }
    if (!listed && !everywhere)
        rp_sift_list(sifts, p->count, &node->list);
    for (size_t i = 0; i < p->count; i++)
        p->queries[i]->found = rp_sift_finish(sifts[i], p->queries[i]->k, p->queries[i]->out);
}

static void
search_party(rp_index *index, const party *p, bool everywhere)
{
    const rp_scope *scope = &p->queries[0]->scope;
    stripe *s = stripe_of(index, scope);
    pthread_rwlock_rdlock(&s->lock);
    const scope_node *node = find_node(s, scope);
    pthread_rwlock_unlock(&s->lock);
    if (node)
        search_scope(index, node, p, everywhere);
    for (size_t i = 0; i < p->count; i++)
        end_search(p->readers[i]);
}

static size_t
search_one(rp_index *index, const rp_scope *scope, const float *query, size_t k, bool everywhere,
           rp_neighbor *out)
{
    rp_index_query asked = { .scope = *scope, .vector = query, .out = out,
                             .k = RP_MIN(k, (size_t)RP_INDEX_K_MAX) };
    if (asked.k == 0)
        return 0;
    const party alone = { { begin_search(index) }, { &asked }, 1 };
    search_party(index, &alone, everywhere);
    return asked.found;
}

size_t
rp_index_search(rp_index *index, rp_scope scope, const float *query, size_t k, rp_neighbor *out)
{
    return search_one(index, &scope, query, k, false, out);
}

size_t
rp_index_search_exact(rp_index *index, rp_scope scope, const float *query, size_t k,
                      rp_neighbor *out)
{
    return search_one(index, &scope, query, k, true, out);
}

static bool
same_scope(const rp_scope *a, const rp_scope *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void
rp_index_search_many(rp_index *index, rp_index_query *queries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        queries[i].k = RP_MIN(queries[i].k, (size_t)RP_INDEX_K_MAX);
        queries[i].found = queries[i].k ? NOT_SEARCHED : 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (queries[i].found != NOT_SEARCHED)
            continue;
        /* Wait for one reader only: two that each wait for a second could wait for ever. */
        party p = { { begin_search(index) }, { &queries[i] }, 1 };
        for (size_t j = i + 1; j < count && p.count < TOGETHER_MAX; j++) {
            if (queries[j].found != NOT_SEARCHED || !same_scope(&queries[i].scope, &queries[j].scope))
                continue;
            if (!(p.readers[p.count] = take_reader(index)))
                break;
            p.queries[p.count++] = &queries[j];
        }
        for (size_t j = 0; j < p.count; j++)
            p.queries[j]->found = 0;
        search_party(index, &p, false);
    }
}

size_t
rp_index_count(const rp_index *index)
{
    return atomic_load_explicit(&((rp_index *)index)->count, memory_order_relaxed);
}

size_t
rp_index_size_bytes(const rp_index *index)
{
    return atomic_load_explicit(&((rp_index *)index)->size_figure, memory_order_relaxed);
}

bool
rp_index_rotates(const rp_index *index)
{
    return atomic_load_explicit(&((rp_index *)index)->rotates, memory_order_relaxed);
}

size_t
rp_index_lists(const rp_index *index)
{
    return atomic_load_explicit(&((rp_index *)index)->list_figure, memory_order_relaxed);
}
