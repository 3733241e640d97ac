/* kernels.c - which tiers this machine can run, and the packing of weights. */
#include "math/kernels_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { TIERS_MAX = 8 };

/* What this machine can run, slowest first. */
static size_t
list_tiers(const rp_kernels *out[TIERS_MAX])
{
    size_t count = 0;
    out[count++] = &rp_kernels_plain;
#if defined(__x86_64__)
    /* These builtins look at the operating system's support (XCR0) too. */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[count++] = &rp_kernels_avx2;
    if (__builtin_cpu_supports("avx512f"))
        out[count++] = &rp_kernels_avx512;
#elif defined(__aarch64__)
    out[count++] = &rp_kernels_neon; /* part of the base architecture */
#endif
    return count;
}

const rp_kernels *
rp_kernels_at(size_t at)
{
    const rp_kernels *tiers[TIERS_MAX];
    return at < list_tiers(tiers) ? tiers[at] : NULL;
}

const rp_kernels *
rp_kernels_find(const char *name)
{
    const rp_kernels *tiers[TIERS_MAX];
    const size_t count = list_tiers(tiers);
    for (size_t i = 0; i < count; i++)
        if (strcmp(tiers[i]->name, name) == 0)
            return tiers[i];
    return NULL;
}

const rp_kernels *
rp_kernels_best(void)
{
    const char *wanted = getenv("REPRISE_TIER");
    const rp_kernels *named = wanted && *wanted ? rp_kernels_find(wanted) : NULL;
    if (named)
        return named;
    const rp_kernels *tiers[TIERS_MAX];
    return tiers[list_tiers(tiers) - 1];
}

size_t
rp_attention_scratch_count(size_t tokens, size_t head_dim)
{
    return (head_dim + RP_ATTENTION_ROWS) * rp_attention_padded(tokens);
}

size_t
rp_packed_count(size_t columns, size_t depth, size_t panel)
{
    return (columns + panel - 1) / panel * panel * depth;
}

/* Sixteen steps of depth at a time: the piece of a panel that is written to stays
 * in the first-level cache while its rows come in whole cache lines. */
void
rp_pack(const float *w, size_t rows, size_t depth, size_t first, size_t panel, float *out)
{
    enum { STEP = 16 };
    for (size_t row = 0; row < rows;) {
        const size_t column = first + row, within = column % panel;
        const size_t here = rows - row < panel - within ? rows - row : panel - within;
        float *base = out + (column - within) * depth + within;
        for (size_t k = 0; k < depth; k += STEP) {
            const size_t steps = depth - k < STEP ? depth - k : STEP;
            for (size_t r = 0; r < here; r++) {
                const float *from = w + (row + r) * depth + k;
                for (size_t i = 0; i < steps; i++)
                    base[(k + i) * panel + r] = from[i];
            }
        }
        row += here;
    }
}
