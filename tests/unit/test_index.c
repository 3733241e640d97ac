/* test_index.c - the index returns what an exact search over a plain list returns.
 *
 * What could go wrong: a neighbor of another scope, a removed one, a lost one after
 * removals moved vectors about, a wrong order of equals. A random sequence of
 * additions, removals and searches is replayed on a plain array, the oracle; the
 * seed is fixed and printed. */
#include "base/random.h"
#include "index/index_internal.h"
#include "math/scan.h"
#include "test_support.h"

#include <math.h>
#include <pthread.h>
#include <reprise/index.h>
#include <sched.h>
#include <stdatomic.h>

enum { DIM = 24, ENTRIES_MAX = 400, SCOPES = 5 };

typedef struct oracle_row {
    rp_entry_id id; /* 0: free */
    unsigned scope;
    float vector[DIM];
} oracle_row;

static rp_scope
scope_of(unsigned number)
{
    rp_scope scope = { { 0 } };
    scope.bytes[0] = (uint8_t)number; /* all in few buckets: collisions are wanted */
    scope.bytes[31] = (uint8_t)(number >> 1);
    return scope;
}

static void
draw_unit(rp_random *random, float *out)
{
    double sum = 0;
    for (int i = 0; i < DIM; i++) {
        out[i] = (float)rp_random_normal(random);
        sum += (double)out[i] * out[i];
    }
    for (int i = 0; i < DIM; i++)
        out[i] = (float)(out[i] / sqrt(sum));
}

static int
compare_neighbors(const void *a, const void *b)
{
    const rp_neighbor *x = a, *y = b;
    if (x->similarity != y->similarity)
        return x->similarity > y->similarity ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t
search_oracle(const oracle_row *rows, size_t count, unsigned scope, const float *query,
              rp_neighbor *out)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (!rows[i].id || rows[i].scope != scope)
            continue;
        double sum = 0;
        for (int j = 0; j < DIM; j++)
            sum += (double)query[j] * rows[i].vector[j];
        out[found++] = (rp_neighbor){ rows[i].id, (float)sum };
    }
    qsort(out, found, sizeof *out, compare_neighbors);
    return found;
}

static void
test_a_random_life_equals_exact_search(void **state)
{
    (void)state;
    const uint64_t seed = 20260101;
    print_message("seed %llu\n", (unsigned long long)seed);
    rp_random random;
    rp_random_init(&random, seed);
    rp_index *index;
    assert_int_equal(rp_index_new(&(rp_index_options){ .dim = DIM, .count_max = ENTRIES_MAX }, &index), RP_OK);
    static oracle_row rows[ENTRIES_MAX];
    rp_entry_id next_id = 1;
    size_t live = 0;
    for (int step = 0; step < 6000; step++) {
        oracle_row *row = &rows[rp_random_below(&random, ENTRIES_MAX)];
        if (!row->id) {
            *row = (oracle_row){ .id = next_id++, .scope = (unsigned)rp_random_below(&random, SCOPES) };
            draw_unit(&random, row->vector);
            assert_int_equal(rp_index_add(index, scope_of(row->scope), row->id, row->vector), RP_OK);
            live++;
        } else if (rp_random_below(&random, 2)) {
            assert_true(rp_index_remove(index, row->id));
            assert_false(rp_index_remove(index, row->id));
            row->id = 0;
            live--;
        }
        assert_int_equal(rp_index_count(index), live);
        if (step % 20)
            continue;
        float query[DIM];
        draw_unit(&random, query);
        const unsigned scope = (unsigned)rp_random_below(&random, SCOPES);
        rp_neighbor expected[ENTRIES_MAX], got[7];
        const size_t all = search_oracle(rows, ENTRIES_MAX, scope, query, expected);
        const size_t found = rp_index_search(index, scope_of(scope), query, 7, got);
        assert_int_equal(found, RP_MIN(all, (size_t)7));
        for (size_t i = 0; i < found; i++) {
            assert_int_equal(got[i].id, expected[i].id);
            /* 24 products in another order: a few units in the last place of 1. */
            assert_true(fabsf(got[i].similarity - expected[i].similarity) < 1e-5f);
        }
    }
    rp_index_free(index);
}

/* Vectors as encoders make them: topics, phrasings of a topic, an offset that all
 * share (so that uncentred sign bits would say little). */
static void
draw_clustered(rp_random *random, uint64_t topic, size_t dim, float *out)
{
    rp_random of_topic;
    rp_random_init(&of_topic, topic);
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        out[i] = (float)((i % 7 == 0 ? 1.5 : 0) + rp_random_normal(&of_topic) +
                         0.35 * rp_random_normal(random));
        sum += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)(out[i] / sqrt(sum));
}

enum { BIG_DIM = 384, BIG_COUNT = 6000, BIG_TOPICS = 600 };

static float
exact_similarity(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < BIG_DIM; i++)
        sum += (double)a[i] * b[i];
    return (float)sum;
}

/* One scope that grows past the sieve's start, a new center and several chunks; then
 * half is removed and as many come again into the freed slots. */
