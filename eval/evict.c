/* evict.c - see evict.h. One node a place; what a kind adds lies beside it.
 *
 * fifo, lru, lfu and spherelfu keep a heap of (value, tick): the least goes. cost and scu
 * score everybody when the cache is 95 % full and take a tenth. w-tinylfu keeps three
 * lists, s3fifo the store's own queues. */
#include "eval/evict.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "store/s3fifo.h"

#include <math.h>
#include <stdlib.h>

enum {
    SKETCH_ROWS = 4,
    SKETCH_MAX = 15,     /* TinyLFU: four bits */
    SKETCH_SAMPLE = 10,  /* TinyLFU and Caffeine: halve after 10 requests an entry */
    WINDOW_PERCENT = 1,  /* W-TinyLFU, section 4 */
    PROTECTED_PERCENT = 80, /* Caffeine; the paper's SLRU */
    S3_SIZE = 100,       /* of one entry: the store's shares are percents of bytes */
};

/* SphereLFU. The radius is the largest of the paper's (L2 distance .75 of unit vectors);
 * the other three are guesses, for the paper's own were not found. */
static const double SPHERE_DISTANCE = 0.75, SPHERE_STEEPNESS = 4, SPHERE_REST = 0.1,
                    SPHERE_HALF_LIFE = 10; /* in requests for each entry of capacity */

typedef struct node {
    double value;    /* of the heap; spherelfu: credit, grown with time */
    uint64_t used, tick; /* last use; order among equals */
    uint64_t hash;
    double cost, threshold;
    uint32_t labels;
    uint32_t at;     /* in the heap + 1; for lists: which list; 0: out */
    uint32_t newer, older;
} node;

typedef struct list {
    uint32_t head, tail, count;
} list;

enum { LIST_WINDOW, LIST_PROBATION, LIST_PROTECTED, LISTS };

typedef struct scored_place {
    double score;
    uint64_t used;
    uint32_t place;
} scored_place;

struct rp_evict {
    rp_evict_kind kind;
    size_t capacity, places_max, count;
    node *nodes;      /* (places_max + 1); owned */
    uint64_t tick;
    uint32_t newest;  /* inserted last */
    uint32_t *heap;   /* (places_max); owned; also the list of members of cost and scu */
    double grown;     /* spherelfu: credit given now, relative to the start */
    double growth;
    double rest;      /* of the unit of the last request, for its own entry */
    scored_place *batch; /* cost, scu; owned; sorted, the worst last */
    size_t batch_count;
    list lists[LISTS];
    uint8_t *sketch;  /* (SKETCH_ROWS, sketch_width); owned */
    size_t sketch_width;
    uint64_t sketch_adds;
    rp_s3fifo fifo;
    bool has_fifo;
};

static const char *const names[RP_EVICT_KINDS] = {
    "fifo", "lru", "lfu", "w-tinylfu", "s3fifo", "spherelfu", "cost", "scu",
};

const char *
rp_evict_name(rp_evict_kind kind)
{
    return kind < RP_EVICT_KINDS ? names[kind] : "none";
}

bool
rp_evict_kind_of(rp_str name, rp_evict_kind *out)
{
    for (int i = 0; i < RP_EVICT_KINDS; i++)
        if (rp_str_equal(name, rp_str_of(names[i]))) {
            *out = (rp_evict_kind)i;
            return true;
        }
    return false;
}

static bool
has_batches(const rp_evict *e)
{
    return e->kind == RP_EVICT_COST || e->kind == RP_EVICT_SCU;
}

