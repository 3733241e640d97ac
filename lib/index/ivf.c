/* ivf.c - inverted lists over the vectors of a large scope: see index_internal.h.
 *
 * The vectors stay in the slots of the flat list, so that lists can be made, split and
 * dropped without moving one. A list is an array of sign bits with the slot that each
 * belongs to. The writer makes lists beside the flat list, a part with every vector that
 * is added: first centroids (spherical k-means on a sample), then the lists, then it
 * publishes them with one store and drops the bits of the flat chunks, which nobody
 * reads any more. Searches go through the flat list until then.
 *
 * Lists that grow are split, empty ones dropped. When many have become small, or twice as many
 * vectors were added as were there when the centroids were trained, a successor is made
 * in the same way from what is there now, while searches go on through the old lists.
 *
 * Lists and the table of them are replaced, never moved; a search keeps the table it
 * began with. So no search meets a vector twice, or misses one that was there all along
 * in a list it looks at. */
#include "index/index_internal.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LIST_TARGET = 192,     /* vectors in a list when lists are made, up to */
    TARGET_LIVE = 100000,  /* so many vectors; lists then grow with the root of their number, for
                              training takes time by the square of the lists. A guess. */
    SPLIT_TIMES = 3,       /* as many vectors as a list should have are split; a guess */
    SAMPLES_PER_LIST = 64, /* that centroids are trained on */
    ROUNDS = 8,            /* of k-means; a guess */
    RUN = 64,              /* centroids compared in one call */
    SIEVED_MIN = 48,       /* lists from which on the nearest is looked for by signs first; a guess: with
                              fewer it gains nothing */
    SIEVED_FEW = 20,       /* centroids that signs should leave, and */
    SIEVED_MANY = 56,      /* at most; with 1,024 lists of MiniLM the nearest is among the 16 best by
                              signs for .992 of the vectors, among 32 for .996; measured */
    SIEVED_ROOM = 256,
    STEP_WORK = 32768,     /* centroids compared in training with one change: a guess: some 200 us */
    STEP_VECTORS = 16,     /* listed with one change, a guess; with many lists fewer, but */
    STEP_VECTORS_MIN = 4,
    EMPTY_SLOTS = 16,      /* passed over instead of listing one vector */
    LISTS_MANY = 4,        /* times as many lists as would be made now are merged; a guess */
    ADDED_MANY = 2,        /* times as many added as there were: train again; a guess */
    SPLIT_ROUNDS = 4,
    SPLIT_SHARE = 8,       /* each half has more than one in so many; a guess */
    PROBE_SHARE = 32,      /* a search looks at one in so many vectors at least: 64 misses .5 %
                              more of the near ones; bench search */
    FETCH_LINES = 24,      /* of signs of the list that is next, fetched ahead; measured: bench search */
    PROBE_MIN = 4096,      /* and at all if there are no more than this; a guess */
};

/* When a search stops; see may_hold_better. On 400 questions that bench search is not quoted
 * for .60 found .988 of the nearest, .65 and .70 .995, .75 and .80 all, each looking at a
 * third more vectors than the one before. */
#define REST_MAX 0.75f

typedef enum phase { PHASE_TRAIN, PHASE_LIST, PHASE_BARE, PHASE_READY } phase;

/* In one allocation: this, at 64 the first signs (capacity / 8, words_first, 8), the other
 * signs (capacity / 8, words - words_first, 8), then the slots. */
typedef struct inverted {
    uint32_t capacity;
    _Atomic uint32_t count; /* places 0..count-1 are published; pairs with readers' acquire */
    uint32_t dead;          /* places that are free again. Writer only. */
    uint32_t split_at;      /* live vectors that are too many. Writer only. */
    const center *center;   /* of the bits */
    _Atomic float likeness; /* of members and centroid on average; relaxed, an estimate */
    double likeness_sum;    /* of all that were ever put in. Writer only. */
    uint32_t put_count;
} inverted;

/* In one allocation with its arrays. Immutable but for the lists that replace others. */
typedef struct table {
    uint32_t count;
    size_t size_bytes;
    inverted *_Atomic *lists; /* (count), pairs with readers' acquire */
    float *scales;            /* (count) of the centroids' codes */
    int8_t *codes;            /* (count, dim_padded) */
    const center *center;     /* of the centroids' signs; those are the writer's */
    uint64_t *first, *rest;   /* as in a list */
    uint32_t near;            /* signs that a near centroid differs in less than. Writer only. */
} table;

struct ivf {
    table *_Atomic published;  /* NULL until all vectors are listed; pairs with acquire */
    const flat_extra *extra;   /* of the flat list; set before `published` */
    /* The rest is the writer's. */
    table *now;                /* the newest; NULL while training */
    list_probe *ranks;         /* (list_max), owned */
    uint32_t list_max, list_count;
    phase phase;
    uint32_t cursor, round;
    uint32_t slot_count, sample_count; /* when training began */
    uint32_t trained_live;     /* vectors then */
    uint32_t split_at;         /* live vectors of a list that are too many */
    uint64_t added;            /* since */
    ivf *successor;            /* owned; NULL: none is being made */
    table *trained;            /* centroids of this round; NULL after training */
    double *sums;              /* (list_count, dim), owned, the same */
    uint32_t *members;         /* (list_count) of a centroid in this round, owned, the same */
};