static void
check_large_scope(bool without_originals, float tolerance)
{
    rp_random random;
    rp_random_init(&random, 99);
    float *vectors = malloc((size_t)BIG_COUNT * BIG_DIM * sizeof *vectors);
    bool *gone = calloc(BIG_COUNT + 1, sizeof *gone);
    assert_true(vectors && gone);
    rp_index *index;
    const rp_index_options options = { .dim = BIG_DIM, .count_max = BIG_COUNT, .searchers_max = 2,
                                       .without_originals = without_originals };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    for (size_t i = 0; i < BIG_COUNT; i++) {
        draw_clustered(&random, 1000 + rp_random_below(&random, BIG_TOPICS), BIG_DIM, vectors + i * BIG_DIM);
        assert_int_equal(rp_index_add(index, scope_of(3), i + 1, vectors + i * BIG_DIM), RP_OK);
    }
    const size_t size_full = rp_index_size_bytes(index);
    for (size_t i = 1; i < BIG_COUNT; i += 2) {
        assert_true(rp_index_remove(index, i + 1));
        gone[i] = true;
    }
    for (size_t i = 1; i < BIG_COUNT / 2; i += 2) {
        assert_int_equal(rp_index_add(index, scope_of(3), i + 1, vectors + i * BIG_DIM), RP_OK);
        gone[i] = false;
    }
    assert_true(rp_index_size_bytes(index) < size_full + (256 << 10)); /* slots are used again */
    size_t right = 0;
    for (size_t q = 0; q < 200; q++) {
        float query[BIG_DIM];
        draw_clustered(&random, 1000 + rp_random_below(&random, BIG_TOPICS), BIG_DIM, query);
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < BIG_COUNT; i++)
            if (!gone[i] && (best == SIZE_MAX || exact_similarity(query, vectors + i * BIG_DIM) >
                                                     exact_similarity(query, vectors + best * BIG_DIM)))
                best = i;
        rp_neighbor got[4];
        assert_int_equal(rp_index_search(index, scope_of(3), query, 4, got), 4);
        right += got[0].id == best + 1;
        for (int j = 0; j < 4; j++) {
            assert_false(gone[got[j].id - 1]);
            const float exact = exact_similarity(query, vectors + (got[j].id - 1) * BIG_DIM);
            assert_true(fabsf(got[j].similarity - exact) < tolerance);
        }
    }
    /* With the seeds above the sieve finds all; three are left for another tier's
     * rounding of the codes. */
    assert_true(right >= (without_originals ? 180 : 197));
    rp_index_free(index);
    free(vectors);
    free(gone);
}

static void
test_a_large_scope_finds_the_nearest_and_nothing_removed(void **state)
{
    (void)state;
    check_large_scope(false, 1e-5f); /* 384 products in another order */
    check_large_scope(true, 4e-3f);  /* codes: half a step of 1/127 of the largest number,
                                        384 independent errors, five deviations */
}

/* Numbers that are 0 for most vectors, as behind a rectifier: after centring a few of the signs
 * are set, so that two vectors agree in most whatever their angle. */
static void
draw_rectified(rp_random *random, uint64_t topic, float *out)
{
    rp_random of_topic;
    rp_random_init(&of_topic, topic);
    double sum = 0;
    for (size_t i = 0; i < BIG_DIM; i++) {
        const double x = rp_random_normal(&of_topic) + 0.5 * rp_random_normal(random) - 2.2;
        out[i] = (float)RP_MAX(x, 0.0);
        sum += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < BIG_DIM; i++)
        out[i] = (float)(out[i] / sqrt(sum));
}

/* How unequal the signs of a number are after centring, on average over all numbers. */
static double
imbalance_of(const float *vectors, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < BIG_DIM; i++) {
        double mean = 0, above = 0;
        for (size_t v = 0; v < count; v++)
            mean += vectors[v * BIG_DIM + i] / (double)count;
        for (size_t v = 0; v < count; v++)
            above += vectors[v * BIG_DIM + i] > mean;
        sum += fabs(2 * above / (double)count - 1);
    }
    return sum / BIG_DIM;
}

static void
test_a_rotation_keeps_angles_and_balances_signs(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    rp_random random;
    rp_random_init(&random, 20260109);
    float *plain = malloc(COUNT * BIG_DIM * sizeof *plain), *rotated = malloc(COUNT * BIG_DIM * sizeof *plain);
    assert_true(plain && rotated);
    for (size_t i = 0; i < COUNT; i++) {
        draw_rectified(&random, i, plain + i * BIG_DIM);
        rp_rotate(plain + i * BIG_DIM, BIG_DIM, rotated + i * BIG_DIM);
        const size_t other = rp_random_below(&random, i + 1);
        assert_true(fabsf(exact_similarity(plain + i * BIG_DIM, plain + other * BIG_DIM) -
                          exact_similarity(rotated + i * BIG_DIM, rotated + other * BIG_DIM)) < 1e-5f);
    }
    const double before = imbalance_of(plain, COUNT), after = imbalance_of(rotated, COUNT);
    print_message("imbalance %.2f, rotated %.2f\n", before, after);
    assert_true(before > 0.5 && after < 0.1);
    free(plain);
    free(rotated);
    for (size_t dim = 1; dim < 70; dim++) { /* any dim, nothing beside it */
        float x[70], length = 0, turned_length = 0;
        for (size_t i = 0; i < dim; i++) {
            x[i] = (float)rp_random_normal(&random);
            length += x[i] * x[i];
        }
        float *turned = malloc(dim * sizeof *turned); /* as long as the sanitizer thinks */
        assert_non_null(turned);
        rp_rotate(x, dim, turned);
        for (size_t i = 0; i < dim; i++)
            turned_length += turned[i] * turned[i];
        assert_true(fabsf(length - turned_length) < 1e-4f * length);
        free(turned);
    }
}

static uint32_t
signs_that_differ(const shape *s, const center *of, const float *a, const float *b)
{
    uint64_t x[BIG_DIM / 64], y[BIG_DIM / 64];
    uint32_t differ = 0;
    rp_signs(s, of, a, x);
    rp_signs(s, of, b, y);
    for (size_t w = 0; w < BIG_DIM / 64; w++)
        differ += (uint32_t)__builtin_popcountll(x[w] ^ y[w]);
    return differ;
}

/* What the rotation is for: of vectors whose signs are unbalanced, many look as near as the
 * nearest does by its signs, and each of those would have to be weighed. */
