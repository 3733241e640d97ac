/* test_kernels.c - every tier that runs here computes what the plain kernels compute.
 *
 * What could go wrong: a tile of some height or width is wrong, the last columns are
 * cut or written too far, padding leaks into sums, a reach is off by one. So all heights
 * up to beyond two tiles, widths around each panel, and odd depths are tried, and
 * outputs are fenced with a value that must stay. The plain kernels are themselves
 * compared with sums in double precision. */
#include "math/kernels.h"
#include "base/random.h"
#include "test_support.h"

#include <float.h>
#include <math.h>

#define FENCE 12345.0F

extern const rp_kernels rp_kernels_amx_emulated; /* amx_emulated.c */

static rp_random generator;

static float *
make_numbers(size_t count, double spread)
{
    float *numbers = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++)
        numbers[i] = (float)((rp_random_uniform(&generator) * 2 - 1) * spread);
    return numbers;
}

/* Sums of n products of numbers below 1 may differ by n roundings of up to n; in
 * practice errors grow with the root. Epilogues add a few roundings more. */
static double
allow(size_t depth)
{
    return 8 * FLT_EPSILON * (sqrt((double)depth) + 4);
}

/* What a class keeps of a number, and how far off one product of a row may be for it. */
static double
keep(rp_class class, float x)
{
    return class == RP_CLASS_BF16 ? (double)rp_from_bf16(rp_to_bf16(x)) : (double)x;
}

static void *
zeros(size_t size)
{
    void *room = aligned_alloc(64, (size + 127) / 64 * 64);
    memset(room, 0, (size + 127) / 64 * 64);
    return room;
}

/* Packed weights of w (N, K), in two pieces that meet in the middle of a panel. */
static rp_weights
pack(const rp_kernels *tier, rp_class class, const float *w, const float *bias, size_t N, size_t K,
     size_t outliers)
{
    const size_t panel = tier->product[class].panel, padded = rp_padded_columns(N, panel);
    void *values = zeros(rp_packed_size(class, N, K, panel));
    float *bias_copy = zeros(padded * sizeof(float)), *copy = malloc(N * K * sizeof(float));
    uint16_t *at = zeros(RP_OUTLIERS_MAX * sizeof *at);
    memcpy(bias_copy, bias, N * sizeof *bias);
    memcpy(copy, w, N * K * sizeof(float));
    for (size_t i = 0; i < outliers; i++)
        at[i] = (uint16_t)((i * 11 + 5) % K);
    const rp_weights by = { .columns = N, .depth = K, .values = values, .bias = bias_copy,
                            .scales = zeros(padded * 4), .sums = zeros(padded * 4),
                            .outlier_count = outliers, .outlier_at = at,
                            .outliers = zeros(RP_OUTLIERS_MAX * padded * 4) };
    const size_t first = N / 3;
    if (class == RP_CLASS_F32) {
        rp_pack_f32(copy, first, K, 0, panel, values);
        rp_pack_f32(copy + first * K, N - first, K, first, panel, values);
    } else if (tier->product[class].whole) {
        rp_pack_whole(copy, first, 0, panel, &by);
        rp_pack_whole(copy + first * K, N - first, first, panel, &by);
    } else if (class == RP_CLASS_BF16) {
        rp_pack_bf16(copy, first, K, 0, panel, values);
        rp_pack_bf16(copy + first * K, N - first, K, first, panel, values);
    } else {
        rp_pack_int8(copy, first, 0, panel, &by);
        rp_pack_int8(copy + first * K, N - first, first, panel, &by);
    }
    free(copy);
    return by;
}

static void
free_packed(const rp_weights *by)
{
    free((void *)(uintptr_t)by->values);
    free((void *)(uintptr_t)by->bias);
    free((void *)(uintptr_t)by->scales);
    free((void *)(uintptr_t)by->sums);
    free((void *)(uintptr_t)by->outlier_at);
    free((void *)(uintptr_t)by->outliers);
}

typedef struct shape {
    size_t M, N, K;
    bool gelu, residual;
    size_t outliers;
} shape;