/* ---- lists -------------------------------------------------------------------- */

static uint64_t *
first_of(const inverted *list)
{
    return (uint64_t *)((char *)list + 64);
}

static uint64_t *
rest_of(const inverted *list, const shape *s)
{
    return first_of(list) + (size_t)list->capacity * s->words_first;
}

static _Atomic uint32_t *
slots_of(const inverted *list, const shape *s)
{
    return (_Atomic uint32_t *)(first_of(list) + (size_t)list->capacity * s->words);
}

static size_t
inverted_size(const shape *s, uint32_t capacity)
{
    return (64 + (size_t)capacity * (s->words * sizeof(uint64_t) + sizeof(uint32_t)) + 63) / 64 * 64;
}

/* Room for `count` and a sixteenth more, in whole blocks: lists are kept tight, because
 * room to grow would cost every vector's share of memory. */
static inverted *
make_inverted(const shape *s, uint32_t count, retirer *r)
{
    const uint32_t capacity = (count + count / 16 + RP_SCAN_GROUP) / RP_SCAN_GROUP * RP_SCAN_GROUP;
    const size_t size = inverted_size(s, capacity);
    inverted *made = aligned_alloc(64, size);
    if (!made)
        return NULL;
    memset(made, 0, size);
    made->capacity = capacity;
    made->split_at = UINT32_MAX; /* until it is known whose it will be */
    made->center = s->center;
    for (uint32_t i = 0; i < capacity; i++)
        atomic_init(&slots_of(made, s)[i], SLOT_NONE);
    *r->size_bytes += size;
    return made;
}

static void
retire_inverted(inverted *list, const shape *s, retirer *r)
{
    if (list)
        r->retire(r->context, list, inverted_size(s, list->capacity));
}

static uint32_t
count_of(const inverted *list)
{
    return atomic_load_explicit(&list->count, memory_order_relaxed);
}

static uint32_t
live_of(const inverted *list)
{
    return list ? count_of(list) - list->dead : 0;
}

static uint32_t
slot_at(const inverted *list, const shape *s, uint32_t place)
{
    return atomic_load_explicit(&slots_of(list, s)[place], memory_order_relaxed);
}

/* Put a vector where there is room: a free place, or the end. A search that has read the
 * old bits of a free place and then finds the new slot weighs one vector more. */
static void
put_into(inverted *list, const shape *s, uint32_t slot, const float *vector, float likeness)
{
    uint32_t place = count_of(list);
    for (uint32_t i = 0; list->dead && i < place; i++)
        if (slot_at(list, s, i) == SLOT_NONE) {
            place = i;
            list->dead--;
            break;
        }
    uint64_t words[RP_DIM_MAX / 64];
    rp_signs(s, list->center, vector, words);
    rp_write_signs(s, first_of(list), rest_of(list, s), place, words);
    list->likeness_sum += likeness;
    list->put_count++;
    atomic_store_explicit(&list->likeness, (float)(list->likeness_sum / list->put_count),
                          memory_order_relaxed);
    atomic_store_explicit(&slots_of(list, s)[place], slot, memory_order_release);
    if (place == count_of(list))
        atomic_store_explicit(&list->count, place + 1, memory_order_release);
}

static bool
has_room(const inverted *list)
{
    return list && (list->dead || count_of(list) < list->capacity);
}

/* ---- the table ---------------------------------------------------------------- */

static size_t
blocks_of(uint32_t count)
{
    return (count + RP_SCAN_GROUP - 1) / RP_SCAN_GROUP;
}

static table *
make_table(const shape *s, uint32_t count, retirer *r)
{
    const size_t signs_at = 128, signs_size = blocks_of(count) * RP_SCAN_GROUP * sizeof(uint64_t);
    const size_t rest_at = signs_at + signs_size * s->words_first;
    const size_t codes_at = rest_at + signs_size * (s->words - s->words_first);
    const size_t lists_at = (codes_at + count * s->dim_padded + 63) / 64 * 64;
    const size_t scales_at = lists_at + count * sizeof(inverted *);
    const size_t size = (scales_at + count * sizeof(float) + 63) / 64 * 64;
    char *memory = aligned_alloc(64, size);
    if (!memory)
        return NULL;
    memset(memory, 0, size);
    table *made = (table *)memory;
    *made = (table){ .count = count,
                     .size_bytes = size,
                     .lists = (inverted *_Atomic *)(memory + lists_at),
                     .scales = (float *)(memory + scales_at),
                     .codes = (int8_t *)(memory + codes_at),
                     .center = s->center,
                     .first = (uint64_t *)(memory + signs_at),
                     .rest = (uint64_t *)(memory + rest_at),
                     .near = (uint32_t)(s->dim * 2 / 5) };
    *r->size_bytes += size;
    return made;
}