static void
test_a_rotation_leaves_fewer_to_weigh(void **state)
{
    (void)state;
    enum { COUNT = 2000, QUERIES = 100 };
    rp_random random;
    rp_random_init(&random, 20260112);
    const shape s = { .dim = BIG_DIM, .words = BIG_DIM / 64, .kernels = rp_scan_best() };
    float *vectors = malloc((size_t)COUNT * BIG_DIM * sizeof *vectors), query[BIG_DIM];
    center *centers[2];
    assert_non_null(vectors);
    for (size_t i = 0; i < COUNT; i++)
        draw_rectified(&random, 1000 + rp_random_below(&random, BIG_TOPICS), vectors + i * BIG_DIM);
    for (int rotated = 0; rotated < 2; rotated++) {
        centers[rotated] = calloc(1, sizeof **centers + BIG_DIM * sizeof(float));
        assert_non_null(centers[rotated]);
        centers[rotated]->rotated = rotated;
        for (size_t i = 0; i < (size_t)COUNT * BIG_DIM; i++)
            centers[0]->mean[i % BIG_DIM] += rotated ? 0 : vectors[i] / COUNT;
    }
    rp_rotate(centers[0]->mean, BIG_DIM, centers[1]->mean);
    size_t nearer[2] = { 0, 0 };
    for (size_t q = 0; q < QUERIES; q++) {
        draw_rectified(&random, 1000 + rp_random_below(&random, BIG_TOPICS), query);
        const float *nearest = vectors;
        for (size_t i = 1; i < COUNT; i++)
            if (exact_similarity(query, vectors + i * BIG_DIM) > exact_similarity(query, nearest))
                nearest = vectors + i * BIG_DIM;
        for (int rotated = 0; rotated < 2; rotated++) {
            const uint32_t differ = signs_that_differ(&s, centers[rotated], query, nearest);
            for (size_t i = 0; i < COUNT; i++)
                nearer[rotated] += signs_that_differ(&s, centers[rotated], query, vectors + i * BIG_DIM) < differ;
        }
    }
    print_message("nearer by signs than the nearest is: %.2f vectors, rotated %.2f\n",
                  (double)nearer[0] / QUERIES, (double)nearer[1] / QUERIES);
    assert_true(nearer[1] * 2 < nearer[0]); /* measured; the seed is fixed */
    for (int rotated = 0; rotated < 2; rotated++)
        free(centers[rotated]);
    free(vectors);
}

static void
test_unbalanced_signs_are_balanced_by_a_rotation(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 20260108);
    rp_index *rectified, *ordinary;
    const rp_index_options options = { .dim = BIG_DIM, .count_max = BIG_COUNT, .searchers_max = 1 };
    assert_int_equal(rp_index_new(&options, &rectified), RP_OK);
    assert_int_equal(rp_index_new(&options, &ordinary), RP_OK);
    float vector[BIG_DIM];
    for (size_t i = 0; i < BIG_COUNT; i++) {
        draw_rectified(&random, 1000 + rp_random_below(&random, BIG_TOPICS), vector);
        assert_int_equal(rp_index_add(rectified, scope_of(3), i + 1, vector), RP_OK);
        draw_clustered(&random, 1000 + rp_random_below(&random, BIG_TOPICS), BIG_DIM, vector);
        assert_int_equal(rp_index_add(ordinary, scope_of(3), i + 1, vector), RP_OK);
    }
    assert_true(rp_index_rotates(rectified));
    assert_false(rp_index_rotates(ordinary)); /* what balanced signs need not pay for */
    size_t right = 0;
    for (size_t q = 0; q < 200; q++) {
        rp_neighbor near, exact;
        draw_rectified(&random, 1000 + rp_random_below(&random, BIG_TOPICS), vector);
        assert_int_equal(rp_index_search(rectified, scope_of(3), vector, 1, &near), 1);
        assert_int_equal(rp_index_search_exact(rectified, scope_of(3), vector, 1, &exact), 1);
        right += near.id == exact.id;
    }
    print_message("%zu of 200 found\n", right);
    assert_true(right >= 195);
    rp_index_free(rectified);
    rp_index_free(ordinary);
}

