/* flat.c - one list of vectors and the search through it: see index_internal.h.
 *
 * The sieve compares the first half of the sign bits (24 bytes of a 384-number vector),
 * the other half of what passes, and keeps what is near by Hamming distance; the 8-bit
 * codes of those are compared exactly; the originals settle the order of the best. How
 * near is near follows from the best similarity found so far: two vectors with an angle
 * of a differ in about dim * a / pi signs, so that what differs in many more cannot be
 * better. Short lists skip the sieve. */
#include "index/index_internal.h"
#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { POPULATED_FROM = 16 }; /* chunks of a list: so its last one wastes a sixteenth at most */

/* ---- a chunk's parts ---------------------------------------------------------- */

static bool
has_bits(const shape *s, uint32_t capacity, bool bare)
{
    return s->sieve && capacity >= SIEVE_SLOTS_MIN && !bare;
}

/* In the order of their alignment: each part's size keeps the next one aligned. */
static size_t
lay_out(const shape *s, uint32_t capacity, bool bare, char *base, chunk_parts *out)
{
    size_t at = sizeof(chunk);
    *out = (chunk_parts){ 0 };
    if (has_bits(s, capacity, bare)) {
        out->center = (const center **)(base + at);
        at = 64; /* bits begin at a cache line */
        out->first = (uint64_t *)(base + at);
        at += (size_t)capacity * s->words_first * sizeof(uint64_t);
        out->rest = (uint64_t *)(base + at);
        at += (size_t)capacity * (s->words - s->words_first) * sizeof(uint64_t);
    }
    out->ids = (_Atomic rp_entry_id *)(base + at);
    at += (size_t)capacity * sizeof(rp_entry_id);
    out->scales = (float *)(base + at);
    at += (size_t)capacity * sizeof(float);
    if (s->originals) {
        out->originals = (float *)(base + at);
        at += (size_t)capacity * s->dim * sizeof(float);
    }
    out->codes = (int8_t *)(base + at);
    return at + (size_t)capacity * s->dim_padded;
}

static chunk_parts
parts_of(const shape *s, const chunk *c)
{
    chunk_parts parts;
    lay_out(s, c->capacity, c->bare, (char *)c, &parts);
    return parts;
}

static size_t
chunk_size_bytes(const shape *s, uint32_t capacity, bool bare)
{
    chunk_parts parts;
    const size_t size = lay_out(s, capacity, bare, NULL, &parts);
    return capacity < 8 ? size : (size + 63) / 64 * 64; /* as aligned_alloc wants it */
}

static chunk *
make_chunk(const shape *s, uint32_t capacity, bool bare, retirer *r)
{
    const size_t size = chunk_size_bytes(s, capacity, bare);
    chunk *made = capacity < 8 ? malloc(size) : aligned_alloc(64, size);
    if (!made)
        return NULL;
    made->capacity = capacity & INT32_MAX;
    made->bare = bare;
    atomic_init(&made->count, 0);
    atomic_init(&made->next, NULL);
    chunk_parts parts = parts_of(s, made);
    memset((void *)parts.ids, 0, capacity * sizeof(rp_entry_id)); /* nobody is there */
    if (parts.first) {
        /* Bits of slots that are not there yet are read together with those that are. */
        memset(parts.first, 0, (size_t)capacity * s->words * sizeof(uint64_t));
        *parts.center = s->center;
    }
    *r->size_bytes += size;
    return made;
}

static void
retire_chunk(const shape *s, chunk *c, retirer *r)
{
    r->retire(r->context, c, chunk_size_bytes(s, c->capacity, c->bare));
}

void
rp_signs(const shape *s, const center *of, const float *vector, uint64_t *out)
{
    float rotated[RP_DIM_MAX];
    if (of->rotated) {
        rp_rotate(vector, s->dim, rotated);
        vector = rotated;
    }
    s->kernels->signs(vector, of->mean, s->dim, out);
}

/* Where word `w` of a place's signs is. */
static uint64_t *
sign_word(const shape *s, uint64_t *first, uint64_t *rest, uint32_t place, size_t w)
{
    const size_t block = place / RP_SCAN_GROUP, words_rest = s->words - s->words_first;
    uint64_t *row = w < s->words_first ? first + (block * s->words_first + w) * RP_SCAN_GROUP
                                       : rest + (block * words_rest + w - s->words_first) * RP_SCAN_GROUP;
    return row + place % RP_SCAN_GROUP;
}

