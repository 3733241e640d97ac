/* flat.c - exact search: every vector of the scope is compared.
 *
 * One hash table finds a scope's list by its hash, another an entry's place by
 * its id. A list is an array of ids beside an array of vectors; removal moves the
 * last vector into the gap. A reader-writer lock lets searches run side by side
 * and stops them for the moment of a change. */
#include <reprise/index.h>

#include "base/bytes.h"
#include "base/hash.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct scope_list {
    rp_scope scope;
    struct scope_list *next; /* of the same bucket */
    size_t count, capacity;
    rp_entry_id *ids; /* owned, capacity */
    float *vectors;   /* owned, capacity * dim */
} scope_list;

typedef struct place {
    rp_entry_id id; /* 0: free */
    scope_list *list;
    size_t at;
} place;

struct rp_index {
    pthread_rwlock_t lock;
    size_t dim, count, count_max;
    scope_list **buckets; /* bucket_count, a power of two */
    size_t bucket_count, scope_count;
    place *places; /* open addressing, place_count a power of two */
    size_t place_count;
    size_t size_bytes;
};

enum { FIRST_BUCKETS = 64, FIRST_PLACES = 256, FIRST_CAPACITY = 1 };

rp_status
rp_index_new(const rp_index_options *options, rp_index **out)
{
    if (options->dim == 0 || options->dim > RP_DIM_MAX || options->count_max == 0)
        return RP_ERR_INVALID;
    rp_index *index = calloc(1, sizeof *index);
    if (!index)
        return RP_ERR_NOMEM;
    index->dim = options->dim;
    index->count_max = options->count_max;
    index->bucket_count = FIRST_BUCKETS;
    index->place_count = FIRST_PLACES;
    index->buckets = calloc(index->bucket_count, sizeof *index->buckets);
    index->places = calloc(index->place_count, sizeof *index->places);
    if (!index->buckets || !index->places) {
        free(index->buckets);
        free(index->places);
        free(index);
        return RP_ERR_NOMEM;
    }
    index->size_bytes = sizeof *index + index->bucket_count * sizeof *index->buckets +
                        index->place_count * sizeof *index->places;
    pthread_rwlock_init(&index->lock, NULL);
    *out = index;
    return RP_OK;
}

static size_t
list_size_bytes(const rp_index *index, const scope_list *list)
{
    return sizeof *list + list->capacity * (sizeof *list->ids + index->dim * sizeof(float));
}

static void
free_list(rp_index *index, scope_list *list)
{
    index->size_bytes -= list_size_bytes(index, list);
    free(list->ids);
    free(list->vectors);
    free(list);
}

void
rp_index_free(rp_index *index)
{
    if (!index)
        return;
    for (size_t i = 0; i < index->bucket_count; i++)
        while (index->buckets[i]) {
            scope_list *next = index->buckets[i]->next;
            free_list(index, index->buckets[i]);
            index->buckets[i] = next;
        }
    pthread_rwlock_destroy(&index->lock);
    free(index->buckets);
    free(index->places);
    free(index);
}

/* A scope is a SHA-256, so its first bytes are as good as any hash of it. */
static scope_list **
bucket_of(const rp_index *index, const rp_scope *scope)
{
    return &index->buckets[rp_load_le64(scope->bytes) & (index->bucket_count - 1)];
}

static scope_list *
find_list(const rp_index *index, const rp_scope *scope)
{
    scope_list *list = *bucket_of(index, scope);
    while (list && memcmp(list->scope.bytes, scope->bytes, sizeof scope->bytes) != 0)
        list = list->next;
    return list;
}

static size_t
home_of(const rp_index *index, rp_entry_id id)
{
    return (size_t)(id * 0x9e3779b97f4a7c15u >> 20) & (index->place_count - 1);
}

/* The place of `id`, or the free one where it would go. */
static place *
find_place(const rp_index *index, rp_entry_id id)
{
    size_t at = home_of(index, id);
    while (index->places[at].id != 0 && index->places[at].id != id)
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
        if (old[i].id)
            *find_place(index, old[i].id) = old[i];
    free(old);
    return true;
}

/* Close the gap that a removed place leaves, so that probing still finds what
 * had been pushed past it (Knuth, volume 3, 6.4, algorithm R). */
static void
free_place(rp_index *index, place *gone)
{
    const size_t mask = index->place_count - 1;
    size_t hole = (size_t)(gone - index->places);
    for (size_t at = (hole + 1) & mask; index->places[at].id; at = (at + 1) & mask) {
        const size_t home = home_of(index, index->places[at].id);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->places[hole] = index->places[at];
            hole = at;
        }
    }
    index->places[hole] = (place){ 0 };
}

static bool
grow_buckets(rp_index *index)
{
    const size_t old_count = index->bucket_count;
    scope_list **old = index->buckets;
    scope_list **grown = calloc(old_count * 2, sizeof *grown);
    if (!grown)
        return false;
    index->buckets = grown;
    index->bucket_count = old_count * 2;
    index->size_bytes += old_count * sizeof *grown;
    for (size_t i = 0; i < old_count; i++)
        while (old[i]) {
            scope_list *list = old[i];
            old[i] = list->next;
            list->next = *bucket_of(index, &list->scope);
            *bucket_of(index, &list->scope) = list;
        }
    free(old);
    return true;
}