rp_status
rp_evict_new(rp_evict_kind kind, size_t capacity, size_t places_max, rp_evict **out)
{
    if (kind >= RP_EVICT_KINDS || capacity == 0 || places_max >= UINT32_MAX)
        return RP_ERR_INVALID;
    rp_evict *e = calloc(1, sizeof *e);
    if (!e)
        return RP_ERR_NOMEM;
    *e = (rp_evict){ .kind = kind, .capacity = capacity, .places_max = places_max, .grown = 1 };
    e->growth = pow(2, 1 / (SPHERE_HALF_LIFE * (double)capacity));
    e->nodes = calloc(places_max + 1, sizeof *e->nodes);
    e->heap = calloc(places_max + 1, sizeof *e->heap);
    bool good = e->nodes && e->heap;
    if (has_batches(e))
        good = (e->batch = calloc(places_max + 1, sizeof *e->batch)) && good;
    if (kind == RP_EVICT_W_TINYLFU) {
        for (e->sketch_width = 64; e->sketch_width < 4 * capacity && e->sketch_width < 1u << 24;)
            e->sketch_width *= 2;
        good = (e->sketch = calloc(SKETCH_ROWS * e->sketch_width, 1)) && good;
    }
    if (kind == RP_EVICT_S3FIFO) {
        e->has_fifo = rp_s3fifo_init(&e->fifo, (uint64_t)capacity * S3_SIZE, places_max);
        good = e->has_fifo && rp_s3fifo_reserve(&e->fifo, places_max) && good;
    }
    if (!good) {
        rp_evict_free(e);
        return RP_ERR_NOMEM;
    }
    *out = e;
    return RP_OK;
}

void
rp_evict_free(rp_evict *evict)
{
    if (!evict)
        return;
    if (evict->has_fifo)
        rp_s3fifo_fini(&evict->fifo);
    free(evict->nodes);
    free(evict->heap);
    free(evict->batch);
    free(evict->sketch);
    free(evict);
}

size_t
rp_evict_count(const rp_evict *evict)
{
    return evict->count;
}

static bool
is_in(const rp_evict *e, uint32_t place)
{
    return place && place <= e->places_max && e->nodes[place].at;
}

/* ---- a heap, the least on top ------------------------------------------------------------- */

static bool
goes_before(const rp_evict *e, uint32_t a, uint32_t b)
{
    const node *x = &e->nodes[a], *y = &e->nodes[b];
    return x->value < y->value || (x->value == y->value && x->tick < y->tick);
}

static void
put_at(rp_evict *e, size_t at, uint32_t place)
{
    e->heap[at] = place;
    e->nodes[place].at = (uint32_t)at + 1;
}

static void
sift_up(rp_evict *e, size_t at)
{
    const uint32_t place = e->heap[at];
    for (; at > 0 && goes_before(e, place, e->heap[(at - 1) / 2]); at = (at - 1) / 2)
        put_at(e, at, e->heap[(at - 1) / 2]);
    put_at(e, at, place);
}

static void
sift_down(rp_evict *e, size_t at)
{
    const uint32_t place = e->heap[at];
    for (size_t child; (child = 2 * at + 1) < e->count; at = child) {
        if (child + 1 < e->count && goes_before(e, e->heap[child + 1], e->heap[child]))
            child++;
        if (!goes_before(e, e->heap[child], place))
            break;
        put_at(e, at, e->heap[child]);
    }
    put_at(e, at, place);
}

static void
heap_update(rp_evict *e, uint32_t place)
{
    sift_up(e, e->nodes[place].at - 1);
    sift_down(e, e->nodes[place].at - 1);
}

static void
heap_remove(rp_evict *e, uint32_t place)
{
    const size_t at = e->nodes[place].at - 1;
    const uint32_t last = e->heap[--e->count];
    e->nodes[place].at = 0;
    if (last == place)
        return;
    put_at(e, at, last);
    heap_update(e, last);
}

/* The least, but not the newcomer: it has had no chance yet. */
static uint32_t
heap_choose(rp_evict *e)
{
    uint32_t place = e->heap[0];
    if (place == e->newest && e->count > 1)
        place = e->count > 2 && goes_before(e, e->heap[2], e->heap[1]) ? e->heap[2] : e->heap[1];
    heap_remove(e, place);
    return place;
}

/* ---- spherelfu ------------------------------------------------------------------------------ */

/* Credit loses half its worth in SPHERE_HALF_LIFE * capacity requests: instead of making all
 * of it less, what is given grows. Before that leaves the range of a double, all shrinks. */
