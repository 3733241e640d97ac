/* index_internal.h - the parts of the index and what they share.
 *
 *     index.c    scopes, ids, readers and when memory may go
 *     flat.c     one list of vectors: add, remove, scan
 *     ivf.c      inverted lists over the vectors of a large scope
 *     rotate.c   a rotation for models whose sign bits are unbalanced
 *
 * Readers never lock a list. A writer publishes what it added by a release store and
 * unlinks what it removed; memory and slots are used again only when every search
 * that might still see them has ended (epochs; Fraser, UCAM-CL-TR-579, 2004, 5.2.3). */
#ifndef RP_INDEX_INDEX_INTERNAL_H
#define RP_INDEX_INDEX_INTERNAL_H

#include "math/scan.h"
#include <reprise/index.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    CHUNK_SLOTS = 1024,  /* of a full chunk; a slot number is chunk * CHUNK_SLOTS + place.
                            A guess: half of the last chunk is what a scope wastes. */
    SIEVE_SLOTS_MIN = 256, /* chunks below this have no sign bits: their codes are read whole.
                              A guess: reading 256 codes takes about as long as sieving 2,000. */
    SIEVE_DIM_MIN = 128, /* fewer signs than that say too little. A guess. */
    BITE_FIRST = 8,      /* blocks that the sieve reads before a limit is known; a guess */
    BITE_LAST = 64,      /* and later; a guess: 12 KB */
    BITE_ROOM = 600,     /* hits for which there is room before a bite: more than 64 * 8 */
    WEIGH_AHEAD = 6,     /* candidates whose codes are fetched ahead; measured: bench search */
    KEEP_ONE = 256,      /* hits that the sieve keeps at most when the nearest is looked for, and */
    KEEP_FURTHER = 32,   /* so many more for each further neighbor; measured: bench search */
    KEEP_MAX = 1024,
    SIEVE_ROOM = 2048,   /* hits collected before the limit is tightened */
    BEST_MAX = 256,      /* found by codes, of which originals settle the order */
    CODE_PAD = 16,       /* codes and queries are padded to a multiple of this */
};
#define SLOT_NONE UINT32_MAX
/* By how many square roots of dim more signs than expected may differ. With MiniLM the
 * number of differing signs has a deviation of .4; of 2,000 nearest questions none was
 * beyond 1.5 (a set of its own, not the one that bench search is quoted for). */
#define SIGN_MARGIN 1.7
/* The same for a part of the signs against its share of all. */
#define HALF_MARGIN 0.25
/* Two similarities by codes are wrong by 1e-3 at most with MiniLM. */
#define CODE_ERROR_MAX 6e-3f

/* ---- shape ------------------------------------------------------------------- */

/* What is taken off every number before its sign is looked at: the mean of the
 * vectors, because a model's numbers are not centred and a bit that is always set says
 * nothing. Versions are kept until the index goes. */
typedef struct center {
    struct center *older;
    float square; /* of the mean's length */
    bool rotated; /* signs are those of rotated vectors; then so is the mean */
    float mean[]; /* (dim) */
} center;

/* Shape and kernels: what every list of an index has in common. Immutable but for the
 * center that new chunks take. */
typedef struct shape {
    size_t dim, dim_padded, words; /* words of sign bits */
    size_t words_first;            /* of them the sieve reads for all vectors */
    const rp_scan_kernels *kernels;
    float sign_margin, first_margin; /* SIGN_MARGIN, HALF_MARGIN in signs */
    bool sieve;          /* dim is large enough for sign bits */
    bool originals;      /* f32 vectors are kept */
    const center *center; /* newest; never NULL when sieve. Writer only. */
} shape;

/* ---- rotate.c ---------------------------------------------------------------- */

void rp_rotate(const float *vector, size_t dim, float *out); /* (dim), another array */

/* ---- flat.c ------------------------------------------------------------------ */

/* Slots of one list, in one allocation that never moves:
 * header, [center pointer, sign bits], codes, scales, ids, [originals]. */
typedef struct chunk chunk;
struct chunk {
    uint32_t capacity : 31, bare : 1; /* bare: without bits */
    _Atomic uint32_t count;  /* slots 0..count-1 are published; pairs with readers' acquire */
    chunk *_Atomic next;     /* pairs with readers' acquire */
};

typedef struct flat_extra flat_extra; /* the writer's: directory of chunks, free slots */
typedef struct flat {
    uint32_t number;        /* in the index's registry */
    _Atomic uint32_t live;  /* vectors. Only the writer changes it. */
    chunk *_Atomic first;   /* pairs with readers' acquire */
    flat_extra *extra;      /* owned; NULL while there is one chunk and no free slot */
} flat;

/* Give back through this what readers may still see; called by flat.c. */
typedef struct retirer {
    void (*retire)(void *context, void *memory, size_t size_bytes);
    void *context;
    size_t *size_bytes; /* heap held by the index; kept up to date */
} retirer;

void rp_signs(const shape *shape, const center *of, const float *vector, uint64_t *out);
/* Put the signs of one vector in their place. */
void rp_write_signs(const shape *shape, uint64_t *first, uint64_t *rest, uint32_t place,
                    const uint64_t *words);
void rp_read_signs(const shape *shape, const uint64_t *first, const uint64_t *rest, uint32_t place,
                   uint64_t *words);
/* Put a vector into a list. Returns false without memory; then nothing changed. */
bool rp_flat_add(flat *list, const shape *shape, retirer *retirer, rp_entry_id id,
                 const float *vector, uint32_t *slot);