/* out (M, N + 5) by the tier; its last five columns are fenced. */
static void
run_product(const rp_kernels *tier, rp_class class, shape s, float *a, const float *w,
            const float *bias, const float *start, float *out)
{
    const rp_product *product = &tier->product[class];
    const rp_weights by = pack(tier, class, w, bias, s.N, s.K, s.outliers);
    const size_t room_size = rp_prepared_size(s.M, s.K);
    char *room = zeros(room_size + 8);
    memcpy(out, start, s.M * (s.N + 5) * sizeof *out);
    for (size_t m = 0; m < s.M; m++)
        for (size_t n = s.N; n < s.N + 5; n++)
            out[m * (s.N + 5) + n] = FENCE;
    memset(room + room_size, 0x5a, 8);
    rp_matmul task = { .rows = s.M, .a = { .values = a, .stride = (s.K + 3) * sizeof *a },
                       .by = &by, .residual = s.residual ? out : NULL,
                       .residual_stride = s.N + 5, .gelu = s.gelu, .out = out,
                       .out_stride = s.N + 5 };
    if (product->prepare)
        product->prepare(a, s.K + 3, s.M, &by, room, &task.a);
    product->matmul(&task);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(room[room_size + i], 0x5a);
    for (size_t m = 0; m < s.M; m++)
        for (size_t n = s.N; n < s.N + 5; n++)
            assert_true(out[m * (s.N + 5) + n] == FENCE);
    free(room);
    free_packed(&by);
}

/* A column's weights in steps of its largest, as rp_pack_whole says. */
static void
keep_whole(float *w, size_t K)
{
    float largest = 0;
    for (size_t k = 0; k < K; k++)
        largest = fmaxf(largest, fabsf(w[k]));
    for (size_t k = 0; k < K; k++)
        w[k] = nearbyintf(w[k] * (2047 / largest)) * (largest / 2047);
}

/* f32 and bf16 are compared with double precision over what the class keeps; int8 with
 * the same, within the width of its steps, and with the plain kernel, closely. bf16 in whole
 * numbers keeps a row's numbers to 1/65,000 of the largest of so few. */
static void
check_matmul(const rp_kernels *tier, rp_class class, shape s)
{
    const size_t wide = s.N + 5;
    float *a = make_numbers(s.M * (s.K + 3), 1), *w = make_numbers(s.N * s.K, 1);
    float *start = make_numbers(s.M * wide, 1), *bias = make_numbers(s.N, 1);
    float *out = malloc(s.M * wide * sizeof *out), *plain = malloc(s.M * wide * sizeof *out);
    float *copy = malloc(s.M * (s.K + 3) * sizeof *a);
    memcpy(copy, a, s.M * (s.K + 3) * sizeof *a);
    run_product(tier, class, s, a, w, bias, start, out);
    assert_memory_equal(a, copy, s.M * (s.K + 3) * sizeof *a);
    run_product(rp_kernels_at(0), class, s, a, w, bias, start, plain);
    /* Rounding to a step is off by up to 1/255 of a number of a and 1/254 of w, each way
     * with equal chance: the sum grows with the root of the depth; four deviations. */
    double loose = class == RP_CLASS_INT8 ? 0.012 * sqrt((double)s.K) + 1e-5 : allow(s.K);
    const bool whole = tier->product[class].whole;
    for (size_t n = 0; whole && n < s.N; n++)
        keep_whole(w + n * s.K, s.K);
    if (whole)
        loose = 4e-5 * sqrt((double)s.K) + 1e-5;
    const double near = whole ? INFINITY : 2 * allow(s.K);
    if (s.gelu && class != RP_CLASS_F32)
        loose += class == RP_CLASS_BF16 ? 1.5e-5 : 4e-4; /* these have a coarser one */
    for (size_t m = 0; m < s.M; m++)
        for (size_t n = 0; n < s.N; n++) {
            double sum = bias[n];
            for (size_t k = 0; k < s.K; k++)
                sum += keep(whole ? RP_CLASS_F32 : class, a[m * (s.K + 3) + k]) *
                       keep(whole ? RP_CLASS_F32 : class, w[n * s.K + k]);
            if (s.gelu)
                sum = 0.5 * sum * (1 + erf(sum / sqrt(2)));
            if (s.residual)
                sum += start[m * wide + n];
            const double got = out[m * wide + n], off = fabs(sum - got);
            const double apart = fabs(got - (double)plain[m * wide + n]);
            if (!(off <= loose * (1 + fabs(sum))) || !(apart <= near * (1 + fabs(sum))))
                fail_msg("%s, class %d, %zu x %zu x %zu at %zu, %zu: off by %g, from plain by %g",
                         tier->name, class, s.M, s.N, s.K, m, n, off, apart);
        }
    free(a);
    free(w);
    free(start);
    free(bias);
    free(out);
    free(plain);
    free(copy);
}