static void
grow(rp_evict *e)
{
    e->grown *= e->growth;
    if (e->grown < 1e200)
        return;
    for (size_t i = 0; i < e->count; i++)
        e->nodes[e->heap[i]].value /= e->grown;
    e->grown = 1;
}

/* arXiv:2603.03301: share_i = c_i exp(-k d_i^2) / (sum_j c_j exp(-k d_j^2) + alpha); what
 * alpha keeps is what the request's own entry begins with. */
void
rp_evict_spread(rp_evict *evict, const rp_evict_near *near, size_t count)
{
    if (evict->kind != RP_EVICT_SPHERELFU)
        return;
    grow(evict);
    double weights[RP_CANDIDATES_MAX] = { 0 }, sum = SPHERE_REST * evict->grown;
    count = RP_MIN(count, (size_t)RP_CANDIDATES_MAX);
    for (size_t i = 0; i < count; i++) {
        /* d^2 = 2 - 2 cos for unit vectors. */
        const double square = fmax(0, 2 - 2 * (double)near[i].similarity);
        if (!is_in(evict, near[i].place) || !(square <= SPHERE_DISTANCE * SPHERE_DISTANCE))
            continue;
        weights[i] = evict->nodes[near[i].place].value * exp(-SPHERE_STEEPNESS * square);
        sum += weights[i];
    }
    for (size_t i = 0; i < count; i++) {
        if (weights[i] <= 0)
            continue;
        evict->nodes[near[i].place].value += evict->grown * weights[i] / sum;
        heap_update(evict, near[i].place);
    }
    evict->rest = SPHERE_REST * evict->grown / sum;
}

/* ---- cost and scu: everybody is scored, a tenth goes ------------------------------------------ */

/* P = (1 - w) stale + w (1 - cost), both between their least and largest, w = 1/2; the
 * largest goes (algorithms 1: "cost-aware"). A range of zero counts as 0. */
static void
score_by_cost(const rp_evict *e, scored_place *out)
{
    double cost_min = INFINITY, cost_max = -INFINITY;
    uint64_t used_min = UINT64_MAX, used_max = 0;
    for (size_t i = 0; i < e->count; i++) {
        const node *at = &e->nodes[e->heap[i]];
        cost_min = fmin(cost_min, at->cost);
        cost_max = fmax(cost_max, at->cost);
        used_min = RP_MIN(used_min, at->used);
        used_max = RP_MAX(used_max, at->used);
    }
    for (size_t i = 0; i < e->count; i++) {
        const node *at = &e->nodes[e->heap[i]];
        const double stale = used_max > used_min ? (double)(used_max - at->used)
                                                       / (double)(used_max - used_min)
                                                 : 0;
        const double cost = cost_max > cost_min ? (at->cost - cost_min) / (cost_max - cost_min) : 0;
        out[i] = (scored_place){ 0.5 * stale + 0.5 * (1 - cost), at->used, e->heap[i] };
    }
}

/* D = sqrt(t^2 + (labels / most labels - 1)^2); the largest goes, and before it whoever was
 * never labelled; if nobody was, the one unused for longest. */
static void
score_by_certainty(const rp_evict *e, scored_place *out)
{
    uint32_t most = 0;
    for (size_t i = 0; i < e->count; i++)
        most = RP_MAX(most, e->nodes[e->heap[i]].labels);
    for (size_t i = 0; i < e->count; i++) {
        const node *at = &e->nodes[e->heap[i]];
        const double few = most ? (double)at->labels / most - 1 : 0;
        out[i] = (scored_place){ at->labels ? hypot(at->threshold, few) : INFINITY, at->used,
                                 e->heap[i] };
    }
}

static int
worst_last(const void *a, const void *b)
{
    const scored_place *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    /* Equal: the one unused for longest goes first, so it comes last. */
    return x->used > y->used ? -1 : x->used < y->used;
}