void
rp_write_signs(const shape *s, uint64_t *first, uint64_t *rest, uint32_t place, const uint64_t *words)
{
    for (size_t w = 0; w < s->words; w++)
        /* The sieve may be reading the neighbors' bits in this block. */
        __atomic_store_n(sign_word(s, first, rest, place, w), words[w], __ATOMIC_RELAXED);
}

void
rp_read_signs(const shape *s, const uint64_t *first, const uint64_t *rest, uint32_t place, uint64_t *words)
{
    for (size_t w = 0; w < s->words; w++)
        words[w] = *sign_word(s, (uint64_t *)first, (uint64_t *)rest, place, w);
}

/* Turn the signs of a removed vector round: what was near is far then, and the sieve does
 * not have to ask which of its hits are still there. */
static void
turn_signs(const shape *s, const chunk_parts *parts, uint32_t place)
{
    for (size_t w = 0; w < s->words; w++) {
        uint64_t *word = sign_word(s, parts->first, parts->rest, place, w);
        __atomic_store_n(word, ~*word, __ATOMIC_RELAXED);
    }
}

/* Write a vector into a slot that nobody may look at yet. */
static void
write_slot(const shape *s, chunk *c, uint32_t place, const float *vector)
{
    chunk_parts parts = parts_of(s, c);
    if (parts.first) {
        uint64_t words[RP_DIM_MAX / 64];
        rp_signs(s, *parts.center, vector, words);
        rp_write_signs(s, parts.first, parts.rest, place, words);
    }
    int8_t *codes = parts.codes + (size_t)place * s->dim_padded;
    parts.scales[place] = s->kernels->codes(vector, s->dim, codes);
    memset(codes + s->dim, 0, s->dim_padded - s->dim);
    if (parts.originals)
        memcpy(parts.originals + (size_t)place * s->dim, vector, s->dim * sizeof *vector);
}

static void
publish_slot(const shape *s, chunk *c, uint32_t place, rp_entry_id id)
{
    chunk_parts parts = parts_of(s, c);
    /* Release: whoever sees the id sees the vector (acquire in read_candidate). */
    atomic_store_explicit(&parts.ids[place], id, memory_order_release);
    if (place == atomic_load_explicit(&c->count, memory_order_relaxed))
        atomic_store_explicit(&c->count, place + 1, memory_order_release);
}

static void
read_slot(const shape *s, const chunk *c, uint32_t place, float *out)
{
    const chunk_parts parts = parts_of(s, c);
    if (parts.originals) {
        memcpy(out, parts.originals + (size_t)place * s->dim, s->dim * sizeof *out);
        return;
    }
    for (size_t i = 0; i < s->dim; i++)
        out[i] = (float)parts.codes[(size_t)place * s->dim_padded + i] * parts.scales[place];
}

/* ---- the writer's side -------------------------------------------------------- */

struct flat_extra {
    chunk *_Atomic *_Atomic chunks; /* by number; owned array, chunks belong to the list. Searches
                                       through inverted lists read it: pairs with their acquire. */
    uint32_t chunk_count, chunk_capacity;
    bool bare; /* chunks have no bits: inverted lists keep them */
    uint32_t *free_slots; /* owned */
    uint32_t free_count, free_capacity;
};

static flat_extra *
extra_of(flat *list, retirer *r)
{
    if (!list->extra && (list->extra = calloc(1, sizeof *list->extra)))
        *r->size_bytes += sizeof *list->extra;
    return list->extra;
}

static chunk *_Atomic *
chunks_of(const flat_extra *extra)
{
    return atomic_load_explicit(&extra->chunks, memory_order_acquire);
}

static chunk *
chunk_of(const flat *list, uint32_t slot)
{
    const uint32_t number = slot / CHUNK_SLOTS;
    return number == 0 ? atomic_load_explicit(&list->first, memory_order_relaxed)
                       : atomic_load_explicit(&chunks_of(list->extra)[number], memory_order_relaxed);
}

static bool
is_bare(const flat *list)
{
    return list->extra && list->extra->bare;
}

