/* strata.c - a plain list: strata are few, and a list is searched in nanoseconds. */
#include "strata.h"

#include "policy_internal.h"
#include <stdlib.h>

void
rp_strata_init(rp_strata *strata, size_t block_size)
{
    *strata = (rp_strata){ .block_size = block_size };
}

void
rp_strata_fini(rp_strata *strata)
{
    for (size_t i = 0; i < strata->count; i++)
        free(strata->rows[i].block);
    free(strata->rows);
    rp_strata_init(strata, strata->block_size);
}

void *
rp_strata_find(rp_strata *strata, rp_stratum key)
{
    size_t at = strata->last;
    if (at >= strata->count || strata->rows[at].key != key)
        for (at = 0; at < strata->count && strata->rows[at].key != key; at++)
            ;
    if (at == strata->count)
        return NULL;
    strata->last = at;
    strata->rows[at].used = ++strata->tick;
    return strata->rows[at].block;
}

static size_t
longest_unused(const rp_strata *strata)
{
    size_t oldest = 0;
    for (size_t i = 1; i < strata->count; i++)
        if (strata->rows[i].used < strata->rows[oldest].used)
            oldest = i;
    return oldest;
}

void *
rp_strata_get(rp_strata *strata, rp_stratum key)
{
    void *found = rp_strata_find(strata, key);
    if (found)
        return found;
    if (strata->count == RP_POLICY_STRATA_MAX) {
        struct rp_stratum_row *row = &strata->rows[longest_unused(strata)];
        memset(row->block, 0, strata->block_size);
        row->key = key;
        row->used = ++strata->tick;
        return row->block;
    }
    if (strata->count == strata->capacity) {
        const size_t capacity = strata->capacity ? strata->capacity * 2 : 4;
        struct rp_stratum_row *rows = realloc(strata->rows, capacity * sizeof *rows);
        if (!rows)
            return NULL;
        strata->rows = rows;
        strata->capacity = capacity;
    }
    void *block = calloc(1, strata->block_size);
    if (!block)
        return NULL;
    strata->rows[strata->count] = (struct rp_stratum_row){ key, ++strata->tick, block };
    strata->last = strata->count++;
    return block;
}

void *
rp_strata_at(const rp_strata *strata, size_t at)
{
    return strata->rows[at].block;
}

rp_stratum
rp_strata_key(const rp_strata *strata, size_t at)
{
    return strata->rows[at].key;
}

size_t
rp_strata_size_bytes(const rp_strata *strata)
{
    return strata->capacity * sizeof *strata->rows + strata->count * strata->block_size;
}