static void
test_every_kernel_tier_agrees_with_the_plain_one(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 5);
    static const size_t words[] = { 1, 6, 7, 12, 64 };
    const rp_scan_kernels *plain = rp_scan_at(0), *tier;
    for (size_t at = 1; (tier = rp_scan_at(at)); at++) {
        print_message("tier %s\n", tier->name);
        for (size_t i = 0; i < RP_COUNT(words); i++) {
            enum { BLOCKS = 37 };
            uint64_t blocks[BLOCKS * 64 * 8], query[64];
            const size_t words_first = (words[i] + 1) / 2, words_rest = words[i] - words_first;
            const size_t size = BLOCKS * words[i] * 8 * sizeof *blocks;
            for (size_t w = 0; w < size / 8; w++)
                blocks[w] = rp_random_next(&random);
            for (size_t w = 0; w < words[i]; w++)
                query[w] = rp_random_next(&random);
            const uint64_t *guarded = (const uint64_t *)rp_test_guarded(blocks, size);
            const uint64_t *rest = guarded + BLOCKS * words_first * 8;
            for (uint32_t limit = 0; limit < words[i] * 64 + 2; limit += 7) {
                const rp_sieve_query asked = { query, words_first, words_rest,
                                               (limit + limit % 5) * 3 / 5, limit };
                for (size_t room = 8; room < 400; room += 61) {
                    rp_sieve_hit a[400], b[400];
                    size_t done_a = 0, done_b = 0;
                    const size_t n = plain->sieve(guarded, rest, BLOCKS, &asked, 64, a, room, &done_a);
                    const size_t m = tier->sieve(guarded, rest, BLOCKS, &asked, 64, b, room, &done_b);
                    assert_int_equal(n, m);
                    assert_int_equal(done_a, done_b);
                    if (n)
                        assert_memory_equal(a, b, n * sizeof *a);
                }
            }
        }
        for (size_t n = 16; n <= 784; n += 48) {
            float x[784], y[784];
            int8_t codes[784];
            for (size_t i = 0; i < n; i++) {
                x[i] = (float)rp_random_normal(&random);
                y[i] = (float)rp_random_normal(&random);
                codes[i] = (int8_t)rp_random_below(&random, 255);
            }
            const float *gx = (const float *)rp_test_guarded(x, n * sizeof *x);
            const int8_t *gc = (const int8_t *)rp_test_guarded(codes, n);
            /* Sums of n terms in another order: n units in the last place of the sum of sizes. */
            assert_true(fabsf(plain->dot_codes(gx, gc, n) - tier->dot_codes(gx, gc, n)) < (float)n * 0.02f);
            int8_t rows[5 * 784], asked[784];
            int32_t sums_a[5], sums_b[5];
            for (size_t i = 0; i < 5 * n; i++)
                rows[i] = (int8_t)rp_random_below(&random, 256);
            for (size_t i = 0; i < n; i++) /* all extremes at times */
                asked[i] = n % 96 ? (int8_t)rp_random_below(&random, 256) : -128;
            const int8_t *gr = (const int8_t *)rp_test_guarded(rows, 5 * n);
            plain->dots_of_codes(asked, gr, 5, n, sums_a);
            tier->dots_of_codes(asked, gr, 5, n, sums_b);
            assert_memory_equal(sums_a, sums_b, sizeof sums_a);
            for (size_t m = n - 15; m <= n; m++) {
                const float *gm = (const float *)rp_test_guarded(x + n - m, m * sizeof *x);
                const float *gv = (const float *)rp_test_guarded(y + n - m, m * sizeof *y);
                uint64_t signs_a[13], signs_b[13];
                int8_t *codes_a = (int8_t *)rp_test_guarded(codes, m), *codes_b = (int8_t *)rp_test_guarded(codes, m);
                plain->signs(gv, gm, m, signs_a);
                tier->signs(gv, gm, m, signs_b);
                assert_memory_equal(signs_a, signs_b, (m + 63) / 64 * 8);
                assert_true(plain->codes(gv, m, codes_a) == tier->codes(gv, m, codes_b));
                assert_memory_equal(codes_a, codes_b, m);
                assert_true(fabs(plain->square(gv, m) - tier->square(gv, m)) < (double)m * 1e-12);
                const float *gy = (const float *)rp_test_guarded(y + n - m, m * sizeof *y);
                const float *gz = (const float *)rp_test_guarded(x + n - m, m * sizeof *x);
                assert_true(fabsf(plain->dot(gz, gy, m) - tier->dot(gz, gy, m)) < (float)n * 1e-5f);
            }
        }
    }
}

static void
test_scopes_of_one_entry_stay_small(void **state)
{
    (void)state;
    enum { SCOPES_MANY = 100000 };
    rp_index *index;
    const rp_index_options options = { .dim = 384, .count_max = SCOPES_MANY, .searchers_max = 1,
                                       .without_originals = true };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    const size_t before = rp_index_size_bytes(index);
    float vector[384] = { 1 };
    for (uint32_t i = 0; i < SCOPES_MANY; i++) {
        rp_scope scope = { { 0 } };
        rp_store_le32(scope.bytes, i * 2654435761u);
        rp_store_le32(scope.bytes + 28, i);
        assert_int_equal(rp_index_add(index, scope, i + 1, vector), RP_OK);
    }
    const size_t each = (rp_index_size_bytes(index) - before) / SCOPES_MANY;
    print_message("%zu bytes a scope of one entry, 388 of them its codes and scale\n", each);
    assert_true(each <= 388 + 8 + 128); /* codes, scale, id; 128 for the scope and its table cells */
    for (uint32_t i = 0; i < SCOPES_MANY; i++)
        assert_true(rp_index_remove(index, i + 1));
    assert_int_equal(rp_index_count(index), 0);
    rp_index_free(index);
}

static void
test_bad_vectors_and_limits_are_refused(void **state)
{
    (void)state;
    rp_index *index;
    assert_int_equal(rp_index_new(&(rp_index_options){ .count_max = 1 }, &index), RP_ERR_INVALID);
    assert_int_equal(rp_index_new(&(rp_index_options){ .dim = DIM, .count_max = 1, .searchers_max = 1 }, &index), RP_OK);
    float vector[DIM] = { 1 };
    vector[1] = NAN;
    assert_int_equal(rp_index_add(index, scope_of(0), 1, vector), RP_ERR_INVALID);
    vector[1] = INFINITY;
    assert_int_equal(rp_index_add(index, scope_of(0), 1, vector), RP_ERR_INVALID);
    vector[1] = 0.1f;
    assert_int_equal(rp_index_add(index, scope_of(0), 1, vector), RP_ERR_INVALID);
    vector[1] = 0;
    assert_int_equal(rp_index_add(index, scope_of(0), 0, vector), RP_ERR_INVALID);
    assert_int_equal(rp_index_add(index, scope_of(0), 1, vector), RP_OK);
    assert_int_equal(rp_index_add(index, scope_of(0), 2, vector), RP_ERR_LIMIT);
    assert_true(rp_index_remove(index, 1));
    rp_index_free(index);
    assert_int_equal(rp_index_new(&(rp_index_options){ .dim = DIM, .count_max = 2 }, &index), RP_OK);
    assert_int_equal(rp_index_add(index, scope_of(0), 1, vector), RP_OK);
    assert_int_equal(rp_index_add(index, scope_of(1), 1, vector), RP_ERR_EXISTS);
    rp_neighbor got[1];
    assert_int_equal(rp_index_search(index, scope_of(1), vector, 1, got), 0);
    assert_int_equal(rp_index_search(index, scope_of(0), vector, 0, got), 0);
    rp_index_free(index);
}