static void
fill_batch(rp_evict *e)
{
    const size_t mark = RP_MAX((size_t)((double)e->capacity * 0.95), (size_t)1);
    if (e->batch_count || e->count < mark || e->count <= 1)
        return;
    if (e->kind == RP_EVICT_COST)
        score_by_cost(e, e->batch);
    else
        score_by_certainty(e, e->batch);
    qsort(e->batch, e->count, sizeof *e->batch, worst_last);
    const size_t wanted = RP_MAX(e->capacity / 10, (size_t)1);
    e->batch_count = RP_MIN(wanted, e->count);
    memmove(e->batch, e->batch + (e->count - e->batch_count), e->batch_count * sizeof *e->batch);
}

static uint32_t
batch_choose(rp_evict *e)
{
    while (e->batch_count) {
        const uint32_t place = e->batch[--e->batch_count].place;
        if (!is_in(e, place))
            continue; /* gone meanwhile for another reason */
        heap_remove(e, place);
        return place;
    }
    return 0;
}

/* ---- w-tinylfu ---------------------------------------------------------------------------------- */

static uint8_t *
sketch_cell(const rp_evict *e, uint64_t hash, int row)
{
    static const uint64_t odd[SKETCH_ROWS] = { 0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u,
                                               0x94d049bb133111ebu, 0xd6e8feb86659fd93u };
    const uint64_t mixed = hash * odd[row];
    return &e->sketch[(size_t)row * e->sketch_width + ((mixed >> 32) & (e->sketch_width - 1))];
}

static void
sketch_add(rp_evict *e, uint64_t hash)
{
    for (int row = 0; row < SKETCH_ROWS; row++) {
        uint8_t *cell = sketch_cell(e, hash, row);
        *cell += *cell < SKETCH_MAX;
    }
    if (++e->sketch_adds < (uint64_t)SKETCH_SAMPLE * e->capacity)
        return;
    for (size_t i = 0; i < SKETCH_ROWS * e->sketch_width; i++)
        e->sketch[i] /= 2;
    e->sketch_adds /= 2;
}

static unsigned
sketch_count(const rp_evict *e, uint64_t hash)
{
    unsigned least = SKETCH_MAX;
    for (int row = 0; row < SKETCH_ROWS; row++)
        least = RP_MIN(least, (unsigned)*sketch_cell(e, hash, row));
    return least;
}

static void
push(rp_evict *e, int which, uint32_t place)
{
    list *to = &e->lists[which];
    node *at = &e->nodes[place];
    at->newer = 0;
    at->older = to->head;
    at->at = (uint32_t)which + 1;
    if (to->head)
        e->nodes[to->head].newer = place;
    else
        to->tail = place;
    to->head = place;
    to->count++;
    e->count++;
}

static void
unlink_place(rp_evict *e, uint32_t place)
{
    node *at = &e->nodes[place];
    list *from = &e->lists[at->at - 1];
    if (at->newer)
        e->nodes[at->newer].older = at->older;
    else
        from->head = at->older;
    if (at->older)
        e->nodes[at->older].newer = at->newer;
    else
        from->tail = at->newer;
    from->count--;
    e->count--;
    at->at = 0;
}

static void
tiny_touch(rp_evict *e, uint32_t place)
{
    const size_t main = e->capacity - RP_MAX(e->capacity * WINDOW_PERCENT / 100, (size_t)1);
    const int from = (int)e->nodes[place].at - 1;
    sketch_add(e, e->nodes[place].hash);
    unlink_place(e, place);
    push(e, from == LIST_WINDOW ? LIST_WINDOW : LIST_PROTECTED, place);
    if (e->lists[LIST_PROTECTED].count <= main * PROTECTED_PERCENT / 100)
        return;
    const uint32_t demoted = e->lists[LIST_PROTECTED].tail;
    unlink_place(e, demoted);
    push(e, LIST_PROBATION, demoted);
}

/* The window's oldest moves on; if all is full, it and the main part's oldest are compared,
 * and whoever is asked for less often goes. */
