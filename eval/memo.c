/* memo.c - see memo.h. Open addressing, at most half full; keys are never removed. */
#include "eval/memo.h"

#include <stdlib.h>

void
rp_memo_fini(rp_memo *memo)
{
    free(memo->keys);
    free(memo->values);
    *memo = (rp_memo){ 0 };
}

uint64_t
rp_memo_key(unsigned what, uint32_t a, uint32_t b)
{
    return (uint64_t)what << 62 | (uint64_t)(a & 0x7fffffffu) << 31 | (b & 0x7fffffffu);
}

/* Where the key is, or would be. `capacity` is a power of two with a free place. */
static size_t
place_of(const rp_memo *memo, uint64_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (memo->capacity - 1);
    while (memo->keys[at] && memo->keys[at] != key)
        at = (at + 1) & (memo->capacity - 1);
    return at;
}

bool
rp_memo_find(const rp_memo *memo, uint64_t key, float *out)
{
    if (!memo->capacity)
        return false;
    const size_t at = place_of(memo, key);
    if (memo->keys[at] != key)
        return false;
    *out = memo->values[at];
    return true;
}

static bool
grow(rp_memo *memo)
{
    rp_memo larger = { .capacity = memo->capacity ? 2 * memo->capacity : 1024 };
    larger.keys = calloc(larger.capacity, sizeof *larger.keys);
    larger.values = calloc(larger.capacity, sizeof *larger.values);
    if (!larger.keys || !larger.values) {
        rp_memo_fini(&larger);
        return false;
    }
    for (size_t i = 0; i < memo->capacity; i++)
        if (memo->keys[i]) {
            const size_t at = place_of(&larger, memo->keys[i]);
            larger.keys[at] = memo->keys[i];
            larger.values[at] = memo->values[i];
            larger.count++;
        }
    rp_memo_fini(memo);
    *memo = larger;
    return true;
}

void
rp_memo_keep(rp_memo *memo, uint64_t key, float value)
{
    if (2 * (memo->count + 1) > memo->capacity && !grow(memo))
        return;
    const size_t at = place_of(memo, key);
    memo->count += memo->keys[at] == 0;
    memo->keys[at] = key;
    memo->values[at] = value;
}