static void
test_equals_come_in_order_of_their_ids(void **state)
{
    (void)state;
    rp_index *index;
    assert_int_equal(rp_index_new(&(rp_index_options){ .dim = DIM, .count_max = 10 }, &index), RP_OK);
    float vector[DIM] = { 1 };
    static const rp_entry_id ids[] = { 5, 2, 9, 1 };
    for (size_t i = 0; i < RP_COUNT(ids); i++)
        assert_int_equal(rp_index_add(index, scope_of(0), ids[i], vector), RP_OK);
    rp_neighbor got[3];
    assert_int_equal(rp_index_search(index, scope_of(0), vector, 3, got), 3);
    assert_int_equal(got[0].id, 1);
    assert_int_equal(got[1].id, 2);
    assert_int_equal(got[2].id, 5);
    rp_index_free(index);
}

/* Eight at once must find what each finds alone: in one scope, in several, with fewer
 * searchers than queries, through lists. */
static void
check_together(size_t searchers_max, size_t lists_from)
{
    enum { COUNT = 5000, TOGETHER = 21 };
    rp_random random;
    rp_random_init(&random, 20260106);
    rp_index *index;
    const rp_index_options options = { .dim = 128, .count_max = COUNT, .searchers_max = searchers_max,
                                       .lists_from = lists_from };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    float vector[128];
    for (size_t i = 0; i < COUNT; i++) {
        draw_clustered(&random, 3000 + rp_random_below(&random, 300), 128, vector);
        assert_int_equal(rp_index_add(index, scope_of(i % 16 == 0 ? 2 : 1), i + 1, vector), RP_OK);
    }
    assert_true((lists_from == SIZE_MAX) == (rp_index_lists(index) == 0));
    static float asked[TOGETHER][128];
    static rp_neighbor together[TOGETHER][5], alone[5];
    rp_index_query queries[TOGETHER];
    for (size_t i = 0; i < TOGETHER; i++) {
        draw_clustered(&random, 3000 + rp_random_below(&random, 300), 128, asked[i]);
        queries[i] = (rp_index_query){ .scope = scope_of((unsigned)(i % 5 == 4 ? 3 : 1 + i % 3 / 2)),
                                       .vector = asked[i], .k = i % 6, .out = together[i] };
    }
    rp_index_search_many(index, queries, TOGETHER);
    size_t found_all = 0;
    for (size_t i = 0; i < TOGETHER; i++) {
        const size_t found = rp_index_search(index, queries[i].scope, asked[i], i % 6, alone);
        assert_int_equal(queries[i].found, found);
        for (size_t j = 0; j < found; j++) {
            assert_int_equal(together[i][j].id, alone[j].id);
            assert_true(together[i][j].similarity == alone[j].similarity);
        }
        found_all += found;
    }
    assert_true(found_all > TOGETHER);
    rp_index_free(index);
}

static void
test_searches_together_find_what_each_finds_alone(void **state)
{
    (void)state;
    check_together(8, SIZE_MAX);
    check_together(3, SIZE_MAX);
    check_together(1, SIZE_MAX);
    check_together(8, 2048);
}

typedef struct search_load {
    rp_index *index;
    const float *query;
    _Atomic bool *done; /* NULL: after a number of searches */
} search_load;

static void *
search_many_times(void *context)
{
    const search_load *load = context;
    for (int i = 0; i < 2000; i++) {
        rp_neighbor got[4];
        const size_t found = rp_index_search(load->index, scope_of(1), load->query, 4, got);
        /* Entry 1 is never removed and equals the query, so it is always first. */
        assert_true(found >= 1 && got[0].id == 1);
    }
    return NULL;
}

static void
test_searches_go_on_while_entries_come_and_go(void **state)
{
    (void)state;
    rp_index *index;
    rp_random random;
    rp_random_init(&random, 7);
    assert_int_equal(rp_index_new(&(rp_index_options){ .dim = DIM, .count_max = 1000, .searchers_max = 4 }, &index), RP_OK);
    float query[DIM], other[DIM];
    draw_unit(&random, query);
    assert_int_equal(rp_index_add(index, scope_of(1), 1, query), RP_OK);
    search_load load = { index, query, NULL };
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, search_many_times, &load), 0);
    for (rp_entry_id id = 2; id < 900; id++) {
        draw_unit(&random, other);
        assert_int_equal(rp_index_add(index, scope_of(id % 3), id, other), RP_OK);
        if (id % 2 == 0)
            assert_true(rp_index_remove(index, id));
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    rp_index_free(index);
}

/* Inverted lists. What could go wrong: a vector that is in no list, or in two, after lists
 * were made, grew, were split or dropped; a removed one that a list still names after its
 * slot was used again. While a scope holds at most 4,096 vectors a search looks at all
 * lists, so a vector that is looked for must find itself, always. */
enum { LISTS_DIM = 128, LISTS_LIVE = 4000, LISTS_TOPICS = 40 };

typedef struct listed_row {
    rp_entry_id id; /* 0: free */
    float vector[LISTS_DIM];
} listed_row;

/* Later on all vectors are of one new topic, 3,000 of it in the end, that has four parts: its
 * list must be split, and comes apart whatever the lists before were. */
static void
draw_listed(rp_random *random, bool late, float *out)
{
    if (!late) {
        draw_clustered(random, 7000 + rp_random_below(random, LISTS_TOPICS), LISTS_DIM, out);
        return;
    }
    float part[LISTS_DIM];
    draw_clustered(random, 7000 + LISTS_TOPICS, LISTS_DIM, out);
    draw_clustered(random, 8000 + rp_random_below(random, 4), LISTS_DIM, part);
    double sum = 0;
    for (size_t i = 0; i < LISTS_DIM; i++) {
        out[i] += 0.5f * part[i];
        sum += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < LISTS_DIM; i++)
        out[i] = (float)(out[i] / sqrt(sum));
}