static bool
remember_chunk(flat *list, uint32_t number, chunk *c, retirer *r)
{
    flat_extra *extra = extra_of(list, r);
    if (!extra)
        return false;
    if (number >= extra->chunk_capacity) {
        const uint32_t capacity = RP_MAX(4u, number * 2);
        chunk *_Atomic *old = chunks_of(extra), **grown = calloc(capacity, sizeof *grown);
        if (!grown)
            return false;
        for (uint32_t i = 0; i < extra->chunk_count; i++)
            grown[i] = atomic_load_explicit(&old[i], memory_order_relaxed);
        *r->size_bytes += capacity * sizeof *grown;
        atomic_store_explicit(&extra->chunks, (chunk *_Atomic *)grown, memory_order_release);
        if (old)
            r->retire(r->context, (void *)old, extra->chunk_capacity * sizeof *old);
        extra->chunk_capacity = capacity;
    }
    atomic_store_explicit(&chunks_of(extra)[number], c, memory_order_release);
    extra->chunk_count = RP_MAX(extra->chunk_count, number + 1);
    return true;
}

/* The same vectors in a chunk of another capacity or center, or without bits. */
static chunk *
copy_chunk(const shape *s, const chunk *old, uint32_t capacity, bool bare, retirer *r)
{
    chunk *made = make_chunk(s, capacity, bare, r);
    if (!made)
        return NULL;
    const chunk_parts from = parts_of(s, old), to = parts_of(s, made);
    const uint32_t count = atomic_load_explicit(&old->count, memory_order_relaxed);
    float vector[RP_DIM_MAX];
    for (uint32_t place = 0; place < count; place++) {
        const rp_entry_id id = atomic_load_explicit(&from.ids[place], memory_order_relaxed);
        if (id) {
            read_slot(s, old, place, vector);
            write_slot(s, made, place, vector);
            /* Codes made of codes would drift: keep the first ones. */
            memcpy(to.codes + (size_t)place * s->dim_padded,
                   from.codes + (size_t)place * s->dim_padded, s->dim_padded);
            to.scales[place] = from.scales[place];
        }
        atomic_store_explicit(&to.ids[place], id, memory_order_relaxed);
    }
    atomic_store_explicit(&made->count, count, memory_order_relaxed);
    atomic_store_explicit(&made->next, atomic_load_explicit(&old->next, memory_order_relaxed),
                          memory_order_relaxed);
    return made;
}

/* Put `made` where chunk `number` was. */
static void
replace_chunk(flat *list, uint32_t number, chunk *made)
{
    if (number == 0)
        atomic_store_explicit(&list->first, made, memory_order_release);
    else
        atomic_store_explicit(&chunk_of(list, (number - 1) * CHUNK_SLOTS)->next, made,
                              memory_order_release);
    if (list->extra && number < list->extra->chunk_count)
        atomic_store_explicit(&chunks_of(list->extra)[number], made, memory_order_release);
}

/* Get the pages of a large list's chunk in one call instead of one by one: an index of a million
 * vectors is filled in an eighth less time. Where the system cannot, they come as they are used. */
static void
populate(chunk *c, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    const uintptr_t page = 4096, begin = ((uintptr_t)c + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)c + size) / page * page;
    if (end > begin)
        (void)!madvise((void *)begin, end - begin, MADV_POPULATE_WRITE);
#else
    (void)c, (void)size;
#endif
}

/* A chunk with room at its end: the last one, made larger, or a further one. */
static chunk *
find_room(flat *list, const shape *s, retirer *r, uint32_t *number)
{
    chunk *first = atomic_load_explicit(&list->first, memory_order_relaxed);
    if (!first) {
        *number = 0;
        chunk *made = make_chunk(s, 1, false, r);
        if (made)
            atomic_store_explicit(&list->first, made, memory_order_release);
        return made;
    }
    *number = list->extra && list->extra->chunk_count ? list->extra->chunk_count - 1 : 0;
    chunk *last = chunk_of(list, *number * CHUNK_SLOTS);
    const uint32_t count = atomic_load_explicit(&last->count, memory_order_relaxed);
    if (count < last->capacity)
        return last;
    if (last->capacity < CHUNK_SLOTS) {
        chunk *grown = copy_chunk(s, last, last->capacity * 2, false, r);
        if (!grown)
            return NULL;
        replace_chunk(list, *number, grown);
        retire_chunk(s, last, r);
        return grown;
    }
    const bool bare = is_bare(list);
    chunk *further = make_chunk(s, CHUNK_SLOTS, bare, r);
    if (further && *number >= POPULATED_FROM)
        populate(further, chunk_size_bytes(s, CHUNK_SLOTS, bare));
    if (!further || !remember_chunk(list, 0, first, r) ||
        !remember_chunk(list, *number + 1, further, r)) {
        if (further) {
            *r->size_bytes -= chunk_size_bytes(s, CHUNK_SLOTS, bare);
            free(further);
        }
        return NULL;
    }
    atomic_store_explicit(&last->next, further, memory_order_release);
    ++*number;
    return further;
}

