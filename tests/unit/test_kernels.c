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

static void
check_matmul(const rp_kernels *tier, size_t M, size_t N, size_t K, bool gelu, bool residual)
{
    float *a = make_numbers(M * (K + 3), 1), *w = make_numbers(N * K, 1);
    float *start = make_numbers(M * (N + 5), 1), *raw_bias = make_numbers(N, 1);
    const size_t padded = rp_packed_count(N, 1, tier->panel);
    float *packed = aligned_alloc(64, (padded * K * sizeof(float) + 63) / 64 * 64);
    float *bias = aligned_alloc(64, (padded * sizeof(float) + 63) / 64 * 64);
    float *out = malloc(M * (N + 5) * sizeof *out);
    memset(packed, 0, padded * K * sizeof *packed);
    memset(bias, 0, padded * sizeof *bias);
    memcpy(bias, raw_bias, N * sizeof *bias);
    /* In two pieces that meet in the middle of a panel. */
    rp_pack(w, N / 3, K, 0, tier->panel, packed);
    rp_pack(w + N / 3 * K, N - N / 3, K, N / 3, tier->panel, packed);
    memcpy(out, start, M * (N + 5) * sizeof *out);
    for (size_t m = 0; m < M; m++)
        for (size_t n = N; n < N + 5; n++)
            out[m * (N + 5) + n] = FENCE;
    tier->matmul(&(rp_matmul){ .rows = M, .columns = N, .depth = K, .a = a, .a_stride = K + 3,
                               .weights = packed, .bias = bias, .residual = residual ? out : NULL,
                               .residual_stride = N + 5, .gelu = gelu, .out = out,
                               .out_stride = N + 5 });
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N + 5; n++) {
            if (n >= N) {
                assert_true(out[m * (N + 5) + n] == FENCE);
                continue;
            }
            double sum = raw_bias[n];
            for (size_t k = 0; k < K; k++)
                sum += (double)a[m * (K + 3) + k] * w[n * K + k];
            if (gelu)
                sum = 0.5 * sum * (1 + erf(sum / sqrt(2)));
            if (residual)
                sum += start[m * (N + 5) + n];
            const double off = fabs(sum - (double)out[m * (N + 5) + n]);
            if (!(off <= allow(K) * (1 + fabs(sum))))
                fail_msg("%s %zu x %zu x %zu at %zu, %zu: off by %g", tier->name, M, N, K, m, n, off);
        }
    free(a);
    free(w);
    free(start);
    free(raw_bias);
    free(packed);
    free(bias);
    free(out);
}

static void
test_matmul_of_every_shape(void **state)
{
    (void)state;
    static const size_t columns[] = { 1, 15, 16, 17, 63, 64, 65, 130 };
    static const size_t depths[] = { 1, 2, 24, 65 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (size_t M = 1; M <= 19; M++)
            for (size_t n = 0; n < RP_COUNT(columns); n++)
                for (size_t k = 0; k < RP_COUNT(depths); k++)
                    check_matmul(rp_kernels_at(at), M, columns[n], depths[k], (M + n) % 2,
                                 (M + k) % 2);
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
        tier->matmul(&(rp_matmul){ .rows = COUNT, .columns = 1, .depth = 1, .a = x, .a_stride = 1,
                                   .weights = weights, .bias = bias, .gelu = true, .out = out,
                                   .out_stride = 1 });
        for (size_t i = 0; i < COUNT; i++) {
            const double wanted = 0.5 * (double)x[i] * erfc(-(double)x[i] / sqrt(2));
            /* 1.5e-7 of erf, times half of x, and rounding. */
            assert_true(fabs(wanted - (double)out[i]) <= 2e-7 * (1 + fabs((double)x[i])));
        }
    }
    free(x);
    free(out);
}