static float
likeness_of(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < LISTS_DIM; i++)
        sum += (double)a[i] * b[i];
    return (float)sum;
}

static void
check_each_finds_itself(rp_index *index, const listed_row *rows, size_t stride)
{
    for (size_t i = 0; i < LISTS_LIVE; i += stride) {
        if (!rows[i].id)
            continue;
        rp_neighbor got[4];
        const size_t found = rp_index_search(index, scope_of(1), rows[i].vector, 4, got);
        assert_int_equal(found, RP_MIN(rp_index_count(index), (size_t)4));
        assert_int_equal(got[0].id, rows[i].id);
        for (size_t j = 0; j < found; j++) {
            /* An id is its row's number and a count of uses: a removed one fits no row. */
            const listed_row *row = &rows[got[j].id % LISTS_LIVE];
            assert_int_equal(row->id, got[j].id);
            assert_true(fabsf(got[j].similarity - likeness_of(rows[i].vector, row->vector)) < 1e-5f);
            for (size_t l = 0; l < j; l++)
                assert_int_not_equal(got[l].id, got[j].id);
        }
    }
}

static void
test_lists_lose_nothing_while_they_are_made_and_split_and_dropped(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 20260102);
    listed_row *rows = calloc(LISTS_LIVE, sizeof *rows);
    assert_non_null(rows);
    rp_index *index;
    const rp_index_options options = { .dim = LISTS_DIM, .count_max = LISTS_LIVE,
                                       .searchers_max = 1, .lists_from = 2048 };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    size_t lists_first = 0, lists_most = 0;
    rp_entry_id uses = 1;
    for (int step = 0; step < 16000; step++) {
        const size_t at = rp_random_below(&random, LISTS_LIVE);
        listed_row *row = &rows[at];
        /* First nearly all are added, later as many come as go. */
        if (!row->id) {
            row->id = uses++ * LISTS_LIVE + at;
            draw_listed(&random, step > 4500, row->vector);
            assert_int_equal(rp_index_add(index, scope_of(1), row->id, row->vector), RP_OK);
        } else if (rp_random_below(&random, step < 5000 ? 8 : 2) == 0) {
            assert_true(rp_index_remove(index, row->id));
            row->id = 0;
        }
        const size_t lists = rp_index_lists(index);
        lists_first = lists_first ? lists_first : lists;
        lists_most = RP_MAX(lists_most, lists);
        if (step % 16 == 0) {
            const size_t from = rp_random_below(&random, LISTS_LIVE);
            if (rows[from].id) {
                rp_neighbor got[1];
                assert_int_equal(rp_index_search(index, scope_of(1), rows[from].vector, 1, got), 1);
                assert_int_equal(got[0].id, rows[from].id);
            }
        }
        if (step % 4000 == 3999)
            check_each_finds_itself(index, rows, 3);
    }
    print_message("%zu lists at first, %zu at most\n", lists_first, lists_most);
    assert_true(lists_first > 0 && lists_most > lists_first); /* made, and split */
    for (size_t i = 0; i < LISTS_LIVE; i++) {
        if (rows[i].id && i != 17)
            assert_true(rp_index_remove(index, rows[i].id));
        if (i != 17)
            rows[i].id = 0;
        if (i % 400 == 0)
            check_each_finds_itself(index, rows, 7);
    }
    assert_true(rp_index_lists(index) <= 1); /* empty ones were dropped */
    check_each_finds_itself(index, rows, 1);
    if (rows[17].id)
        assert_true(rp_index_remove(index, rows[17].id));
    assert_int_equal(rp_index_count(index), 0);
    assert_int_equal(rp_index_lists(index), 0);
    rp_index_free(index);
    free(rows);
}

enum { STAYING = 32 };

typedef struct listed_load {
    rp_index *index;
    const listed_row *rows; /* the first STAYING are never removed */
    _Atomic bool *done;
} listed_load;

static void *
search_for_the_staying(void *context)
{
    const listed_load *load = context;
    for (size_t i = 0; !atomic_load(load->done); i++) {
        const listed_row *row = &load->rows[i % STAYING];
        rp_neighbor got[3];
        assert_int_equal(rp_index_search(load->index, scope_of(1), row->vector, 3, got), 3);
        assert_int_equal(got[0].id, row->id);
        assert_true(got[0].id != got[1].id && got[1].id != got[2].id && got[0].id != got[2].id);
    }
    return NULL;
}

static void
test_searches_find_what_stays_while_lists_are_made_and_split(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 20260103);
    listed_row *rows = calloc(LISTS_LIVE, sizeof *rows);
    assert_non_null(rows);
    rp_index *index;
    const rp_index_options options = { .dim = LISTS_DIM, .count_max = LISTS_LIVE,
                                       .searchers_max = 2, .lists_from = 2048 };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    for (size_t i = 0; i < STAYING; i++) {
        rows[i].id = LISTS_LIVE + i;
        draw_listed(&random, false, rows[i].vector);
        assert_int_equal(rp_index_add(index, scope_of(1), rows[i].id, rows[i].vector), RP_OK);
    }
    _Atomic bool done = false;
    listed_load load = { index, rows, &done };
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, search_for_the_staying, &load), 0);
    /* While nothing is removed it is the additions alone that decide when lists are made and
     * split: however the searchers are scheduled, a split happens under their eyes. */
    size_t lists_first = 0;
    for (size_t at = STAYING; at < LISTS_LIVE; at++) {
        const bool late = at > LISTS_LIVE / 2 + LISTS_LIVE / 8;
        rows[at].id = LISTS_LIVE + at;
        draw_listed(&random, late, rows[at].vector);
        assert_int_equal(rp_index_add(index, scope_of(1), rows[at].id, rows[at].vector), RP_OK);
        if (!late)
            lists_first = rp_index_lists(index);
    }
    const size_t lists_then = rp_index_lists(index);
    print_message("%zu lists, then %zu\n", lists_first, lists_then);
    /* Then vectors come and go, lists are split and dropped; that depends on when the
     * searchers let go of what they see. */
    for (int step = 0; step < 10000; step++) {
        const size_t at = STAYING + rp_random_below(&random, LISTS_LIVE - STAYING);
        if (!rows[at].id) {
            rows[at].id = (rp_entry_id)(step + 2) * LISTS_LIVE + at;
            draw_listed(&random, true, rows[at].vector);
            assert_int_equal(rp_index_add(index, scope_of(1), rows[at].id, rows[at].vector), RP_OK);
        } else if (rp_random_below(&random, 4) == 0) {
            assert_true(rp_index_remove(index, rows[at].id));
            rows[at].id = 0;
        }
    }
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(lists_first > 0 && lists_then > lists_first);
    rp_index_free(index);
    free(rows);
}