bool
rp_flat_add(flat *list, const shape *s, retirer *r, rp_entry_id id, const float *vector,
            uint32_t *slot)
{
    chunk *c;
    uint32_t place;
    if (list->extra && list->extra->free_count) {
        *slot = list->extra->free_slots[--list->extra->free_count];
        c = chunk_of(list, *slot);
        place = *slot % CHUNK_SLOTS;
    } else {
        uint32_t number;
        if (!(c = find_room(list, s, r, &number)))
            return false;
        place = atomic_load_explicit(&c->count, memory_order_relaxed);
        *slot = number * CHUNK_SLOTS + place;
    }
    write_slot(s, c, place, vector);
    publish_slot(s, c, place, id);
    atomic_fetch_add_explicit(&list->live, 1, memory_order_relaxed);
    return true;
}

void
rp_flat_hide(flat *list, const shape *s, uint32_t slot)
{
    chunk_parts parts = parts_of(s, chunk_of(list, slot));
    atomic_store_explicit(&parts.ids[slot % CHUNK_SLOTS], 0, memory_order_release);
    if (parts.first)
        turn_signs(s, &parts, slot % CHUNK_SLOTS);
    atomic_fetch_sub_explicit(&list->live, 1, memory_order_relaxed);
}

void
rp_flat_release(flat *list, retirer *r, uint32_t slot)
{
    flat_extra *extra = extra_of(list, r);
    if (!extra)
        return;
    if (extra->free_count == extra->free_capacity) {
        const uint32_t capacity = RP_MAX(8u, extra->free_capacity * 2);
        uint32_t *grown = realloc(extra->free_slots, capacity * sizeof *grown);
        if (!grown)
            return;
        extra->free_slots = grown;
        extra->free_capacity = capacity;
    }
    extra->free_slots[extra->free_count++] = slot;
}

rp_entry_id
rp_flat_id(const flat *list, const shape *s, uint32_t slot)
{
    const chunk_parts parts = parts_of(s, chunk_of(list, slot));
    return atomic_load_explicit(&parts.ids[slot % CHUNK_SLOTS], memory_order_relaxed);
}

void
rp_flat_vector(const flat *list, const shape *s, uint32_t slot, float *out)
{
    read_slot(s, chunk_of(list, slot), slot % CHUNK_SLOTS, out);
}

bool
rp_flat_recenter(flat *list, const shape *s, retirer *r)
{
    chunk *c = atomic_load_explicit(&list->first, memory_order_relaxed);
    for (uint32_t number = 0; c; number++) {
        chunk *next = atomic_load_explicit(&c->next, memory_order_relaxed);
        if (has_bits(s, c->capacity, c->bare)) {
            chunk *made = copy_chunk(s, c, c->capacity, is_bare(list), r);
            if (!made)
                return false; /* the rest keeps its older center, which is right too */
            replace_chunk(list, number, made);
            retire_chunk(s, c, r);
        }
        c = next;
    }
    return true;
}

bool
rp_flat_bare(flat *list, const shape *s, retirer *r, uint32_t number)
{
    if (!list->extra || number >= list->extra->chunk_count)
        return false;
    list->extra->bare = true;
    chunk *c = chunk_of(list, number * CHUNK_SLOTS);
    chunk *made = c->bare ? NULL : copy_chunk(s, c, c->capacity, true, r);
    if (made) { /* without memory it only takes more room */
        replace_chunk(list, number, made);
        retire_chunk(s, c, r);
    }
    return true;
}

