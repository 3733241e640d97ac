/* amx.h - products on tiles of 16 rows of 64 bytes, Intel AMX's, written once: kernels_amx.c
 * runs them on the processor's tiles, the tests anywhere on tiles in memory. Included after
 * tile.h (16 lanes, panels of 64 columns), whose packed weights and rows are used as they
 * are: 16 steps of depth of 16 columns are a tile of weights, 16 rows of as many steps one
 * of rows.
 *
 *   TILE_CONFIGURE(config)  shapes of the tiles (tile_config)
 *   TILE_RELEASE()          no tile is in use: less for the system to keep
 *   TILE_ZERO(t), TILE_LOAD(t, from, stride), TILE_STORE(t, to, stride)   t is 0..7
 *   TILE_DOT_INT8(c, a, b)  int32 sums += four u8 times four s8, exactly
 *   TILE_DOT_BF16(c, a, b)  f32 sums += two bf16 times two
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. */

enum { TILE_ROWS = 16, TILE_STEPS = 16, TILE_COLUMNS = 16, B_STRIDE = PANEL * 4 };

/* As LDTILECFG reads it. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Tiles 0 to 3 hold sums, 4 and 5 rows of a, 6 and 7 weights. */
INLINE void
configure_tiles(size_t rows)
{
    tile_config config = { .palette = 1 };
    for (size_t t = 0; t < 8; t++) {
        config.row_bytes[t] = 64;
        config.rows[t] = (uint8_t)(t < 6 ? rows : TILE_STEPS);
    }
    TILE_CONFIGURE(&config);
}

#define TILE_DOT(c, a, b)                                                                          \
    do {                                                                                           \
        if (class == RP_CLASS_INT8)                                                                \
            TILE_DOT_INT8(c, a, b);                                                                \
        else                                                                                       \
            TILE_DOT_BF16(c, a, b);                                                                \
    } while (0)

/* sums (rows, PANEL) = up to 16 rows of a times a panel. */
INLINE void
multiply_one_block(const rp_class class, const char *a, size_t a_stride, const char *b, size_t tiles,
                   float *sums)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (size_t i = 0; i < tiles; i++, a += 64, b += (size_t)TILE_STEPS * B_STRIDE) {
        TILE_LOAD(4, a, a_stride);
        TILE_LOAD(6, b, B_STRIDE);
        TILE_DOT(0, 4, 6);
        TILE_LOAD(7, b + 64, B_STRIDE);
        TILE_DOT(1, 4, 7);
        TILE_LOAD(6, b + 128, B_STRIDE);
        TILE_DOT(2, 4, 6);
        TILE_LOAD(7, b + 192, B_STRIDE);
        TILE_DOT(3, 4, 7);
    }
    TILE_STORE(0, sums, B_STRIDE);
    TILE_STORE(1, sums + TILE_COLUMNS, B_STRIDE);
    TILE_STORE(2, sums + 2 * TILE_COLUMNS, B_STRIDE);
    TILE_STORE(3, sums + 3 * TILE_COLUMNS, B_STRIDE);
}

/* sums (32, PANEL) = 16 rows at a and 16 at `second` times a panel, half of it at a time:
 * each tile that is loaded is used twice. */
INLINE void
multiply_two_blocks(const rp_class class, const char *a, const char *second, size_t a_stride,
                    const char *b, size_t tiles, float *sums)
{
    for (size_t half = 0; half < 2; half++) {
        const char *weights = b + half * 128;
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        for (size_t i = 0; i < tiles; i++, weights += (size_t)TILE_STEPS * B_STRIDE) {
            TILE_LOAD(4, a + i * 64, a_stride);
            TILE_LOAD(6, weights, B_STRIDE);
            TILE_LOAD(7, weights + 64, B_STRIDE);
            TILE_DOT(0, 4, 6);
            TILE_DOT(1, 4, 7);
            TILE_LOAD(5, second + i * 64, a_stride);
            TILE_DOT(2, 5, 6);
            TILE_DOT(3, 5, 7);
        }
        float *to = sums + half * 2 * TILE_COLUMNS;
        TILE_STORE(0, to, B_STRIDE);
        TILE_STORE(1, to + TILE_COLUMNS, B_STRIDE);
        TILE_STORE(2, to + (size_t)TILE_ROWS * PANEL, B_STRIDE);
        TILE_STORE(3, to + (size_t)TILE_ROWS * PANEL + TILE_COLUMNS, B_STRIDE);
    }
}