static inverted *
list_at(const table *t, uint32_t number)
{
    return atomic_load_explicit(&t->lists[number], memory_order_relaxed);
}

static void
set_list(table *t, uint32_t number, inverted *list)
{
    atomic_store_explicit(&t->lists[number], list, memory_order_release);
}

static void
set_centroid(table *t, const shape *s, uint32_t number, const float *centroid)
{
    int8_t *codes = t->codes + number * s->dim_padded;
    uint64_t words[RP_DIM_MAX / 64];
    t->scales[number] = s->kernels->codes(centroid, s->dim, codes);
    memset(codes + s->dim, 0, s->dim_padded - s->dim);
    rp_signs(s, t->center, centroid, words);
    rp_write_signs(s, t->first, t->rest, number, words);
}

/* Signs of one row in the place of another's. */
static void
move_signs(table *t, const shape *s, uint32_t to, const table *from_table, uint32_t from)
{
    uint64_t words[RP_DIM_MAX / 64];
    rp_read_signs(s, from_table->first, from_table->rest, from, words);
    rp_write_signs(s, t->first, t->rest, to, words);
}

/* The first `count` rows of another table. */
static void
copy_rows(table *to, const table *from, const shape *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        set_list(to, i, list_at(from, i));
    memcpy(to->scales, from->scales, count * sizeof *to->scales);
    memcpy(to->codes, from->codes, count * s->dim_padded);
    const size_t words = blocks_of(count) * RP_SCAN_GROUP;
    memcpy(to->first, from->first, words * s->words_first * sizeof *to->first);
    memcpy(to->rest, from->rest, words * (s->words - s->words_first) * sizeof *to->rest);
    to->center = from->center;
    to->near = from->near;
}

static void
replace_table(ivf *lists, table *made, retirer *r)
{
    table *old = lists->now;
    lists->now = made;
    if (atomic_load_explicit(&lists->published, memory_order_relaxed))
        atomic_store_explicit(&lists->published, made, memory_order_release);
    r->retire(r->context, old, old->size_bytes);
}

/* A vector as codes, to compare with centroids. */
typedef struct asked {
    int8_t codes[RP_DIM_MAX + CODE_PAD];
    float scale;
} asked;

static void
ask(const shape *s, const float *vector, asked *out)
{
    out->scale = s->kernels->codes(vector, s->dim, out->codes);
    memset(out->codes + s->dim, 0, s->dim_padded - s->dim);
}

/* Likeness of the centroids from..from+RUN-1 into out; returns how many there are. */
static uint32_t
liken(const table *t, const shape *s, const asked *vector, uint32_t from, float out[RUN])
{
    int32_t dots[RUN];
    const uint32_t count = RP_MIN(t->count - from, (uint32_t)RUN);
    s->kernels->dots_of_codes(vector->codes, t->codes + from * s->dim_padded, count, s->dim_padded, dots);
    for (uint32_t i = 0; i < count; i++)
        out[i] = t->scales[from + i] * vector->scale * (float)dots[i];
    return count;
}

/* Centroids that are near by their signs, into out (SIEVED_ROOM). Returns how many; 0: too few or
 * too many to go by. How near is near is learned from one vector to the next. */
static size_t
sieve_centroids(table *t, const shape *s, const float *vector, rp_sieve_hit *out)
{
    uint64_t signs[RP_DIM_MAX / 64];
    size_t read = 0;
    rp_signs(s, t->center, vector, signs);
    const float share = (float)(s->words_first * 64) / (float)s->dim;
    const rp_sieve_query query = {
        .signs = signs, .words_first = s->words_first, .words_rest = s->words - s->words_first,
        .limit_first = (uint32_t)((float)t->near * RP_MIN(share, 1.0f) + 4 * s->first_margin) + 1,
        .limit = t->near,
    };
    size_t count = s->kernels->sieve(t->first, t->rest, blocks_of(t->count), &query, 0, out, SIEVED_ROOM, &read);
    if (count < SIEVED_FEW && t->near < s->dim)
        t->near++;
    else if (count > SIEVED_MANY && t->near > 1)
        t->near--;
    if (count < SIEVED_FEW || read < blocks_of(t->count))
        return 0;
    /* Behind the last row there are signs of nobody. */
    while (count && out[count - 1].slot >= t->count)
        count--;
    return count;
}