uint32_t
rp_flat_slots(const flat *list)
{
    const uint32_t last = list->extra && list->extra->chunk_count ? list->extra->chunk_count - 1 : 0;
    const chunk *c = chunk_of(list, last * CHUNK_SLOTS);
    return c ? last * CHUNK_SLOTS + atomic_load_explicit(&c->count, memory_order_relaxed) : 0;
}

void
rp_flat_clear(flat *list, const shape *s, retirer *r)
{
    chunk *c = atomic_exchange_explicit(&list->first, NULL, memory_order_acq_rel);
    while (c) {
        chunk *next = atomic_load_explicit(&c->next, memory_order_relaxed);
        retire_chunk(s, c, r);
        c = next;
    }
    flat_extra *extra = list->extra;
    list->extra = NULL;
    if (extra) {
        free(extra->free_slots);
        /* Searches through inverted lists may still look chunks up in it. */
        if (chunks_of(extra))
            r->retire(r->context, (void *)chunks_of(extra), extra->chunk_capacity * sizeof(chunk *));
        r->retire(r->context, extra, sizeof *extra);
    }
    atomic_store_explicit(&list->live, 0, memory_order_relaxed);
}

/* ---- the reader's side -------------------------------------------------------- */

static size_t
align_up(size_t size)
{
    return (size + 63) / 64 * 64;
}

size_t
rp_sift_size(const shape *s, size_t chunk_max, size_t list_max)
{
    return align_up(s->words * sizeof(uint64_t)) + align_up(SIEVE_ROOM * sizeof(rp_sieve_hit)) +
           align_up((s->dim + 2) * sizeof(uint32_t)) + align_up(chunk_max * sizeof(chunk_parts)) +
           align_up(BEST_MAX * sizeof(found_place)) + align_up(RP_INDEX_K_MAX * sizeof(float)) +
           align_up(KEEP_MAX * sizeof(rp_sieve_hit)) + list_max * sizeof(list_probe);
}

void
rp_sift_init(sift *f, const shape *s, size_t chunk_max, void *memory)
{
    char *at = memory;
    *f = (sift){ .shape = s, .chunk_max = chunk_max };
    f->signs = (uint64_t *)at;
    at += align_up(s->words * sizeof(uint64_t));
    f->hits = (rp_sieve_hit *)at;
    at += align_up(SIEVE_ROOM * sizeof(rp_sieve_hit));
    f->histogram = (uint32_t *)at;
    at += align_up((s->dim + 2) * sizeof(uint32_t));
    f->chunks = (chunk_parts *)at;
    at += align_up(chunk_max * sizeof(chunk_parts));
    f->best = (found_place *)at;
    at += align_up(BEST_MAX * sizeof(found_place));
    f->tops = (float *)at;
    at += align_up(RP_INDEX_K_MAX * sizeof(float));
    f->ordered = (rp_sieve_hit *)at;
    at += align_up(KEEP_MAX * sizeof(rp_sieve_hit));
    f->probes = (list_probe *)at;
    memset(f->chunks, 0, chunk_max * sizeof *f->chunks);
}

void
rp_sift_start(sift *f, const float *query_padded, size_t k)
{
    f->query = query_padded;
    f->search++;
    f->center = NULL;
    f->hit_count = f->chunk_count = f->best_count = f->top_count = 0;
    f->k = k;
    f->keep = RP_MIN(KEEP_ONE + (k - 1) * KEEP_FURTHER, (size_t)KEEP_MAX);
    f->best_max = RP_MIN(RP_MAX(k * 2, k + 8), (size_t)BEST_MAX);
    f->limit = (uint32_t)f->shape->dim + 1;
    f->expected = 0;
}

/* ---- how near is near ---------------------------------------------------------- */

/* Take the k-th best similarity so far into account. The signs are those of centred
 * vectors, hence of another angle: v is taken to lie along the center c as all vectors do on
 * average, v.c = |c|^2. That is exact for most of them within a few signs. */
static void
narrow(sift *f)
{
    if (!f->center || f->top_count < f->k)
        return;
    const shape *s = f->shape;
    const float cosine = (f->tops[0] - f->query_along) * f->query_scale;
    const float signs = (float)s->dim * acosf(RP_MAX(-1.0f, RP_MIN(1.0f, cosine))) / (float)M_PI;
    f->expected = (uint32_t)signs;
    f->limit = RP_MIN(f->limit, (uint32_t)(signs + s->sign_margin) + 1);
}