static void
test_matmul_of_every_shape(void **state)
{
    (void)state;
    static const size_t columns[] = { 1, 15, 16, 17, 63, 64, 65, 130 };
    static const size_t depths[] = { 1, 2, 24, 65 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (int class = 0; class < RP_CLASSES; class++)
            for (size_t M = 1; M <= 19; M++)
                for (size_t n = 0; n < RP_COUNT(columns); n++)
                    for (size_t k = 0; k < RP_COUNT(depths); k++)
                        check_matmul(rp_kernels_at(at), (rp_class)class,
                                     (shape){ M, columns[n], depths[k], (M + n) % 2, (M + k) % 2,
                                              class == RP_CLASS_INT8 && k > 1 ? (M + k) % 5 : 0 });
}

/* AMX: blocks of rows that overlap, pairs and single ones, whole tiles of depth and, for
 * int8, one that ends within four numbers. Where the processor has no AMX, its code runs on
 * tiles in memory all the same. */
static void
test_tiles_of_every_height(void **state)
{
    (void)state;
    static const size_t columns[] = { 17, 130 }, depths[] = { 63, 128 };
    static const size_t heights[] = { 1, 2, 15, 16, 17, 30, 31, 32, 33, 47, 48, 49 };
    const rp_kernels *ways[2] = { &rp_kernels_amx_emulated, rp_kernels_find("amx") };
    for (size_t way = 0; way < 2 && ways[way]; way++)
        for (size_t h = 0; h < RP_COUNT(heights); h++)
            for (size_t n = 0; n < RP_COUNT(columns); n++)
                for (size_t k = 0; k < RP_COUNT(depths); k++)
                    for (int class = RP_CLASS_BF16; class <= RP_CLASS_INT8; class++)
                        check_matmul(ways[way], (rp_class)class,
                                     (shape){ heights[h], columns[n], depths[k], (h + n) % 2,
                                              (h + k) % 2, class == RP_CLASS_INT8 ? (h + k) % 5 : 0 });
}

/* What benchmarks call 100 %: a tile has 16 * 16 sums of 16 steps of two or four products. */
static void
test_peaks_of_tiles_are_counted(void **state)
{
    (void)state;
    const rp_kernels *ways[2] = { &rp_kernels_amx_emulated, rp_kernels_find("amx") };
    for (size_t way = 0; way < 2 && ways[way]; way++) {
        assert_int_equal(ways[way]->product[RP_CLASS_BF16].peak(3), 3 * 4 * 16 * 16 * 16 * 2 * 2);
        assert_int_equal(ways[way]->product[RP_CLASS_INT8].peak(3), 3 * 4 * 16 * 16 * 16 * 4 * 2);
    }
}

/* The extremes of bytes, and sums near 2^31 where bf16 is whole numbers: a kernel that saturates
 * or wraps is found here. int8 is exact. */
static void
test_whole_numbers_hold_their_extremes(void **state)
{
    (void)state;
    enum { M = 7, N = 20, K = 1536 };
    float *a = malloc(M * (K + 3) * sizeof *a), *w = malloc(N * K * sizeof *w);
    float *start = make_numbers(M * (N + 5), 1), *bias = make_numbers(N, 1);
    float *out = malloc(M * (N + 5) * sizeof *out);
    for (size_t i = 0; i < M * (K + 3); i++)
        a[i] = i % 97 == 0 ? 0 : 255;
    for (size_t i = 0; i < N * K; i++)
        w[i] = i / K % 2 ? -127 : 127;
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (int class = RP_CLASS_BF16; class <= RP_CLASS_INT8; class++) {
            run_product(rp_kernels_at(at), (rp_class)class, (shape){ M, N, K, false, false, 0 }, a, w,
                        bias, start, out);
            const double loose = class == RP_CLASS_INT8 ? 1e-6 : 2e-3; /* steps of 1/675 */
            for (size_t m = 0; m < M; m++)
                for (size_t n = 0; n < N; n++) {
                    double sum = bias[n];
                    for (size_t k = 0; k < K; k++)
                        sum += (double)a[m * (K + 3) + k] * w[n * K + k];
                    assert_true(fabs(sum - (double)out[m * (N + 5) + n]) <= loose * fabs(sum));
                }
        }
    free(a);
    free(w);
    free(start);
    free(bias);
    free(out);
}

static void
test_what_is_not_finite_comes_out_so(void **state)
{
    (void)state;
    enum { M = 7, N = 20, K = 40 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (int class = 0; class < RP_CLASSES; class++)
            for (size_t bad = 0; bad < 2; bad++) {
                float *a = make_numbers(M * (K + 3), 1), *w = make_numbers(N * K, 1);
                float *bias = make_numbers(N, 1), *start = make_numbers(M * (N + 5), 1);
                float *out = malloc(M * (N + 5) * sizeof *out);
                a[2 * (K + 3) + 7] = bad ? INFINITY : NAN;
                w[3 * K + 9] = bad ? -INFINITY : NAN;
                run_product(rp_kernels_at(at), (rp_class)class, (shape){ M, N, K, false, false, 0 },
                            a, w, bias, start, out);
                for (size_t m = 0; m < M; m++)
                    for (size_t n = 0; n < N; n++)
                        assert_int_equal(isfinite(out[m * (N + 5) + n]), m != 2 && n != 3);
                free(a);
                free(w);
                free(bias);
                free(start);
                free(out);
            }
}

static void
test_gelu_over_its_whole_range(void **state)
{
    (void)state;
    enum { COUNT = 4001 };
    float *x = malloc(COUNT * sizeof *x), *out = malloc(COUNT * sizeof *out);
    for (size_t i = 0; i < COUNT; i++)
        x[i] = ((float)i - 2000) / 100;
    for (size_t at = 0; rp_kernels_at(at); at++) {
        const rp_kernels *tier = rp_kernels_at(at);
        _Alignas(64) float weights[RP_PANEL_MAX] = { 1 }, bias[RP_PANEL_MAX] = { 0 };
        const rp_weights by = { .columns = 1, .depth = 1, .values = weights, .bias = bias };
        tier->product[RP_CLASS_F32].matmul(
            &(rp_matmul){ .rows = COUNT, .a = { .values = x, .stride = 4 }, .by = &by,
                          .gelu = true, .out = out, .out_stride = 1 });
        for (size_t i = 0; i < COUNT; i++) {
            const double wanted = 0.5 * (double)x[i] * erfc(-(double)x[i] / sqrt(2));
            /* 1.5e-7 of erf, times half of x, and rounding. */
            assert_true(fabs(wanted - (double)out[i]) <= 2e-7 * (1 + fabs((double)x[i])));
        }
    }
    free(x);
    free(out);
}

/* Vaswani et al., eq. 1, in double precision. */
static void
attend(const rp_attention *task)
{
    const size_t D = task->head_dim, width = task->heads * D, T = task->tokens;
    double *share = malloc(T * sizeof *share);
    for (size_t h = 0; h < task->heads; h++)
        for (size_t t = 0; t < T; t++) {
            const float *query = task->qkv + t * task->qkv_stride + h * D;
            double sum = 0, top = -INFINITY;
            for (size_t j = 0; j < T; j++) {
                const float *key = task->qkv + j * task->qkv_stride + width + h * D;
                share[j] = 0;
                for (size_t d = 0; d < D; d++)
                    share[j] += (double)query[d] * key[d] * (double)task->scale;
                if ((j > t ? j - t : t - j) > task->reach)
                    share[j] = -INFINITY;
                top = fmax(top, share[j]);
            }
            for (size_t j = 0; j < T; j++)
                sum += share[j] = exp(share[j] - top);
            for (size_t d = 0; d < D; d++) {
                double out = 0;
                for (size_t j = 0; j < T; j++)
                    out += share[j] / sum *
                           (double)task->qkv[j * task->qkv_stride + 2 * width + h * D + d];
                task->out[t * task->out_stride + h * D + d] = (float)out;
            }
        }
    free(share);
}

/* With `whole` the attention of 16 bits: what is left out of a number is up to 1/8160 of the largest,
 * of a score sqrt(D) times that of two products, and of a share 1/8192 of the largest. It is the
 * same from every tier, to the bit. */
static void
check_attention(const rp_kernels *tier, bool whole, size_t T, size_t H, size_t D, size_t reach,
                double spread)
{
    const size_t width = H * D, stride = 3 * width + 2;
    float *qkv = make_numbers(T * stride, spread);
    float *wanted = malloc(T * width * sizeof *wanted);
    float *out = malloc(T * (width + 1) * sizeof *out);
    float *scratch = make_numbers(rp_attention_scratch_count(T, D) + 16, 1e30);
    rp_attention task = { .tokens = T, .heads = H, .head_dim = D, .qkv = qkv, .qkv_stride = stride,
                          .scale = 1.0F / sqrtf((float)D), .reach = reach, .out = wanted,
                          .out_stride = width, .scratch = scratch };
    attend(&task);
    for (size_t t = 0; t < T; t++)
        out[t * (width + 1) + width] = FENCE;
    task.out = out;
    task.out_stride = width + 1;
    const size_t fence = rp_attention_scratch_count(T, D);
    for (size_t i = 0; i < 16; i++)
        scratch[fence + i] = FENCE;
    void (*const attention)(const rp_attention *) = whole ? tier->attention16 : tier->attention;
    attention(&task);
    for (size_t i = 0; i < 16; i++)
        assert_true(scratch[fence + i] == FENCE);
    double loose = 4e-6 * spread * (1 + spread * spread);
    if (whole)
        loose = spread * (spread * spread * 1e-3 + 1e-3);
    for (size_t t = 0; t < T; t++) {
        assert_true(out[t * (width + 1) + width] == FENCE);
        for (size_t i = 0; i < width; i++) {
            const double off = fabs((double)wanted[t * width + i] - out[t * (width + 1) + i]);
            /* Scores of spread^2 sqrt(D) carry that many roundings into the exponent. */
            if (!(off <= loose))
                fail_msg("%s %s T %zu D %zu reach %zu: off by %g", tier->name,
                         whole ? "16 bits" : "f32", T, D, reach, off);
        }
    }
    if (whole) {
        float *plain = malloc(T * (width + 1) * sizeof *plain);
        memcpy(plain, out, T * (width + 1) * sizeof *plain);
        task.out = plain;
        rp_kernels_at(0)->attention16(&task);
        assert_memory_equal(plain, out, T * (width + 1) * sizeof *plain);
        free(plain);
    }
    free(qkv);
    free(wanted);
    free(out);
    free(scratch);
}

static void
test_attention_of_every_length(void **state)
{
    (void)state;
    static const size_t dims[] = { 7, 8, 12, 16, 32, 48, 64, 160 };
    static const size_t reaches[] = { 0, 1, 3, 16, SIZE_MAX };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (size_t T = 1; T <= 70; T += T < 20 ? 1 : 7)
            for (size_t d = 0; d < RP_COUNT(dims); d++)
                for (int whole = 0; whole < 2; whole++)
                    check_attention(rp_kernels_at(at), whole, T, 2, dims[d], reaches[(T + d) % 5],
                                    d % 2 ? 1 : 4);
}

/* Keys left and right of the reach of a block of rows are not even multiplied: their
 * borders fall on every place of the padding. */
static void
test_local_attention_over_many_tokens(void **state)
{
    (void)state;
    static const size_t reaches[] = { 5, 16, 31, 64 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (size_t r = 0; r < RP_COUNT(reaches); r++)
            for (size_t T = 150; T < 167; T += 4)
                for (int whole = 0; whole < 2; whole++)
                    check_attention(rp_kernels_at(at), whole, T, 1, r % 2 ? 32 : 16, reaches[r], 1);
}

/* The largest sums that there can be: every product has the same sign, all keys the same score,
 * and there are more of them than a chunk. */
static void
test_sums_of_16_bits_do_not_run_over(void **state)
{
    (void)state;
    static const size_t dims[] = { 7, 32, 64, 128, 160, 512 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (size_t d = 0; d < RP_COUNT(dims); d++) {
            enum { T = 150 };
            const size_t D = dims[d];
            float *qkv = malloc(T * 3 * D * sizeof *qkv), *out = malloc(T * D * sizeof *out);
            float *scratch = make_numbers(rp_attention_scratch_count(T, D), 1);
            for (size_t i = 0; i < T * 3 * D; i++)
                qkv[i] = i % (3 * D) < 2 * D ? 100 : 3;
            rp_kernels_at(at)->attention16(
                &(rp_attention){ .tokens = T, .heads = 1, .head_dim = D, .qkv = qkv,
                                 .qkv_stride = 3 * D, .scale = 1.0F / sqrtf((float)D),
                                 .reach = SIZE_MAX, .out = out, .out_stride = D,
                                 .scratch = scratch });
            for (size_t i = 0; i < T * D; i++)
                assert_true(fabsf(out[i] - 3) < 1e-5F);
            free(qkv);
            free(out);
            free(scratch);
        }
}

static void
test_gate_multiplies_halves(void **state)
{
    (void)state;
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (size_t n = 1; n < 40; n++) {
            enum { ROWS = 3 };
            const size_t stride = 2 * n + 3;
            float *rows = make_numbers(ROWS * stride, 6), *before = malloc(ROWS * stride * sizeof *rows);
            memcpy(before, rows, ROWS * stride * sizeof *rows);
            rp_kernels_at(at)->gate(rows, stride, ROWS, n);
            for (size_t i = 0; i < ROWS * stride; i++) {
                const double x = (double)before[i], other = (double)before[i % stride < n ? i + n : i];
                if (i % stride >= n)
                    assert_true(rows[i] == before[i]);
                else /* as GELU alone, times the other half */
                    assert_true(fabs(0.5 * x * erfc(-x / sqrt(2)) * other - (double)rows[i]) <=
                                3e-7 * (1 + fabs(x)) * (1 + fabs(other)));
            }
            free(rows);
            free(before);
        }
}

static void
test_layer_norm_and_dot(void **state)
{
    (void)state;
    for (size_t at = 0; rp_kernels_at(at); at++) {
        const rp_kernels *tier = rp_kernels_at(at);
        for (size_t n = 1; n <= 200; n++) {
            float *x = make_numbers(3 * n, 5), *gain = make_numbers(n, 1), *bias = make_numbers(n, 1);
            float *out = malloc(3 * n * sizeof *out);
            double product = 0, size = 0;
            for (size_t i = 0; i < n; i++) {
                product += (double)x[i] * x[n + i];
                size += fabs((double)x[i] * x[n + i]);
            }
            assert_true(fabs(product - (double)tier->dot(x, x + n, n)) <= 1e-6 * (size + 1));
            tier->layer_norm(x, 3, n, gain, n % 2 ? bias : NULL, 1e-5F, out);
            for (size_t row = 0; row < 3; row++) {
                double mean = 0, squares = 0;
                for (size_t i = 0; i < n; i++)
                    mean += x[row * n + i] / (double)n;
                for (size_t i = 0; i < n; i++)
                    squares += (x[row * n + i] - mean) * (x[row * n + i] - mean) / (double)n;
                /* Two or three numbers that are nearly the same are multiplied by up to 316,
                 * and with them the rounding of their difference. */
                const double loose = 1e-5 + 2e-6 / sqrt(squares + 1e-5);
                for (size_t i = 0; i < n; i++) {
                    const double wanted = (x[row * n + i] - mean) / sqrt(squares + (double)1e-5F) *
                                              (double)gain[i] + (n % 2 ? (double)bias[i] : 0);
                    assert_true(fabs(wanted - (double)out[row * n + i]) <= loose);
                }
            }
            free(x);
            free(gain);
            free(bias);
            free(out);
        }
    }
}

/* A vector's largest score must not overflow, and what is not finite must be seen: in f32 by
 * the query that has it, in 16 bits by the whole head. */
static void
test_extreme_scores_and_nan(void **state)
{
    (void)state;
    for (size_t i = 0; rp_kernels_at(i / 2); i++) {
        const rp_kernels *tier = rp_kernels_at(i / 2);
        const bool whole = i % 2;
        void (*const attention)(const rp_attention *) = whole ? tier->attention16 : tier->attention;
        enum { T = 5, D = 32 };
        float qkv[T * 3 * D], out[T * D];
        _Alignas(64) float scratch[2048];
        assert_true(rp_attention_scratch_count(T, D) <= RP_COUNT(scratch));
        rp_attention task = { .tokens = T, .heads = 1, .head_dim = D, .qkv = qkv,
                              .qkv_stride = 3 * D, .scale = 0.25F, .reach = SIZE_MAX, .out = out,
                              .out_stride = D, .scratch = scratch };
        for (size_t j = 0; j < RP_COUNT(qkv); j++)
            qkv[j] = j % 2 ? 1e4F : -1e4F;
        attention(&task);
        for (size_t j = 0; j < RP_COUNT(out); j++)
            assert_true(isfinite(out[j]));
        for (size_t bad = 0; bad < 2; bad++) {
            qkv[0] = bad ? -INFINITY : NAN; /* of the first query */
            attention(&task);
            assert_true(isnan(out[0]));
            assert_int_equal(isnan(out[D]), whole);
        }
        memset(qkv, 0, sizeof qkv);
        qkv[3] = qkv[D + 3] = qkv[2 * D + 3] = 1e-40F; /* its inverse is not finite */
        attention(&task);
        for (size_t j = 0; j < RP_COUNT(out); j++)
            assert_true(fabsf(out[j]) <= 1e-35F);
    }
}

static void
test_tiers_are_found_by_name(void **state)
{
    (void)state;
    assert_string_equal(rp_kernels_at(0)->name, "plain");
    for (size_t at = 0; rp_kernels_at(at); at++) {
        assert_ptr_equal(rp_kernels_find(rp_kernels_at(at)->name), rp_kernels_at(at));
        assert_int_equal(setenv("REPRISE_TIER", rp_kernels_at(at)->name, 1), 0);
        assert_ptr_equal(rp_kernels_best(RP_CLASS_F32), rp_kernels_at(at));
    }
    assert_null(rp_kernels_find("abacus"));
    assert_int_equal(setenv("REPRISE_TIER", "abacus", 1), 0);
    for (int class = 0; class < RP_CLASSES; class++)
        assert_non_null(rp_kernels_best((rp_class)class));
    unsetenv("REPRISE_TIER");
}

static int
seed(void **state)
{
    (void)state;
    rp_random_init(&generator, 7);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_of_every_shape),
        cmocka_unit_test(test_tiles_of_every_height),
        cmocka_unit_test(test_peaks_of_tiles_are_counted),
        cmocka_unit_test(test_whole_numbers_hold_their_extremes),
        cmocka_unit_test(test_what_is_not_finite_comes_out_so),
        cmocka_unit_test(test_gelu_over_its_whole_range),
        cmocka_unit_test(test_attention_of_every_length),
        cmocka_unit_test(test_local_attention_over_many_tokens),
        cmocka_unit_test(test_sums_of_16_bits_do_not_run_over),
        cmocka_unit_test(test_gate_multiplies_halves),
        cmocka_unit_test(test_layer_norm_and_dot),
        cmocka_unit_test(test_extreme_scores_and_nan),
        cmocka_unit_test(test_tiers_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