static uint32_t
nearest_list(table *t, const shape *s, const float *vector, float *similarity)
{
    asked codes;
    float found[RUN];
    rp_sieve_hit near[SIEVED_ROOM];
    uint32_t best = 0;
    *similarity = -INFINITY;
    ask(s, vector, &codes);
    const size_t near_count = t->count < SIEVED_MIN ? 0 : sieve_centroids(t, s, vector, near);
    for (size_t i = 0; i < near_count; i++) {
        int32_t dot;
        const uint32_t row = near[i].slot;
        s->kernels->dots_of_codes(codes.codes, t->codes + row * s->dim_padded, 1, s->dim_padded, &dot);
        const float likeness = t->scales[row] * codes.scale * (float)dot;
        if (likeness > *similarity) {
            *similarity = likeness;
            best = row;
        }
    }
    if (near_count)
        return best;
    for (uint32_t from = 0; from < t->count; from += RUN) {
        const uint32_t count = liken(t, s, &codes, from, found);
        for (uint32_t i = 0; i < count; i++)
            if (found[i] > *similarity) {
                *similarity = found[i];
                best = from + i;
            }
    }
    return best;
}

/* A heap of lists, the nearest on top. */
static void
sink(list_probe *heap, size_t count, size_t at)
{
    for (;;) {
        size_t top = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
            if (heap[child].similarity > heap[top].similarity)
                top = child;
        if (top == at)
            return;
        const list_probe swapped = heap[at];
        heap[at] = heap[top];
        heap[top] = swapped;
        at = top;
    }
}

static void
rank_lists(const table *t, const shape *s, const float *vector, list_probe *heap)
{
    asked codes;
    float found[RUN];
    ask(s, vector, &codes);
    for (uint32_t from = 0; from < t->count; from += RUN) {
        const uint32_t count = liken(t, s, &codes, from, found);
        for (uint32_t i = 0; i < count; i++)
            heap[from + i] = (list_probe){ found[i], from + i };
    }
    for (size_t i = t->count / 2; i-- > 0;)
        sink(heap, t->count, i);
}

/* Take the nearest off a heap of *count. */
static uint32_t
next_list(list_probe *heap, size_t *count)
{
    const uint32_t number = heap[0].number;
    heap[0] = heap[--*count];
    sink(heap, *count, 0);
    return number;
}

/* ---- splitting, dropping ------------------------------------------------------ */

/* A vector, padded; the slot may be hidden but not yet used again. */
static void
read_padded(const flat *flat_list, const shape *s, uint32_t slot, float *out)
{
    rp_flat_vector(flat_list, s, slot, out);
    memset(out + s->dim, 0, (s->dim_padded - s->dim) * sizeof *out);
}

static void
normalize(double *sums, size_t dim, float *out)
{
    double square = 0;
    for (size_t i = 0; i < dim; i++)
        square += sums[i] * sums[i];
    const double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)(sums[i] * scale);
}

typedef struct placed {
    float likeness;
    uint32_t place;
} placed;

static int
compare_placed(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->likeness != y->likeness)
        return x->likeness < y->likeness ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Two means of the listed vectors; sides[place] says whose each is. Returns how many
 * are on the second side. `order` has room for all. */
static uint32_t
part(const inverted *list, const flat *flat_list, const shape *s, float centroids[2][RP_DIM_MAX + CODE_PAD],
     placed *order, uint8_t *sides)
{
    float vector[RP_DIM_MAX + CODE_PAD];
    double sums[2][RP_DIM_MAX];
    const uint32_t count = count_of(list);
    uint32_t first = 0, second_count = 0, live = 0;
    while (slot_at(list, s, first) == SLOT_NONE)
        first++;
    read_padded(flat_list, s, slot_at(list, s, first), centroids[0]);
    for (uint32_t place = first; place < count; place++) {
        const uint32_t slot = slot_at(list, s, place);
        if (slot == SLOT_NONE)
            continue;
        read_padded(flat_list, s, slot, vector);
        order[live++] = (placed){ s->kernels->dot(vector, centroids[0], s->dim), place };
    }
    /* One that is far away, but not among the SPLIT_SHARE-th that are farthest: a few strays
     * would be a side of their own, too small for a list. */
    qsort(order, live, sizeof *order, compare_placed);
    read_padded(flat_list, s, slot_at(list, s, order[live / SPLIT_SHARE].place), centroids[1]);
    for (int round = 0; round < SPLIT_ROUNDS; round++) {
        memset(sums, 0, sizeof sums);
        second_count = 0;
        for (uint32_t place = first; place < count; place++) {
            const uint32_t slot = slot_at(list, s, place);
            if (slot == SLOT_NONE)
                continue;
            read_padded(flat_list, s, slot, vector);
            const bool second = s->kernels->dot(vector, centroids[1], s->dim) >
                                s->kernels->dot(vector, centroids[0], s->dim);
            sides[place] = second;
            second_count += second;
            for (size_t i = 0; i < s->dim; i++)
                sums[second][i] += vector[i];
        }
        for (int side = 0; side < 2; side++)
            normalize(sums[side], s->dim, centroids[side]);
    }
    return second_count;
}