static void
take_center(sift *f, const center *of_bits)
{
    const shape *s = f->shape;
    float rotated[RP_DIM_MAX];
    const float *query = f->query;
    f->center = of_bits;
    if (of_bits->rotated) {
        rp_rotate(query, s->dim, rotated);
        query = rotated;
    }
    s->kernels->signs(query, of_bits->mean, s->dim, f->signs);
    f->query_along = s->kernels->dot(query, of_bits->mean, s->dim);
    const float query_square = 1 - 2 * f->query_along + of_bits->square;
    const float other_square = 1 - of_bits->square;
    const float product = query_square * other_square;
    f->query_scale = product > 1e-6f ? 1 / sqrtf(product) : 0;
    narrow(f);
}

/* A heap of the k best similarities, the least on top. */
static void
note_similarity(sift *f, float similarity)
{
    float *tops = f->tops;
    size_t at;
    if (f->top_count < f->k) {
        at = f->top_count++;
        for (; at && tops[(at - 1) / 2] > similarity; at = (at - 1) / 2)
            tops[at] = tops[(at - 1) / 2];
        tops[at] = similarity;
    } else {
        if (similarity <= tops[0])
            return;
        for (at = 0;;) {
            size_t child = 2 * at + 1;
            if (child >= f->k)
                break;
            child += child + 1 < f->k && tops[child + 1] < tops[child];
            if (tops[child] >= similarity)
                break;
            tops[at] = tops[child];
            at = child;
        }
        tops[at] = similarity;
    }
    narrow(f);
}

/* The heap's order: the farther of two is nearer to the top. */
static bool
is_worse(const found_place *a, const found_place *b)
{
    return a->similarity < b->similarity || (a->similarity == b->similarity && a->id > b->id);
}

static void
sink(found_place *heap, size_t count, size_t at)
{
    for (;;) {
        size_t worst = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
            if (is_worse(&heap[child], &heap[worst]))
                worst = child;
        if (worst == at)
            return;
        const found_place swapped = heap[at];
        heap[at] = heap[worst];
        heap[worst] = swapped;
        at = worst;
    }
}

static void
keep_best(sift *f, found_place found)
{
    note_similarity(f, found.similarity);
    if (f->best_count < f->best_max) {
        size_t at = f->best_count++;
        f->best[at] = found;
        while (at && is_worse(&f->best[at], &f->best[(at - 1) / 2])) {
            const found_place swapped = f->best[at];
            f->best[at] = f->best[(at - 1) / 2];
            f->best[(at - 1) / 2] = swapped;
            at = (at - 1) / 2;
        }
    } else if (is_worse(&f->best[0], &found)) {
        f->best[0] = found;
        sink(f->best, f->best_count, 0);
    }
}

/* Compare exactly where the original is at hand, and keep it if it is among the best:
 * in a list that was not sieved, reading all originals costs less than reading all
 * codes and then the best originals. */
static void
weigh_exactly(sift *f, const chunk_parts *parts, uint32_t place)
{
    const rp_entry_id id = atomic_load_explicit(&parts->ids[place], memory_order_acquire);
    if (id == 0)
        return;
    const float *original = parts->originals + (size_t)place * f->shape->dim;
    keep_best(f, (found_place){ original, f->shape->kernels->dot(f->query, original, f->shape->dim), id });
}

/* Compare by codes and keep it if it is among the best. */
static void
weigh(sift *f, const chunk_parts *parts, uint32_t place)
{
    const rp_entry_id id = atomic_load_explicit(&parts->ids[place], memory_order_acquire);
    if (id == 0)
        return;
    const float dot = f->shape->kernels->dot_codes(
        f->query, parts->codes + (size_t)place * f->shape->dim_padded, f->shape->dim_padded);
    const float *original = parts->originals ? parts->originals + (size_t)place * f->shape->dim : NULL;
    keep_best(f, (found_place){ original, dot * parts->scales[place], id });
}