static uint32_t
tiny_choose(rp_evict *e)
{
    const size_t window = RP_MAX(e->capacity * WINDOW_PERCENT / 100, (size_t)1);
    uint32_t moved = 0;
    while (e->lists[LIST_WINDOW].count > window) {
        moved = e->lists[LIST_WINDOW].tail;
        unlink_place(e, moved);
        push(e, LIST_PROBATION, moved);
    }
    if (e->count <= e->capacity)
        return 0;
    uint32_t victim = e->lists[LIST_PROBATION].tail;
    if (!victim)
        victim = e->lists[LIST_PROTECTED].tail;
    if (!victim)
        victim = e->lists[LIST_WINDOW].tail;
    if (moved && victim != moved
        && sketch_count(e, e->nodes[moved].hash) <= sketch_count(e, e->nodes[victim].hash))
        victim = moved;
    unlink_place(e, victim);
    return victim;
}

/* ---- the contract ----------------------------------------------------------------------------------- */

void
rp_evict_insert(rp_evict *evict, uint32_t place, uint64_t hash, double cost)
{
    assert(place && place <= evict->places_max && !evict->nodes[place].at);
    evict->tick++;
    evict->newest = place;
    evict->nodes[place] = (node){ .used = evict->tick, .tick = evict->tick, .hash = hash,
                                  .cost = cost };
    node *at = &evict->nodes[place];
    switch (evict->kind) {
    case RP_EVICT_W_TINYLFU:
        sketch_add(evict, hash);
        push(evict, LIST_WINDOW, place);
        return;
    case RP_EVICT_S3FIFO:
        rp_s3fifo_insert(&evict->fifo, place, S3_SIZE, hash);
        at->at = 1;
        evict->count++;
        return;
    case RP_EVICT_LFU:
        at->value = 1;
        break;
    case RP_EVICT_SPHERELFU:
        at->value = evict->grown * evict->rest;
        break;
    default: /* fifo and lru: the tick alone; cost and scu: no order at all */
        break;
    }
    put_at(evict, evict->count++, place);
    sift_up(evict, evict->count - 1);
}

void
rp_evict_touch(rp_evict *evict, uint32_t place)
{
    if (!is_in(evict, place))
        return;
    node *at = &evict->nodes[place];
    at->used = ++evict->tick;
    switch (evict->kind) {
    case RP_EVICT_W_TINYLFU:
        tiny_touch(evict, place);
        return;
    case RP_EVICT_S3FIFO:
        rp_s3fifo_touch(&evict->fifo, place);
        return;
    case RP_EVICT_LFU:
        at->value++;
        at->tick = evict->tick;
        heap_update(evict, place);
        return;
    case RP_EVICT_LRU:
        at->tick = evict->tick;
        heap_update(evict, place);
        return;
    default:
        return;
    }
}

void
rp_evict_judged(rp_evict *evict, uint32_t place, double threshold)
{
    if (!is_in(evict, place))
        return;
    evict->nodes[place].labels++;
    evict->nodes[place].threshold = isnan(threshold) ? 0 : threshold;
}

void
rp_evict_remove(rp_evict *evict, uint32_t place)
{
    if (!is_in(evict, place))
        return;
    if (evict->kind == RP_EVICT_W_TINYLFU) {
        unlink_place(evict, place);
    } else if (evict->kind == RP_EVICT_S3FIFO) {
        rp_s3fifo_remove(&evict->fifo, place);
        evict->nodes[place].at = 0;
        evict->count--;
    } else {
        heap_remove(evict, place);
    }
}

static uint64_t
hash_of(void *context, uint32_t place)
{
    return ((const rp_evict *)context)->nodes[place].hash;
}

uint32_t
rp_evict_choose(rp_evict *evict)
{
    if (evict->kind == RP_EVICT_W_TINYLFU)
        return tiny_choose(evict);
    if (has_batches(evict)) {
        fill_batch(evict);
        return batch_choose(evict);
    }
    if (evict->count <= evict->capacity)
        return 0;
    if (evict->kind != RP_EVICT_S3FIFO)
        return heap_choose(evict);
    const uint32_t place = rp_s3fifo_evict(&evict->fifo, hash_of, evict);
    if (place) {
        evict->nodes[place].at = 0;
        evict->count--;
    }
    return place;
}