/* Give the halves the rows `number` and the new last one. */
static bool
publish_halves(ivf *lists, const shape *s, retirer *r, uint32_t number, inverted *halves[2],
               float centroids[2][RP_DIM_MAX + CODE_PAD])
{
    const table *old = lists->now;
    table *made = make_table(s, old->count + 1, r);
    if (!made)
        return false;
    copy_rows(made, old, s, old->count);
    const uint32_t rows[2] = { number, old->count };
    for (int side = 0; side < 2; side++) {
        set_list(made, rows[side], halves[side]);
        set_centroid(made, s, rows[side], centroids[side]);
    }
    replace_table(lists, made, r);
    return true;
}

/* Bounded work: a list of split_at vectors, or one that has doubled since. */
static void
split(ivf *lists, const flat *flat_list, const shape *s, retirer *r, uint32_t number)
{
    inverted *old = list_at(lists->now, number);
    const uint32_t live = live_of(old);
    old->split_at = live * 2; /* if it does not come apart now */
    if (lists->now->count >= lists->list_max)
        return;
    uint8_t *sides = malloc(count_of(old));
    placed *order = malloc(live * sizeof *order);
    if (!sides || !order) {
        free(sides);
        free(order);
        return;
    }
    float centroids[2][RP_DIM_MAX + CODE_PAD] = { { 0 } }, vector[RP_DIM_MAX + CODE_PAD];
    const uint32_t second_count = part(old, flat_list, s, centroids, order, sides);
    inverted *halves[2] = { NULL, NULL };
    if (second_count > live / SPLIT_SHARE && second_count < live - live / SPLIT_SHARE) {
        halves[0] = make_inverted(s, live - second_count, r);
        halves[1] = make_inverted(s, second_count, r);
    }
    bool done = halves[0] && halves[1];
    for (int side = 0; done && side < 2; side++)
        halves[side]->split_at = lists->split_at;
    for (uint32_t place = 0; done && place < count_of(old); place++) {
        const uint32_t slot = slot_at(old, s, place);
        if (slot == SLOT_NONE)
            continue;
        read_padded(flat_list, s, slot, vector);
        put_into(halves[sides[place]], s, slot, vector,
                 s->kernels->dot(vector, centroids[sides[place]], s->dim));
    }
    done = done && publish_halves(lists, s, r, number, halves, centroids);
    free(sides);
    free(order);
    if (done) {
        retire_inverted(old, s, r);
        return;
    }
    retire_inverted(halves[0], s, r);
    retire_inverted(halves[1], s, r);
}

/* Take an empty list out; the last one gets its row. */
static void
drop_list(ivf *lists, const shape *s, retirer *r, uint32_t number)
{
    const table *old = lists->now;
    table *made = old->count > 1 ? make_table(s, old->count - 1, r) : NULL;
    if (!made)
        return; /* an empty list costs only its look-up */
    inverted *gone = list_at(old, number);
    const uint32_t last = old->count - 1;
    copy_rows(made, old, s, last);
    if (number != last) {
        set_list(made, number, list_at(old, last));
        made->scales[number] = old->scales[last];
        memcpy(made->codes + number * s->dim_padded, old->codes + last * s->dim_padded, s->dim_padded);
        move_signs(made, s, number, old, last);
    }
    replace_table(lists, made, r);
    retire_inverted(gone, s, r);
}

/* ---- training ----------------------------------------------------------------- */

static uint32_t
sample_slot(const ivf *lists, uint32_t number)
{
    return (uint32_t)((uint64_t)number * lists->slot_count / lists->sample_count);
}

/* The slot itself, or the next one with a vector that was not removed. */
static uint32_t
live_slot(const flat *flat_list, const shape *s, uint32_t slot, uint32_t slot_count)
{
    for (uint32_t i = 0; i < slot_count; i++) {
        const uint32_t at = (uint32_t)(((uint64_t)slot + i) % slot_count);
        if (rp_flat_id(flat_list, s, at))
            return at;
    }
    return slot; /* all were removed: any start will do */
}

static void
free_training(ivf *lists, const shape *s, retirer *r)
{
    if (!lists->trained)
        return;
    *r->size_bytes -= lists->trained->size_bytes +
                      lists->list_count * (s->dim * sizeof(double) + sizeof(uint32_t));
    free(lists->trained);
    free(lists->sums);
    free(lists->members);
    lists->trained = NULL;
    lists->sums = NULL;
    lists->members = NULL;
}

/* Add one sample to the sum of the centroid it is nearest to. */
static void
train_on(ivf *lists, const flat *flat_list, const shape *s, uint32_t slot)
{
    float vector[RP_DIM_MAX], likeness;
    rp_flat_vector(flat_list, s, live_slot(flat_list, s, slot, lists->slot_count), vector);
    const uint32_t best = nearest_list(lists->trained, s, vector, &likeness);
    lists->members[best]++;
    double *sums = lists->sums + (size_t)best * s->dim;
    for (size_t i = 0; i < s->dim; i++)
        sums[i] += vector[i];
}