/* Rows of codes lie all over the list: without this each costs a trip to memory. */
static void
fetch_codes(const sift *f, const rp_sieve_hit *hit)
{
    const chunk_parts *parts = &f->chunks[hit->slot / CHUNK_SLOTS];
    const uint32_t place = hit->slot % CHUNK_SLOTS;
    const char *codes = (const char *)parts->codes + (size_t)place * f->shape->dim_padded;
    for (size_t at = 0; at < f->shape->dim_padded; at += 64)
        __builtin_prefetch(codes + at);
    __builtin_prefetch((const void *)&parts->ids[place]);
    __builtin_prefetch(&parts->scales[place]);
}

/* Forget hits that are beyond the limit by now, and all but the `keep` nearest; take no
 * more that are not nearer than the worst of those. */
static void
tighten(sift *f)
{
    const size_t dim = f->shape->dim;
    memset(f->histogram, 0, (dim + 2) * sizeof *f->histogram);
    for (size_t i = 0; i < f->hit_count; i++)
        f->histogram[f->hits[i].distance]++;
    uint32_t end = 0; /* first distance that is too many */
    for (size_t sum = f->histogram[0]; sum <= f->keep && end < f->limit; sum += f->histogram[end])
        end++;
    /* What is as far as the last ones kept would be kept by chance of its place: none of it. */
    f->limit = RP_MAX(1u, RP_MIN(f->limit, end));
    size_t kept = 0;
    for (size_t i = 0; i < f->hit_count; i++)
        if (f->hits[i].distance < f->limit && kept < f->keep)
            f->hits[kept++] = f->hits[i];
    f->hit_count = kept;
}

/* Turn a place in an inverted list into a slot, and look its chunk up. False: it is free. */
static bool
find_slot(sift *f, const _Atomic uint32_t *slots, const flat_extra *extra, uint32_t *slot)
{
    /* Acquire: the slot's vector and chunk were published before. */
    *slot = atomic_load_explicit(&slots[*slot], memory_order_acquire);
    const uint32_t number = *slot / CHUNK_SLOTS;
    if (*slot == SLOT_NONE || number >= f->chunk_max)
        return false;
    if (f->chunks[number].search != f->search) {
        f->chunks[number] = parts_of(
            f->shape, atomic_load_explicit(&chunks_of(extra)[number], memory_order_acquire));
        f->chunks[number].search = f->search;
    }
    return true;
}

/* Take in `passed` hits behind the kept ones. Those expected to be among the best are
 * weighed at once, for what they tell of the limit. */
static void
take_hits(sift *f, const sign_bits *of, size_t passed)
{
    const rp_sieve_hit *from = f->hits + f->hit_count;
    for (size_t i = 0; i < passed; i++) {
        rp_sieve_hit hit = from[i];
        if (hit.distance >= f->limit ||
            (of->slots && !find_slot(f, of->slots, of->extra, &hit.slot)))
            continue;
        if (hit.distance <= f->expected || f->top_count < f->k)
            weigh(f, &f->chunks[hit.slot / CHUNK_SLOTS], hit.slot % CHUNK_SLOTS);
        else
            f->hits[f->hit_count++] = hit;
    }
}

/* As many of the first signs differ as is their share of all, give or take. */
static uint32_t
limit_of_first(const sift *f)
{
    const shape *s = f->shape;
    const float share = (float)(s->words_first * 64) / (float)s->dim;
    return (uint32_t)((float)f->limit * RP_MIN(share, 1.0f) + s->first_margin) + 1;
}

void
rp_sift_bits(sift *f, const sign_bits *of, uint32_t count, uint32_t first_slot)
{
    const shape *s = f->shape;
    if (f->center != of->center)
        take_center(f, of->center);
    const size_t blocks = (count + RP_SCAN_GROUP - 1) / RP_SCAN_GROUP;
    const size_t words_rest = s->words - s->words_first;
    /* While little is known of the limit most would pass: short bites until it is. */
    size_t bite = f->limit > s->dim ? BITE_FIRST : BITE_LAST;
    for (size_t done = 0; done < blocks; bite = RP_MIN(bite * 2, (size_t)BITE_LAST)) {
        if (SIEVE_ROOM - f->hit_count < BITE_ROOM)
            tighten(f);
        const rp_sieve_query query = { f->signs, s->words_first, words_rest, limit_of_first(f), f->limit };
        size_t read = 0;
        const size_t passed = s->kernels->sieve(
            of->first + done * s->words_first * RP_SCAN_GROUP,
            of->rest + done * words_rest * RP_SCAN_GROUP, RP_MIN(bite, blocks - done), &query,
            first_slot + (uint32_t)(done * RP_SCAN_GROUP), f->hits + f->hit_count,
            SIEVE_ROOM - f->hit_count, &read);
        take_hits(f, of, passed);
        done += read;
    }
}