static scope_list *
make_list(rp_index *index, const rp_scope *scope)
{
    if (index->scope_count >= index->bucket_count && !grow_buckets(index))
        return NULL;
    scope_list *list = calloc(1, sizeof *list);
    if (!list)
        return NULL;
    list->scope = *scope;
    list->next = *bucket_of(index, scope);
    *bucket_of(index, scope) = list;
    index->scope_count++;
    index->size_bytes += sizeof *list;
    return list;
}

static void
drop_list_if_empty(rp_index *index, scope_list *list)
{
    if (list->count)
        return;
    scope_list **link = bucket_of(index, &list->scope);
    while (*link != list)
        link = &(*link)->next;
    *link = list->next;
    index->scope_count--;
    free_list(index, list);
}

static bool
grow_list(rp_index *index, scope_list *list)
{
    const size_t capacity = list->capacity ? list->capacity * 2 : FIRST_CAPACITY;
    rp_entry_id *ids = realloc(list->ids, capacity * sizeof *ids);
    if (!ids)
        return false;
    list->ids = ids;
    float *vectors = realloc(list->vectors, capacity * index->dim * sizeof *vectors);
    if (!vectors)
        return false;
    list->vectors = vectors;
    index->size_bytes += (capacity - list->capacity) * (sizeof *ids + index->dim * sizeof *vectors);
    list->capacity = capacity;
    return true;
}

static bool
is_unit(const float *vector, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)vector[i] * vector[i];
    return fabs(sqrt(sum) - 1) <= 1e-3; /* false for NaN and infinity too */
}

static rp_status
add_locked(rp_index *index, const rp_scope *scope, rp_entry_id id, const float *vector)
{
    if (index->count == index->count_max)
        return RP_ERR_LIMIT;
    if (find_place(index, id)->id)
        return RP_ERR_EXISTS;
    if ((index->count + 1) * 2 > index->place_count && !grow_places(index))
        return RP_ERR_NOMEM;
    scope_list *list = find_list(index, scope);
    if (!list && !(list = make_list(index, scope)))
        return RP_ERR_NOMEM;
    if (list->count == list->capacity && !grow_list(index, list)) {
        drop_list_if_empty(index, list);
        return RP_ERR_NOMEM;
    }
    list->ids[list->count] = id;
    memcpy(list->vectors + list->count * index->dim, vector, index->dim * sizeof *vector);
    *find_place(index, id) = (place){ id, list, list->count++ };
    index->count++;
    return RP_OK;
}

rp_status
rp_index_add(rp_index *index, rp_scope scope, rp_entry_id id, const float *vector)
{
    if (id == 0 || !is_unit(vector, index->dim))
        return RP_ERR_INVALID;
    pthread_rwlock_wrlock(&index->lock);
    const rp_status status = add_locked(index, &scope, id, vector);
    pthread_rwlock_unlock(&index->lock);
    return status;
}

bool
rp_index_remove(rp_index *index, rp_entry_id id)
{
    pthread_rwlock_wrlock(&index->lock);
    place *found = id ? find_place(index, id) : NULL;
    const bool present = found && found->id;
    if (present) {
        scope_list *list = found->list;
        const size_t at = found->at, last = --list->count;
        free_place(index, found);
        if (at != last) {
            list->ids[at] = list->ids[last];
            memcpy(list->vectors + at * index->dim, list->vectors + last * index->dim,
                   index->dim * sizeof(float));
            find_place(index, list->ids[at])->at = at;
        }
        index->count--;
        drop_list_if_empty(index, list);
    }
    pthread_rwlock_unlock(&index->lock);
    return present;
}

static bool
is_nearer(rp_neighbor a, rp_neighbor b)
{
    return a.similarity > b.similarity || (a.similarity == b.similarity && a.id < b.id);
}

/* Eight partial sums, so that the compiler may use vectors without being allowed
 * to reorder everywhere. */
static float
dot(const float *a, const float *b, size_t n)
{
    float sums[8] = { 0 };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sums[0] += a[i] * b[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

size_t
rp_index_search(rp_index *index, rp_scope scope, const float *query, size_t k, rp_neighbor *out)
{
    size_t found = 0;
    pthread_rwlock_rdlock(&index->lock);
    const scope_list *list = k ? find_list(index, &scope) : NULL;
    for (size_t i = 0; list && i < list->count; i++) {
        const float similarity = dot(query, list->vectors + i * index->dim, index->dim);
        const rp_neighbor neighbor = { list->ids[i], RP_MAX(-1.0f, RP_MIN(1.0f, similarity)) };
        if (found == k && !is_nearer(neighbor, out[k - 1]))
            continue;
        size_t at = found < k ? found++ : k - 1;
        for (; at > 0 && is_nearer(neighbor, out[at - 1]); at--)
            out[at] = out[at - 1];
        out[at] = neighbor;
    }
    pthread_rwlock_unlock(&index->lock);
    return found;
}

size_t
rp_index_count(const rp_index *index)
{
    pthread_rwlock_rdlock((pthread_rwlock_t *)&index->lock);
    const size_t count = index->count;
    pthread_rwlock_unlock((pthread_rwlock_t *)&index->lock);
    return count;
}

size_t
rp_index_size_bytes(const rp_index *index)
{
    pthread_rwlock_rdlock((pthread_rwlock_t *)&index->lock);
    const size_t size_bytes = index->size_bytes;
    pthread_rwlock_unlock((pthread_rwlock_t *)&index->lock);
    return size_bytes;
}
