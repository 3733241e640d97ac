/* histories.h - what a store may hold after it was cut off at any moment.
 *
 * Each key has a history of numbered operations (put of a version, or removal). Two
 * numbers matter: `acknowledged`, the last operation that was said to be committed, and
 * `started`, the last that was handed in. Afterwards the store must hold the state after
 * some operation between the two, byte for byte; anything else is a lost, torn or
 * resurrected entry. The arrays can lie in shared memory, so that they outlive a killed
 * process. */
#ifndef RP_TESTS_CRASH_HISTORIES_H
#define RP_TESTS_CRASH_HISTORIES_H

#include "../unit/store_support.h"

#include <stdatomic.h>

enum { HISTORY_KEYS = 64, HISTORY_OPS_MAX = 4096 };

typedef struct history {
    atomic_uint acknowledged, started; /* operation numbers, from 1 */
    uint8_t removes[HISTORY_OPS_MAX];  /* operation n is a removal */
    unsigned base; /* versions of this process start here: each is used once */
} history;

static inline size_t
history_reply_size(uint64_t version)
{
    return version % 11 == 0 ? 20000 + version % 7000 : version * 37 % 3000;
}

typedef struct history_census {
    size_t found, with_vector;
    bool damaged;
    unsigned versions[HISTORY_KEYS]; /* 0: not there */
    rp_entry_id ids[HISTORY_KEYS];
} history_census;

/* A version may be found only if it is whole; the caller's messages name it. */
static inline bool
take_census_entry(void *context, const rp_entry *entry)
{
    history_census *census = context;
    const uint64_t key = (uint64_t)entry->input_tokens, version = (uint64_t)entry->upstream_us;
    assert_true(key < HISTORY_KEYS);
    test_entry want;
    test_entry_make(&want, key, version, history_reply_size(version));
    assert_same_entry(entry, &want.entry, RP_PART_REPLY | RP_PART_VECTORS | RP_PART_SCOPE);
    test_entry_fini(&want);
    assert_int_equal(census->versions[key], 0); /* a key holds one entry */
    census->versions[key] = (unsigned)version;
    census->ids[key] = entry->id;
    census->found++;
    census->with_vector += entry->dim != 0;
    return true;
}

static inline bool
take_census_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    history_census *census = context;
    (void)scope;
    (void)mean;
    (void)dim;
    bool known = false;
    for (int key = 0; key < HISTORY_KEYS; key++)
        known = known || census->ids[key] == id;
    assert_true(known);
    census->with_vector--;
    return true;
}

/* Look at everything in an open store: whole, each key once, and the index (vectors), the
 * exact table and the entries agree. */
static inline void
take_census(rp_store *store, history_census *census)
{
    *census = (history_census){ 0 };
    rp_store_walk(store, NULL, RP_PART_REPLY | RP_PART_VECTORS | RP_PART_SCOPE, take_census_entry,
                  census);
    assert_int_equal(rp_store_walk_vectors(store, take_census_vector, census, NULL), RP_OK);
    assert_int_equal(census->with_vector, 0);
    for (uint64_t key = 0; key < HISTORY_KEYS; key++) {
        test_entry want;
        test_entry_make(&want, key, 0, 0);
        assert_int_equal(rp_store_exact(store, want.entry.scope, want.entry.key),
                         census->ids[key]);
        test_entry_fini(&want);
    }
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    assert_int_equal(stats.entries, census->found);
    assert_int_equal(stats.damaged, 0);
}

/* Is what was found one of the states that the history allows? Version v was put by
 * operation v - base. `may_lack`: entries may have been evicted. */
static inline bool
history_allows(const history *it, unsigned acknowledged, unsigned started, unsigned found,
               unsigned found_before, bool may_lack)
{
    if (found == 0 && may_lack)
        return true;
    for (unsigned op = acknowledged; op <= started; op++) {
        const unsigned state = op == 0 ? found_before
            : it->removes[op % HISTORY_OPS_MAX] ? 0 : it->base + op;
        if (state == found)
            return true;
    }
    return false;
}

#endif