/* Where centroid `number` begins: a different vector each time it is asked. */
static uint32_t
start_slot(const ivf *lists, const flat *flat_list, const shape *s, uint32_t number, uint32_t time)
{
    const uint64_t each = lists->sample_count / lists->list_count;
    const uint32_t sample = (uint32_t)((number * each + time) % lists->sample_count);
    return live_slot(flat_list, s, sample_slot(lists, sample), lists->slot_count);
}

/* New centroids; one that has no members begins anew at some sample. */
static void
end_round(ivf *lists, const flat *flat_list, const shape *s)
{
    float centroid[RP_DIM_MAX];
    for (uint32_t i = 0; i < lists->list_count; i++) {
        if (lists->members[i])
            normalize(lists->sums + (size_t)i * s->dim, s->dim, centroid);
        else
            rp_flat_vector(flat_list, s, start_slot(lists, flat_list, s, i, lists->round + 1), centroid);
        set_centroid(lists->trained, s, i, centroid);
    }
    memset(lists->sums, 0, lists->list_count * s->dim * sizeof *lists->sums);
    memset(lists->members, 0, lists->list_count * sizeof *lists->members);
    lists->cursor = 0;
    lists->round++;
}

/* False: there is no memory for what is next. */
static bool
train(ivf *lists, const flat *flat_list, const shape *s, retirer *r)
{
    const uint32_t step = STEP_WORK / lists->list_count + 1;
    for (uint32_t i = 0; i < step && lists->cursor < lists->sample_count; i++)
        train_on(lists, flat_list, s, sample_slot(lists, lists->cursor++));
    if (lists->cursor < lists->sample_count)
        return true;
    if (lists->round < ROUNDS) {
        end_round(lists, flat_list, s);
        return true;
    }
    /* The round after the last one has only counted: another step would improve little. */
    if (!(lists->now = make_table(s, lists->list_count, r)))
        return false; /* again with the next vector */
    copy_rows(lists->now, lists->trained, s, lists->list_count);
    free_training(lists, s, r);
    lists->cursor = 0;
    lists->phase = PHASE_LIST;
    return true;
}

/* ---- the writer's side -------------------------------------------------------- */

size_t
rp_ivf_list_max(size_t count_max, size_t lists_from)
{
    return count_max < lists_from ? 0 : count_max / (LIST_TARGET / 2) + 2;
}

/* Lists that so many vectors should have. */
static uint32_t
lists_wanted(uint32_t live)
{
    const double growth = live > TARGET_LIVE ? sqrt((double)TARGET_LIVE / live) : 1;
    return (uint32_t)(live * growth / LIST_TARGET) + 1;
}

ivf *
rp_ivf_new(const flat *list, const shape *s, retirer *r, size_t list_max)
{
    ivf *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->list_max = (uint32_t)list_max;
    made->slot_count = rp_flat_slots(list);
    made->trained_live = atomic_load_explicit(&list->live, memory_order_relaxed);
    made->list_count = RP_MIN((uint32_t)list_max, lists_wanted(made->trained_live));
    made->split_at = SPLIT_TIMES * RP_MAX((uint32_t)LIST_TARGET, made->trained_live / made->list_count);
    made->sample_count = RP_MIN(made->list_count * SAMPLES_PER_LIST, made->slot_count);
    made->trained = make_table(s, made->list_count, r);
    made->sums = calloc(made->list_count, s->dim * sizeof *made->sums);
    made->members = calloc(made->list_count, sizeof *made->members);
    made->ranks = calloc(list_max, sizeof *made->ranks);
    if (!made->trained || !made->sums || !made->members || !made->ranks) {
        if (made->trained)
            *r->size_bytes -= made->trained->size_bytes;
        free(made->trained);
        free(made->sums);
        free(made->members);
        free(made->ranks);
        free(made);
        return NULL;
    }
    *r->size_bytes += sizeof *made + list_max * sizeof *made->ranks +
                      made->list_count * (s->dim * sizeof(double) + sizeof(uint32_t));
    float start[RP_DIM_MAX];
    for (uint32_t i = 0; i < made->list_count; i++) {
        rp_flat_vector(list, s, start_slot(made, list, s, i, 0), start);
        set_centroid(made->trained, s, i, start);
    }
    return made;
}

/* Make room in a list by a larger copy of it. */
static bool
grow_list(ivf *lists, const shape *s, retirer *r, uint32_t number)
{
    inverted *old = list_at(lists->now, number);
    inverted *made = make_inverted(s, old ? count_of(old) : 0, r);
    if (!made)
        return false;
    made->split_at = lists->split_at;
    if (old) {
        const uint32_t count = count_of(old);
        made->center = old->center;
        made->split_at = old->split_at;
        made->likeness_sum = old->likeness_sum;
        made->put_count = old->put_count;
        atomic_store_explicit(&made->likeness, atomic_load_explicit(&old->likeness, memory_order_relaxed),
                              memory_order_relaxed);
        memcpy(first_of(made), first_of(old),
               (size_t)old->capacity * s->words_first * sizeof(uint64_t));
        memcpy(rest_of(made, s), rest_of(old, s),
               (size_t)old->capacity * (s->words - s->words_first) * sizeof(uint64_t));
        for (uint32_t i = 0; i < count; i++)
            atomic_store_explicit(&slots_of(made, s)[i], slot_at(old, s, i), memory_order_relaxed);
        atomic_store_explicit(&made->count, count, memory_order_relaxed);
    }
    set_list(lists->now, number, made);
    retire_inverted(old, s, r);
    return true;
}