static void
sieve_chunk(sift *f, const chunk_parts *parts, uint32_t count)
{
    if (f->chunk_count == f->chunk_max)
        return; /* cannot be: chunk_max is what the index can hold */
    const uint32_t number = (uint32_t)f->chunk_count++;
    f->chunks[number] = *parts;
    rp_sift_bits(f, &(sign_bits){ .center = *parts->center, .first = parts->first, .rest = parts->rest },
                 count, number * CHUNK_SLOTS);
}

static void
sift_chunk(sift *f, const chunk_parts *parts, uint32_t count, bool sieved)
{
    if (parts->first && sieved)
        sieve_chunk(f, parts, count);
    else
        for (uint32_t place = 0; place < count; place++)
            (parts->originals ? weigh_exactly : weigh)(f, parts, place);
}

static void
sift_chunks(sift *const *sifts, size_t sift_count, const flat *list, bool sieved)
{
    const chunk *c = atomic_load_explicit(&list->first, memory_order_acquire);
    for (; c; c = atomic_load_explicit(&c->next, memory_order_acquire)) {
        const uint32_t count = atomic_load_explicit(&c->count, memory_order_acquire);
        const chunk_parts parts = parts_of(sifts[0]->shape, c);
        /* The signs of a chunk, 48 KB of 384-number vectors, come from afar for the first
         * search only. */
        for (size_t i = 0; i < sift_count; i++)
            sift_chunk(sifts[i], &parts, count, sieved);
    }
}

void
rp_sift_list(sift *const *sifts, size_t sift_count, const flat *list)
{
    sift_chunks(sifts, sift_count, list, true);
}

void
rp_sift_all(sift *f, const flat *list)
{
    sift_chunks(&f, 1, list, false);
}

/* The hits that tighten left, nearest first; its histogram says how many are where. */
static void
order_hits(sift *f)
{
    uint32_t at = 0;
    for (uint32_t distance = 0; distance < f->limit; distance++) {
        const uint32_t here = f->histogram[distance];
        f->histogram[distance] = at;
        at += here;
    }
    for (size_t i = 0; i < f->hit_count; i++)
        f->ordered[f->histogram[f->hits[i].distance]++] = f->hits[i];
}

static int
compare_neighbors(const void *a, const void *b)
{
    const rp_neighbor *x = a, *y = b;
    if (x->similarity != y->similarity)
        return x->similarity > y->similarity ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

size_t
rp_sift_finish(sift *f, size_t k, rp_neighbor *out)
{
    const shape *s = f->shape;
    tighten(f);
    order_hits(f);
    for (size_t i = 0; i < RP_MIN(f->hit_count, (size_t)WEIGH_AHEAD); i++)
        fetch_codes(f, &f->ordered[i]);
    for (size_t i = 0; i < f->hit_count && f->ordered[i].distance < f->limit; i++) {
        if (i + WEIGH_AHEAD < f->hit_count)
            fetch_codes(f, &f->ordered[i + WEIGH_AHEAD]);
        weigh(f, &f->chunks[f->ordered[i].slot / CHUNK_SLOTS], f->ordered[i].slot % CHUNK_SLOTS);
    }
    rp_neighbor found[BEST_MAX];
    size_t found_count = 0;
    /* What is that far behind the k-th by codes cannot be before it by originals. */
    const float least = f->top_count < f->k ? -2 : f->tops[0] - CODE_ERROR_MAX;
    for (size_t i = 0; i < f->best_count; i++) {
        const found_place *b = &f->best[i];
        float similarity = b->similarity;
        if (similarity < least)
            continue;
        if (b->original)
            similarity = s->kernels->dot(f->query, b->original, s->dim);
        found[found_count++] = (rp_neighbor){ b->id, RP_MAX(-1.0f, RP_MIN(1.0f, similarity)) };
    }
    qsort(found, found_count, sizeof *found, compare_neighbors);
    const size_t count = RP_MIN(k, found_count);
    memcpy(out, found, count * sizeof *out);
    return count;
}