static void
check_attention(const rp_kernels *tier, size_t T, size_t H, size_t D, size_t reach, double spread)
{
    const size_t width = H * D, stride = 3 * width + 2;
    float *qkv = make_numbers(T * stride, spread);
    float *wanted = malloc(T * width * sizeof *wanted);
    float *out = malloc(T * (width + 1) * sizeof *out);
    float *scratch = make_numbers(rp_attention_scratch_count(T, D) + 16, 1e30);
    rp_attention task = { .tokens = T, .heads = H, .head_dim = D, .qkv = qkv, .qkv_stride = stride,
                          .scale = 1.0F / sqrtf((float)D), .reach = reach, .out = wanted,
                          .out_stride = width, .scratch = scratch };
    rp_kernels_find("plain")->attention(&task);
    for (size_t t = 0; t < T; t++)
        out[t * (width + 1) + width] = FENCE;
    task.out = out;
    task.out_stride = width + 1;
    const size_t fence = rp_attention_scratch_count(T, D);
    for (size_t i = 0; i < 16; i++)
        scratch[fence + i] = FENCE;
    tier->attention(&task);
    for (size_t i = 0; i < 16; i++)
        assert_true(scratch[fence + i] == FENCE);
    for (size_t t = 0; t < T; t++) {
        assert_true(out[t * (width + 1) + width] == FENCE);
        for (size_t i = 0; i < width; i++) {
            const double off = fabs((double)wanted[t * width + i] - out[t * (width + 1) + i]);
            /* Scores of spread^2 sqrt(D) carry that many roundings into the exponent. */
            if (!(off <= 4e-6 * spread * (1 + spread * spread)))
                fail_msg("%s T %zu D %zu reach %zu: off by %g", tier->name, T, D, reach, off);
        }
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
    static const size_t dims[] = { 8, 12, 16, 32, 64 };
    static const size_t reaches[] = { 0, 1, 3, 16, SIZE_MAX };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (size_t T = 1; T <= 70; T += T < 20 ? 1 : 7)
            for (size_t d = 0; d < RP_COUNT(dims); d++)
                check_attention(rp_kernels_at(at), T, 2, dims[d], reaches[(T + d) % 5],
                                d % 2 ? 1 : 4);
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
                for (size_t i = 0; i < n; i++) {
                    const double wanted = (x[row * n + i] - mean) / sqrt(squares + (double)1e-5F) *
                                              (double)gain[i] + (n % 2 ? (double)bias[i] : 0);
                    assert_true(fabs(wanted - (double)out[row * n + i]) <= 1e-5);
                }
            }
            free(x);
            free(gain);
            free(bias);
            free(out);
        }
    }
}

/* A vector's largest score must not overflow, and what is not finite must be seen. */
static void
test_extreme_scores_and_nan(void **state)
{
    (void)state;
    for (size_t at = 0; rp_kernels_at(at); at++) {
        const rp_kernels *tier = rp_kernels_at(at);
        enum { T = 5, D = 16 };
        float qkv[T * 3 * D], out[T * D];
        _Alignas(64) float scratch[1024];
        assert_true(rp_attention_scratch_count(T, D) <= RP_COUNT(scratch));
        rp_attention task = { .tokens = T, .heads = 1, .head_dim = D, .qkv = qkv,
                              .qkv_stride = 3 * D, .scale = 0.25F, .reach = SIZE_MAX, .out = out,
                              .out_stride = D, .scratch = scratch };
        for (size_t i = 0; i < RP_COUNT(qkv); i++)
            qkv[i] = i % 2 ? 1e4F : -1e4F;
        tier->attention(&task);
        for (size_t i = 0; i < RP_COUNT(out); i++)
            assert_true(isfinite(out[i]));
        qkv[0] = NAN; /* of the first query */
        tier->attention(&task);
        assert_true(isnan(out[0]));
        assert_false(isnan(out[D]));
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
        assert_ptr_equal(rp_kernels_best(), rp_kernels_at(at));
    }
    assert_null(rp_kernels_find("abacus"));
    assert_int_equal(setenv("REPRISE_TIER", "abacus", 1), 0);
    assert_non_null(rp_kernels_best());
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
        cmocka_unit_test(test_gelu_over_its_whole_range),
        cmocka_unit_test(test_attention_of_every_length),
        cmocka_unit_test(test_layer_norm_and_dot),
        cmocka_unit_test(test_extreme_scores_and_nan),
        cmocka_unit_test(test_tiers_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