/* Put a vector into the list it is nearest to; returns its number or -1. */
static int64_t
put_nearest(ivf *lists, const shape *s, retirer *r, uint32_t slot, const float *vector_padded)
{
    float similarity;
    const uint32_t number = nearest_list(lists->now, s, vector_padded, &similarity);
    if (!has_room(list_at(lists->now, number)) && !grow_list(lists, s, r, number))
        return -1;
    put_into(list_at(lists->now, number), s, slot, vector_padded, similarity);
    return number;
}

static bool
put_added(ivf *lists, const flat *flat_list, const shape *s, retirer *r, uint32_t slot,
             const float *vector)
{
    /* What lies before the cursor must be listed; what lies behind it will be. */
    if (lists->phase == PHASE_TRAIN || (lists->phase == PHASE_LIST && slot >= lists->cursor))
        return true;
    float padded[RP_DIM_MAX + CODE_PAD];
    memcpy(padded, vector, s->dim * sizeof *padded);
    memset(padded + s->dim, 0, (s->dim_padded - s->dim) * sizeof *padded);
    const int64_t number = put_nearest(lists, s, r, slot, padded);
    if (number < 0)
        return false;
    const inverted *list = list_at(lists->now, (uint32_t)number);
    if (live_of(list) > list->split_at)
        split(lists, flat_list, s, r, (uint32_t)number);
    return true;
}

static void
give_up_successor(ivf *lists, const shape *s, retirer *r)
{
    rp_ivf_clear(lists->successor, s, r);
    lists->successor = NULL;
}

bool
rp_ivf_added(ivf *lists, const flat *flat_list, const shape *s, retirer *r, uint32_t slot,
             const float *vector)
{
    if (!put_added(lists, flat_list, s, r, slot, vector))
        return false;
    lists->added++;
    if (lists->successor && !put_added(lists->successor, flat_list, s, r, slot, vector))
        give_up_successor(lists, s, r); /* it is only an improvement */
    return true;
}

/* Where a list keeps a slot, or SLOT_NONE. */
static uint32_t
place_in(const inverted *list, const shape *s, uint32_t slot)
{
    for (uint32_t place = 0; list && place < count_of(list); place++)
        if (slot_at(list, s, place) == slot)
            return place;
    return SLOT_NONE;
}

static void
take_hidden(ivf *lists, const flat *flat_list, const shape *s, retirer *r, uint32_t slot)
{
    if (lists->phase == PHASE_TRAIN || (lists->phase == PHASE_LIST && slot >= lists->cursor))
        return;
    /* Splits leave a few vectors in lists that are no longer the nearest, hence the ranks. */
    float vector[RP_DIM_MAX + CODE_PAD];
    read_padded(flat_list, s, slot, vector);
    rank_lists(lists->now, s, vector, lists->ranks);
    for (size_t left = lists->now->count; left;) {
        const uint32_t number = next_list(lists->ranks, &left);
        inverted *list = list_at(lists->now, number);
        const uint32_t place = place_in(list, s, slot);
        if (place == SLOT_NONE)
            continue;
        atomic_store_explicit(&slots_of(list, s)[place], SLOT_NONE, memory_order_release);
        list->dead++;
        if (live_of(list) == 0)
            drop_list(lists, s, r, number);
        return;
    }
}

void
rp_ivf_hidden(ivf *lists, const flat *flat_list, const shape *s, retirer *r, uint32_t slot)
{
    take_hidden(lists, flat_list, s, r, slot);
    if (lists->successor)
        take_hidden(lists->successor, flat_list, s, r, slot);
}

/* List what was there before the lists; at the end they can be searched. False: no memory. */
static bool
list_some(ivf *lists, const flat *flat_list, const shape *s, retirer *r)
{
    float vector[RP_DIM_MAX + CODE_PAD];
    const uint32_t slot_count = rp_flat_slots(flat_list);
    const uint32_t some = RP_MIN((uint32_t)STEP_VECTORS,
                                 RP_MAX((uint32_t)STEP_VECTORS_MIN, STEP_WORK / lists->now->count));
    for (uint32_t work = 0; work < some * EMPTY_SLOTS && lists->cursor < slot_count; work++) {
        const uint32_t slot = lists->cursor;
        if (rp_flat_id(flat_list, s, slot)) {
            work += EMPTY_SLOTS - 1;
            read_padded(flat_list, s, slot, vector);
            const int64_t number = put_nearest(lists, s, r, slot, vector);
            if (number < 0)
                return false; /* again with the next vector */
            const inverted *list = list_at(lists->now, (uint32_t)number);
            if (live_of(list) > list->split_at)
                split(lists, flat_list, s, r, (uint32_t)number);
        }
        lists->cursor++;
    }
    if (lists->cursor < slot_count)
        return true;
    lists->extra = flat_list->extra;
    atomic_store_explicit(&lists->published, lists->now, memory_order_release);
    lists->cursor = 0;
    lists->phase = PHASE_BARE;
    return true;
}

