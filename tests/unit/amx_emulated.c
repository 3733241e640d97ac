/* amx_emulated.c - the AMX tier with its tiles in memory, so that blocking, strides and
 * edges of lib/math/amx.h are tested on machines without AMX. Only what the instructions
 * do is emulated; loads check that they stay within the rows that the shape allows. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16
#define ROWS_MAX 1
#define VECTORS_MAX 4
#define CASES CASE(1)
/* Rounded twice: what is compared allows for it. */
#define FMA(sum, a, b) ((sum) += (a) * (b))
#define VECTOR_MAX(a, b) ((vec)(((ivec)(a) & ((a) > (b))) | ((ivec)(b) & ~((a) > (b)))))
#define VECTOR_MIN(a, b) ((vec)(((ivec)(a) & ((a) < (b))) | ((ivec)(b) & ~((a) < (b)))))
#define RP_NO_FUSE(x) __asm__("" : "+m"(x))
#define PREFETCHES 0
#define PREFETCH(p) ((void)(p))
#define DOT_INT8(sum, a, b) dot_int8_lanes(&(sum), &(a), &(b))
#define DOT_BF16(sum, a, b) dot_bf16_lanes(&(sum), &(a), &(b))
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm

static void dot_int8_lanes(void *sum, const void *a, const void *b);
static void dot_bf16_lanes(void *sum, const void *a, const void *b);
#include "math/tile.h"

static void
dot_int8_four(int32_t *sum, const uint8_t *a, const int8_t *b)
{
    for (int i = 0; i < 4; i++)
        *sum += a[i] * b[i];
}

static void
dot_bf16_two(float *sum, const uint16_t *a, const uint16_t *b)
{
    *sum = fmaf(rp_from_bf16(a[0]), rp_from_bf16(b[0]), *sum);
    *sum = fmaf(rp_from_bf16(a[1]), rp_from_bf16(b[1]), *sum);
}

static void
dot_int8_lanes(void *sum, const void *a, const void *b)
{
    for (size_t i = 0; i < LANES; i++)
        dot_int8_four((int32_t *)sum + i, (const uint8_t *)a + 4 * i, (const int8_t *)b + 4 * i);
}

static void
dot_bf16_lanes(void *sum, const void *a, const void *b)
{
    for (size_t i = 0; i < LANES; i++)
        dot_bf16_two((float *)sum + i, (const uint16_t *)a + 2 * i, (const uint16_t *)b + 2 * i);
}

/* ---- tiles in memory ---- */

static _Thread_local struct {
    bool in_use;
    size_t rows[8], row_bytes[8];
    unsigned char bytes[8][16][64] __attribute__((aligned(64)));
} memory;

static void
configure(const void *from)
{
    const unsigned char *config = from;
    assert(config[0] == 1);
    memory.in_use = true;
    for (size_t t = 0; t < 8; t++) {
        memory.row_bytes[t] = (size_t)(config[16 + 2 * t] | config[17 + 2 * t] << 8);
        memory.rows[t] = config[48 + t];
        assert(memory.rows[t] >= 1 && memory.rows[t] <= 16 && memory.row_bytes[t] <= 64);
    }
}

static void
zero(int t)
{
    assert(memory.in_use);
    memset(memory.bytes[t], 0, sizeof memory.bytes[t]);
}

static void
load_tile(int t, const void *from, size_t stride)
{
    assert(memory.in_use);
    zero(t);
    for (size_t r = 0; r < memory.rows[t]; r++)
        memcpy(memory.bytes[t][r], (const char *)from + r * stride, memory.row_bytes[t]);
}

static void
store_tile(int t, void *to, size_t stride)
{
    assert(memory.in_use);
    for (size_t r = 0; r < memory.rows[t]; r++)
        memcpy((char *)to + r * stride, memory.bytes[t][r], memory.row_bytes[t]);
}

static void
dot_tiles(int c, int a, int b, bool is_int8)
{
    assert(memory.rows[c] == memory.rows[a] && memory.rows[b] == memory.row_bytes[a] / 4);
    for (size_t m = 0; m < memory.rows[c]; m++)
        for (size_t k = 0; k < memory.row_bytes[a] / 4; k++)
            for (size_t n = 0; n < memory.row_bytes[c] / 4; n++) {
                unsigned char *sum = memory.bytes[c][m] + 4 * n;
                const unsigned char *x = memory.bytes[a][m] + 4 * k, *w = memory.bytes[b][k] + 4 * n;
                if (is_int8)
                    dot_int8_four((void *)sum, x, (const void *)w);
                else
                    dot_bf16_two((void *)sum, (const void *)x, (const void *)w);
            }
}

#define TILE_CONFIGURE(config) configure(config)
#define TILE_RELEASE() ((void)(memory.in_use = false))
#define TILE_ZERO(t) zero(t)
#define TILE_LOAD(t, from, stride) load_tile(t, from, stride)
#define TILE_STORE(t, to, stride) store_tile(t, to, stride)
#define TILE_DOT_INT8(c, a, b) dot_tiles(c, a, b, true)
#define TILE_DOT_BF16(c, a, b) dot_tiles(c, a, b, false)
#include "math/amx.h"

extern const rp_kernels rp_kernels_amx_emulated;
const rp_kernels rp_kernels_amx_emulated = {
    .name = "amx in memory",
    .product = { [RP_CLASS_BF16] = { PANEL, amx_bf16, prepare_bf16, false, amx_peak_bf16 },
                 [RP_CLASS_INT8] = { PANEL, amx_int8, prepare_int8, false, amx_peak_int8 } },
};