/* Most of a scope goes, and others come that are about something else: its many small lists
 * are merged and trained again; nothing is lost, memory does not grow, and near neighbors are
 * found as before. What is found also hangs on the order in which slots are used again, so that
 * recall is counted without searches beside it, and searches beside it are a test of their own. */
enum { CHURN_COUNT = 16000, CHURN_DIM = 128, CHURN_TOPICS = 600 };

static size_t
count_found(rp_index *index, rp_random *random, const float *vectors, uint64_t first_topic)
{
    size_t right = 0;
    for (size_t q = 0; q < 200; q++) {
        float query[CHURN_DIM];
        draw_clustered(random, first_topic + rp_random_below(random, CHURN_TOPICS), CHURN_DIM, query);
        rp_neighbor near, exact;
        assert_int_equal(rp_index_search(index, scope_of(1), query, 1, &near), 1);
        assert_int_equal(rp_index_search_exact(index, scope_of(1), query, 1, &exact), 1);
        assert_true(exact.similarity > 0.7f); /* its topic is there */
        right += near.similarity > exact.similarity - 0.01f; /* phrasings lie that close */
        /* An id tells the row that the vector lies in. */
        float dot = 0;
        for (size_t i = 0; i < CHURN_DIM; i++)
            dot += query[i] * vectors[(near.id % CHURN_COUNT) * CHURN_DIM + i];
        assert_true(fabsf(dot - near.similarity) < 1e-5f);
    }
    return right;
}

static void
fill_churned(rp_index *index, rp_random *random, float *vectors, uint64_t first_topic, size_t from,
             rp_entry_id first_id)
{
    for (size_t i = from; i < CHURN_COUNT; i++) {
        float *vector = vectors + i * CHURN_DIM;
        draw_clustered(random, first_topic + rp_random_below(random, CHURN_TOPICS), CHURN_DIM, vector);
        assert_int_equal(rp_index_add(index, scope_of(1), first_id + i, vector), RP_OK);
    }
}

static void *
search_the_churned(void *context)
{
    const search_load *load = context;
    do {
        rp_neighbor got[1];
        assert_int_equal(rp_index_search(load->index, scope_of(1), load->query, 1, got), 1);
        assert_true(got[0].id >= CHURN_COUNT && got[0].id < 3 * CHURN_COUNT);
    } while (!atomic_load(load->done));
    return NULL;
}

static void
churn(bool searched)
{
    enum { LEFT = CHURN_COUNT / 10 };
    rp_random random;
    rp_random_init(&random, 20260107);
    float *vectors = malloc((size_t)CHURN_COUNT * CHURN_DIM * sizeof *vectors);
    assert_non_null(vectors);
    rp_index *index;
    const rp_index_options options = { .dim = CHURN_DIM, .count_max = CHURN_COUNT,
                                       .searchers_max = 2, .lists_from = 2048 };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    fill_churned(index, &random, vectors, 50000, 0, CHURN_COUNT);
    const size_t lists_full = rp_index_lists(index), size_full = rp_index_size_bytes(index);
    const size_t right_full = count_found(index, &random, vectors, 50000);

    _Atomic bool done = false;
    search_load load = { index, vectors, &done };
    pthread_t thread;
    if (searched)
        assert_int_equal(pthread_create(&thread, NULL, search_the_churned, &load), 0);
    for (size_t i = LEFT; i < CHURN_COUNT; i++)
        assert_true(rp_index_remove(index, CHURN_COUNT + i));
    const size_t lists_few = rp_index_lists(index);
    /* Entries of other topics, more than there were when lists were trained last. */
    fill_churned(index, &random, vectors, 60000, LEFT, 2 * CHURN_COUNT);
    atomic_store(&done, true);
    if (searched)
        pthread_join(thread, NULL);
    const size_t lists_again = rp_index_lists(index), size_again = rp_index_size_bytes(index);
    const size_t right_again = count_found(index, &random, vectors, 60000);
    print_message("%zu lists, %zu after nine of ten went, %zu after others came; %zu and %zu KB; "
                  "%zu and %zu of 200 found\n", lists_full, lists_few, lists_again, size_full >> 10,
                  size_again >> 10, right_full, right_again);
    assert_true(lists_few * 2 < lists_full && lists_again > lists_few);
    assert_true(searched || size_again < size_full + size_full / 16);
    assert_true(searched || (right_full >= 185 && right_again >= 185));
    rp_index_free(index);
    free(vectors);
}

static void
test_lists_are_merged_and_trained_again_when_most_entries_are_others(void **state)
{
    (void)state;
    churn(false);
}

static void
test_searches_go_on_while_lists_are_merged_and_trained_again(void **state)
{
    (void)state;
    churn(true);
}

/* Lists that wait. What could go wrong: they are begun nevertheless, or never; a vector is lost
 * between the flat scan and the lists; whoever tends does not see that all is done. */