/* Make the slot invisible. It may be used again after rp_flat_release. */
void rp_flat_hide(flat *list, const shape *shape, uint32_t slot);
/* No search can still see the slot. Without memory to remember it only room is lost. */
void rp_flat_release(flat *list, retirer *retirer, uint32_t slot);
rp_entry_id rp_flat_id(const flat *list, const shape *shape, uint32_t slot);
/* The vector as well as it is known: the original, or codes times scale. */
void rp_flat_vector(const flat *list, const shape *shape, uint32_t slot, float *out);
/* Make the sign bits of every chunk again, for a new center. */
bool rp_flat_recenter(flat *list, const shape *shape, retirer *retirer);
/* Drop the bits of a chunk, and of all later ones. Returns false: no such chunk. */
bool rp_flat_bare(flat *list, const shape *shape, retirer *retirer, uint32_t number);
uint32_t rp_flat_slots(const flat *list); /* slots in use or free: 0..it-1 */
/* Retire all chunks. */
void rp_flat_clear(flat *list, const shape *shape, retirer *retirer);

/* Memory of one search, taken when the index is made. */
/* Where a chunk keeps what. */
typedef struct chunk_parts {
    const center **center; /* of the bits; NULL: no bits */
    uint64_t *first;       /* (capacity / 8, words_first, 8) sign bits, or NULL */
    uint64_t *rest;        /* (capacity / 8, words - words_first, 8) */
    _Atomic rp_entry_id *ids;
    float *scales;
    float *originals; /* (capacity, dim), or NULL */
    int8_t *codes;    /* (capacity, dim_padded) */
    uint64_t search;  /* that looked this chunk up, when it goes through inverted lists */
} chunk_parts;

typedef struct found_place {
    const float *original; /* or NULL */
    float similarity;
    rp_entry_id id;
} found_place;

typedef struct list_probe {
    float similarity; /* of the list's centroid */
    uint32_t number;
} list_probe;

typedef struct sift {
    const shape *shape;
    const float *query;       /* (dim_padded) */
    const center *center;     /* that `signs` is for */
    uint64_t *signs;          /* (words) of the query */
    float query_along, query_scale; /* the cosine of centred vectors is (s - along) * scale */
    rp_sieve_hit *hits;       /* (SIEVE_ROOM) */
    size_t hit_count, keep, k;
    uint32_t limit;           /* what differs in so many signs is too far */
    uint32_t expected;        /* signs in which the k-th best so far should differ */
    uint32_t *histogram;      /* (dim + 2) */
    rp_sieve_hit *ordered;    /* (KEEP_MAX) */
    chunk_parts *chunks;      /* by the high part of a hit's slot */
    size_t chunk_count, chunk_max;
    found_place *best;     /* (BEST_MAX) the nearest by codes: a heap, the worst on top */
    size_t best_count, best_max;
    float *tops;           /* (K_MAX) the k best similarities: a heap, the least on top */
    size_t top_count;
    uint64_t search;       /* counts searches */
    list_probe *probes;    /* (list_max) */
} sift;

size_t rp_sift_size(const shape *shape, size_t chunk_max, size_t list_max); /* bytes that rp_sift_init lays out */
void rp_sift_init(sift *sift, const shape *shape, size_t chunk_max, void *memory);
/* A search: start, any number of lists, then the nearest k. */
void rp_sift_start(sift *sift, const float *query_padded, size_t k);
void rp_sift_list(sift *const *sifts, size_t sift_count, const flat *list); /* several at once */
void rp_sift_all(sift *sift, const flat *list); /* without the sieve: every vector is weighed */
/* Signs of vectors, and in which slots of the list that `extra` belongs to these lie. */
typedef struct sign_bits {
    const center *center;
    const uint64_t *first, *rest; /* as in chunk_parts */
    const _Atomic uint32_t *slots; /* NULL: slots are numbered from first_slot */
    const flat_extra *extra;
} sign_bits;
void rp_sift_bits(sift *sift, const sign_bits *of, uint32_t count, uint32_t first_slot);
size_t rp_sift_finish(sift *sift, size_t k, rp_neighbor *out);

/* ---- ivf.c -------------------------------------------------------------------- */

/* Inverted lists over a large list: every list keeps sign bits and slot numbers of the
 * vectors that are nearest to its centroid; the vectors stay where they are. */
typedef struct ivf ivf;

size_t rp_ivf_list_max(size_t count_max, size_t lists_from); /* lists of one scope at most */
/* Begin to make lists over `list`, which holds that many vectors. NULL: no memory. */
ivf *rp_ivf_new(const flat *list, const shape *shape, retirer *retirer, size_t list_max);
/* A vector was put into a slot. Returns false without memory; then the lists are as they were. */
bool rp_ivf_added(ivf *lists, const flat *list, const shape *shape, retirer *retirer,
                  uint32_t slot, const float *vector);
/* The slot was hidden; its vector can still be read. */
void rp_ivf_hidden(ivf *lists, const flat *list, const shape *shape, retirer *retirer,
                   uint32_t slot);
/* A bounded part of what is due: training, listing what is there, splitting. Returns false if
 * nothing is due or there is no memory for it. */
bool rp_ivf_step(ivf *lists, flat *list, const shape *shape, retirer *retirer);
/* New lists that take the place of these, or NULL. The caller owns them, puts them where
 * searches find them and clears the old ones. */
ivf *rp_ivf_successor(ivf *lists);
size_t rp_ivf_count(const ivf *lists); /* lists that searches go through */
void rp_ivf_clear(ivf *lists, const shape *shape, retirer *retirer); /* retires all */
/* Sift the lists nearest to the query, `live` vectors being in all. Returns false: they
 * are not made yet. */
bool rp_ivf_sift(const ivf *lists, sift *sift, size_t live);

#endif