static bool
step(ivf *lists, flat *flat_list, const shape *s, retirer *r)
{
    switch (lists->phase) {
    case PHASE_TRAIN: return train(lists, flat_list, s, r);
    case PHASE_LIST: return list_some(lists, flat_list, s, r);
    case PHASE_BARE:
        if (!rp_flat_bare(flat_list, s, r, lists->cursor++))
            lists->phase = PHASE_READY;
        return true;
    default: return false;
    }
}

/* Whether lists made from what is there now would be much better. */
static bool
is_outdated(const ivf *lists, const flat *flat_list)
{
    const uint32_t live = atomic_load_explicit(&flat_list->live, memory_order_relaxed);
    return lists->phase == PHASE_READY &&
           (lists->added / ADDED_MANY > lists->trained_live ||
            lists->now->count / LISTS_MANY > lists_wanted(live));
}

bool
rp_ivf_step(ivf *lists, flat *flat_list, const shape *s, retirer *r)
{
    if (!lists->successor && is_outdated(lists, flat_list))
        lists->successor = rp_ivf_new(flat_list, s, r, lists->list_max); /* or at the next change */
    return step(lists->successor ? lists->successor : lists, flat_list, s, r);
}

ivf *
rp_ivf_successor(ivf *lists)
{
    ivf *made = lists->successor;
    if (!made || made->phase < PHASE_BARE)
        return NULL;
    lists->successor = NULL;
    return made;
}

size_t
rp_ivf_count(const ivf *lists)
{
    const table *t = atomic_load_explicit(&lists->published, memory_order_relaxed);
    return t ? t->count : 0;
}

void
rp_ivf_clear(ivf *lists, const shape *s, retirer *r)
{
    if (lists->successor)
        give_up_successor(lists, s, r);
    free_training(lists, s, r);
    for (uint32_t i = 0; lists->now && i < lists->now->count; i++)
        retire_inverted(list_at(lists->now, i), s, r);
    if (lists->now)
        r->retire(r->context, lists->now, lists->now->size_bytes);
    r->retire(r->context, lists->ranks, lists->list_max * sizeof *lists->ranks);
    r->retire(r->context, lists, sizeof *lists);
}

/* ---- the reader's side -------------------------------------------------------- */

/* Whether a member of a list may be better than the k-th best so far. With a centroid c,
 * query.member = (query.c)(member.c) + the product of what both have beside c, and the
 * cosine between those rests is hardly ever above REST_MAX. */
static bool
may_hold_better(const sift *f, const inverted *list, float similarity)
{
    const float inside = atomic_load_explicit(&list->likeness, memory_order_relaxed);
    const float rests = (1 - similarity * similarity) * (1 - inside * inside);
    const float needed = f->tops[0] - similarity * inside;
    return needed <= 0 || (rests > 0 && needed * needed <= REST_MAX * REST_MAX * rests);
}

/* Have the head of the list that will be next at hand: they lie all over the memory. The processor
 * follows the rest by itself. */
static void
fetch_list(const table *t, uint32_t number)
{
    const inverted *list = atomic_load_explicit(&t->lists[number], memory_order_relaxed);
    if (!list)
        return;
    __builtin_prefetch(list);
    for (size_t line = 0; line < FETCH_LINES; line++)
        __builtin_prefetch((const char *)first_of(list) + 64 * line);
}

bool
rp_ivf_sift(const ivf *lists, sift *f, size_t live)
{
    const table *t = atomic_load_explicit(&lists->published, memory_order_acquire);
    if (!t)
        return false;
    const shape *s = f->shape;
    const size_t least = live <= PROBE_MIN ? SIZE_MAX : live / PROBE_SHARE;
    rank_lists(t, s, f->query, f->probes);
    size_t seen = 0;
    for (size_t left = t->count; left;) {
        const float similarity = f->probes[0].similarity;
        const uint32_t number = next_list(f->probes, &left);
        const inverted *list = atomic_load_explicit(&t->lists[number], memory_order_acquire);
        if (left)
            fetch_list(t, f->probes[0].number);
        if (!list)
            continue;
        if (seen >= least && f->top_count == f->k && !may_hold_better(f, list, similarity))
            break;
        const uint32_t count = atomic_load_explicit(&list->count, memory_order_acquire);
        rp_sift_bits(f, &(sign_bits){ .center = list->center, .first = first_of(list),
                                      .rest = rest_of(list, s), .slots = slots_of(list, s),
                                      .extra = lists->extra }, count, 0);
        seen += count;
    }
    return true;
}