static void
test_lists_wait_while_they_are_held(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 20260110);
    listed_row *rows = calloc(LISTS_LIVE, sizeof *rows);
    assert_non_null(rows);
    rp_index *index;
    const rp_index_options options = { .dim = LISTS_DIM, .count_max = LISTS_LIVE,
                                       .searchers_max = 1, .lists_from = 2048 };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    assert_false(rp_index_tend(index)); /* there is nothing at all */
    rp_index_hold_lists(index, true);
    rp_index_hold_lists(index, true);
    for (size_t i = 0; i < LISTS_LIVE - 10; i++) {
        if (i == LISTS_LIVE / 2)
            rp_index_hold_lists(index, false); /* one is left */
        rows[i].id = LISTS_LIVE + i;
        draw_listed(&random, false, rows[i].vector);
        assert_int_equal(rp_index_add(index, scope_of(1), rows[i].id, rows[i].vector), RP_OK);
    }
    assert_int_equal(rp_index_lists(index), 0);
    const size_t size_flat = rp_index_size_bytes(index);
    check_each_finds_itself(index, rows, 7);
    rp_index_hold_lists(index, false);
    /* How many parts the work has is not promised, but that it ends is. */
    size_t parts = 1;
    while (rp_index_tend(index))
        assert_true(parts++ < 100000);
    const size_t lists = rp_index_lists(index);
    print_message("%zu lists in %zu parts\n", lists, parts);
    assert_true(lists > LISTS_LIVE / 600); /* 192 vectors a list, split at three times that */
    check_each_finds_itself(index, rows, 1);
    /* The flat list has no signs any more: lists keep them, and a slot number each. */
    assert_true(rp_index_size_bytes(index) < size_flat + LISTS_LIVE * 16);
    /* Adds go on from there, and have the lists they made no more to do. */
    for (size_t i = LISTS_LIVE - 10; i < LISTS_LIVE; i++) {
        rows[i].id = LISTS_LIVE + i;
        draw_listed(&random, false, rows[i].vector);
        assert_int_equal(rp_index_add(index, scope_of(1), rows[i].id, rows[i].vector), RP_OK);
    }
    check_each_finds_itself(index, rows, 1);
    assert_false(rp_index_tend(index));
    rp_index_free(index);
    free(rows);
}

static void *
tend_until_done(void *context)
{
    const search_load *load = context;
    while (rp_index_tend(load->index) || !atomic_load(load->done))
        sched_yield();
    return NULL;
}

static void
test_searches_and_changes_go_on_while_lists_are_tended(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 20260111);
    listed_row *rows = calloc(LISTS_LIVE, sizeof *rows);
    assert_non_null(rows);
    rp_index *index;
    const rp_index_options options = { .dim = LISTS_DIM, .count_max = LISTS_LIVE,
                                       .searchers_max = 2, .lists_from = 2048 };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    rp_index_hold_lists(index, true);
    for (size_t i = 0; i < LISTS_LIVE; i++) {
        rows[i].id = LISTS_LIVE + i;
        draw_listed(&random, false, rows[i].vector);
        assert_int_equal(rp_index_add(index, scope_of(1), rows[i].id, rows[i].vector), RP_OK);
    }
    _Atomic bool done = false, all_changed = false;
    listed_load searched = { index, rows, &done };
    search_load tended = { index, NULL, &all_changed };
    pthread_t searcher, tender;
    assert_int_equal(pthread_create(&searcher, NULL, search_for_the_staying, &searched), 0);
    assert_int_equal(pthread_create(&tender, NULL, tend_until_done, &tended), 0);
    rp_index_hold_lists(index, false);
    for (int step = 0; step < 4000; step++) {
        const size_t at = STAYING + rp_random_below(&random, LISTS_LIVE - STAYING);
        if (!rows[at].id) {
            rows[at].id = (rp_entry_id)(step + 2) * LISTS_LIVE + at;
            draw_listed(&random, false, rows[at].vector);
            assert_int_equal(rp_index_add(index, scope_of(1), rows[at].id, rows[at].vector), RP_OK);
        } else if (rp_random_below(&random, 2) == 0) {
            assert_true(rp_index_remove(index, rows[at].id));
            rows[at].id = 0;
        }
    }
    atomic_store(&all_changed, true);
    pthread_join(tender, NULL);
    atomic_store(&done, true);
    pthread_join(searcher, NULL);
    assert_true(rp_index_lists(index) > 1);
    check_each_finds_itself(index, rows, 1);
    rp_index_free(index);
    free(rows);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_random_life_equals_exact_search),
        cmocka_unit_test(test_a_large_scope_finds_the_nearest_and_nothing_removed),
        cmocka_unit_test(test_a_rotation_keeps_angles_and_balances_signs),
        cmocka_unit_test(test_a_rotation_leaves_fewer_to_weigh),
        cmocka_unit_test(test_unbalanced_signs_are_balanced_by_a_rotation),
        cmocka_unit_test(test_every_kernel_tier_agrees_with_the_plain_one),
        cmocka_unit_test(test_scopes_of_one_entry_stay_small),
        cmocka_unit_test(test_bad_vectors_and_limits_are_refused),
        cmocka_unit_test(test_equals_come_in_order_of_their_ids),
        cmocka_unit_test(test_searches_together_find_what_each_finds_alone),
        cmocka_unit_test(test_searches_go_on_while_entries_come_and_go),
        cmocka_unit_test(test_lists_lose_nothing_while_they_are_made_and_split_and_dropped),
        cmocka_unit_test(test_searches_find_what_stays_while_lists_are_made_and_split),
        cmocka_unit_test(test_lists_are_merged_and_trained_again_when_most_entries_are_others),
        cmocka_unit_test(test_searches_go_on_while_lists_are_merged_and_trained_again),
        cmocka_unit_test(test_lists_wait_while_they_are_held),
        cmocka_unit_test(test_searches_and_changes_go_on_while_lists_are_tended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