/* What the other tiers do with a tile's sums, for `rows` of them. */
INLINE void
finish_block(const rp_class class, const rp_matmul *task, size_t row, size_t column, size_t rows,
             const float *sums)
{
    for (size_t r = 0; r < rows; r++) {
        vec values[ROWS_MAX][VECTORS_MAX];
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++) {
            values[0][v] = load(sums + r * PANEL + v * LANES);
            if (class != RP_CLASS_INT8)
                values[0][v] += load(task->by->bias + column + v * LANES);
        }
        if (class == RP_CLASS_INT8)
            convert_tile(task, row + r, column, values, 1);
        finish_tile(class, task, row + r, column, values, 1);
    }
}

/* Blocks are 16 rows each; the last one begins so early that it is too, and what it has in
 * common with the one before is not finished twice (the residual may be `out`). */
INLINE void
run_on_tiles(const rp_class class, const rp_matmul *task)
{
    const size_t together = class == RP_CLASS_BF16 ? 2 : 4, M = task->rows;
    const size_t steps = (task->by->depth + together - 1) / together;
    if (M == 0 || steps % TILE_STEPS) { /* rows of other depths end within a tile */
        run_panels(class, task);
        return;
    }
    const size_t height = M < TILE_ROWS ? M : TILE_ROWS, tiles = steps / TILE_STEPS;
    const size_t stride = task->a.stride;
    float sums[2 * TILE_ROWS * PANEL] __attribute__((aligned(64)));
    configure_tiles(height);
    for (size_t column = 0; column < task->by->columns; column += PANEL) {
        const char *b = (const char *)task->by->values + column * steps * 4;
        for (size_t row = 0; row < M;) {
            const size_t first = row < M - height ? row : M - height, done = row - first;
            const char *a = (const char *)task->a.values + first * stride;
            if (M - row > height) {
                const size_t next = row + height < M - height ? row + height : M - height;
                const size_t skipped = row + height - next;
                multiply_two_blocks(class, a, a + (next - first) * stride, stride, b, tiles, sums);
                finish_block(class, task, row, column, height, sums);
                finish_block(class, task, row + height, column, height - skipped,
                             sums + (TILE_ROWS + skipped) * PANEL);
                row = next + height;
            } else {
                multiply_one_block(class, a, stride, b, tiles, sums);
                finish_block(class, task, row, column, height - done, sums + done * PANEL);
                row = M;
            }
        }
    }
    TILE_RELEASE();
}

KERNEL void
amx_bf16(const rp_matmul *task)
{
    run_on_tiles(RP_CLASS_BF16, task);
}

KERNEL void
amx_int8(const rp_matmul *task)
{
    run_on_tiles(RP_CLASS_INT8, task);
}

/* For benchmarks: products of tiles that stay in their registers, four sums side by side. */
INLINE uint64_t
repeat_dots(const rp_class class, uint64_t times)
{
    float values[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64))) = { 0 };
    configure_tiles(TILE_ROWS);
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    TILE_LOAD(4, values, 64);
    TILE_LOAD(5, values, 64);
    TILE_LOAD(6, values, 64);
    TILE_LOAD(7, values, 64);
    for (uint64_t i = 0; i < times; i++) {
        TILE_DOT(0, 4, 6);
        TILE_DOT(1, 4, 7);
        TILE_DOT(2, 5, 6);
        TILE_DOT(3, 5, 7);
    }
    TILE_STORE(0, values, 64);
    TILE_RELEASE();
    const uint64_t products = class == RP_CLASS_BF16 ? 2 : 4;
    return times * 4 * TILE_ROWS * TILE_COLUMNS * TILE_STEPS * products * 2;
}

KERNEL uint64_t
amx_peak_bf16(uint64_t times)
{
    return repeat_dots(RP_CLASS_BF16, times);
}

KERNEL uint64_t
amx_peak_int8(uint64_t times)
{
    return repeat_dots(RP_CLASS_INT8, times);
}
