/* index.h - find stored prompts that mean nearly the same.
 *
 * Keeps unit vectors of one embedding model and returns the most similar ones
 * within one scope. Small scopes are compared whole; larger
 * ones are sifted by their sign bits, then by 8-bit codes, then exactly; of the largest
 * only the parts near the query are sifted, through inverted lists. A plain exact search
 * in the tests is the oracle.
 *
 * Units:   similarity is the cosine, in [-1, 1]; larger is nearer.
 * Memory:  vectors are copied in; the index never keeps a caller's pointer.
 * Threads: searchers_max threads may search while one adds or removes. */
#ifndef REPRISE_INDEX_H
#define REPRISE_INDEX_H

#include <reprise/status.h>
#include <reprise/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_index rp_index;

typedef struct rp_neighbor {
    rp_entry_id id;
    float similarity;
} rp_neighbor;

typedef struct rp_index_options {
    size_t dim;           /* numbers in a vector, 1..RP_DIM_MAX */
    size_t count_max;     /* vectors held at most */
    size_t searchers_max; /* searches at one time, at most 1024; a further one waits */
    bool without_originals; /* keep 8-bit codes only (about 460 bytes a vector of 384 numbers
                               instead of 2,000): similarities are then right within about
                               1e-3, and the caller settles what lies near a threshold */
    size_t lists_from; /* vectors of one scope from which on inverted lists are made, at least
                          2,048 (few vectors: lists miss more than they save); 0: where they win
                          by measurement; SIZE_MAX: never */
} rp_index_options;

enum { RP_INDEX_K_MAX = 128 }; /* neighbors of one search at most */

/* Make an empty index; release it with rp_index_free.
 * Fails: RP_ERR_INVALID (an option), RP_ERR_NOMEM; then *out is untouched. */
RP_NODISCARD rp_status rp_index_new(const rp_index_options *options, rp_index **out);
void rp_index_free(rp_index *index); /* NULL is fine */

/* Add `vector` (dim), of length 1 within 1e-3, under `id`, visible only in
 * `scope`. Fails: RP_ERR_INVALID (not of length 1, not finite), RP_ERR_EXISTS
 * (id in use), RP_ERR_LIMIT (full), RP_ERR_NOMEM; then the index is as it was. */
RP_NODISCARD rp_status rp_index_add(rp_index *index, rp_scope scope, rp_entry_id id,
                                    const float *vector);
bool rp_index_remove(rp_index *index, rp_entry_id id); /* false: no such id */

/* Write up to k neighbors of `query` (dim), nearest first, into `out` (k) and
 * return how many, 0..k. Equal similarities are ordered by id, so runs repeat.
 * Cannot fail: the memory for searching was taken by rp_index_new. */
size_t rp_index_search(rp_index *index, rp_scope scope, const float *query, size_t k,
                       rp_neighbor *out);

/* Several searches, which may be of several scopes: those of one scope go through it
 * together, up to eight, so that its signs are read from memory once. Each finds what
 * rp_index_search would. With fewer free searchers (searchers_max) fewer go together. */
typedef struct rp_index_query {
    rp_scope scope;
    const float *vector; /* (dim), borrowed for the call */
    size_t k;
    rp_neighbor *out; /* (k) */
    size_t found;     /* set: neighbors in out */
} rp_index_query;
void rp_index_search_many(rp_index *index, rp_index_query *queries, size_t count);

/* What rp_index_search should have found: every vector of the scope is compared as well as
 * it is known, however long that takes. For checking recall, in production too. */
size_t rp_index_search_exact(rp_index *index, rp_scope scope, const float *query, size_t k,
                             rp_neighbor *out);

/* Inverted lists are made and improved a part with every vector that is added or removed. Who
 * adds very many at once may hold that up, so that adding costs a tenth, and catch up later;
 * until then searches go through the vectors themselves. Holds are counted. */
void rp_index_hold_lists(rp_index *index, bool hold);
/* Do a part of what is due with the lists of any scope: about 1 ms, during which adding and
 * removing wait; searching does not. Returns whether there may be more to do. For one
 * background thread, call after call. */
bool rp_index_tend(rp_index *index);

size_t rp_index_count(const rp_index *index);
size_t rp_index_size_bytes(const rp_index *index); /* heap held */
size_t rp_index_lists(const rp_index *index); /* inverted lists of large scopes; 0: all are flat */
/* Whether vectors are rotated before their signs are taken, because the model's signs are
 * unbalanced; known from about 1,000 vectors on. A rotation costs some microseconds a search. */
bool rp_index_rotates(const rp_index *index);

#ifdef __cplusplus
}
#endif
#endif
