/* test_recall.c - the recall self-test. What could go wrong: a search that misses is
 * counted as one that finds, or the reverse; vectors of scopes that are empty by now are
 * counted; the samples grow without bound. The index made here misses by its nature: its
 * lists are many and a search looks at few of them. */
#include "test_support.h"

#include "base/random.h"
#include "cache/recall.h"

#include <math.h>

enum { DIM = 128, COUNT = 12000 };

static rp_scope
scope_of(uint8_t number)
{
    rp_scope scope = { { 0 } };
    memset(&scope, number, sizeof scope);
    return scope;
}

static void
draw_anywhere(rp_random *random, float *out)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)rp_random_normal(random);
        sum += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < DIM; i++)
        out[i] = (float)(out[i] / sqrt(sum));
}

static rp_index *
make_full_index(size_t lists_from, float *vectors)
{
    rp_random random;
    rp_random_init(&random, 4711);
    rp_index *index;
    const rp_index_options options = { .dim = DIM, .count_max = COUNT, .searchers_max = 1,
                                       .lists_from = lists_from };
    assert_int_equal(rp_index_new(&options, &index), RP_OK);
    for (size_t i = 0; i < COUNT; i++) {
        draw_anywhere(&random, vectors + i * DIM);
        assert_int_equal(rp_index_add(index, scope_of(1), i + 1, vectors + i * DIM), RP_OK);
    }
    return index;
}

static void
test_an_exact_search_finds_what_lists_miss(void **state)
{
    (void)state;
    float *vectors = calloc((size_t)COUNT * DIM, sizeof *vectors);
    assert_non_null(vectors);
    rp_index *index = make_full_index(2048, vectors);
    assert_true(rp_index_lists(index) > 8);
    rp_random random;
    rp_random_init(&random, 4712);
    rp_recall recall;
    assert_true(rp_recall_init(&recall, DIM));
    uint64_t missed = 0, asked = 0;
    for (int round = 0; round < 40; round++) {
        float query[DIM];
        draw_anywhere(&random, query); /* far from all: nothing above .8 */
        size_t best = 0;
        float best_dot = -2;
        for (size_t i = 0; i < COUNT; i++) {
            float dot = 0;
            for (size_t j = 0; j < DIM; j++)
                dot += query[j] * vectors[i * DIM + j];
            if (dot > best_dot) {
                best_dot = dot;
                best = i;
            }
        }
        rp_neighbor exact, near;
        assert_int_equal(rp_index_search_exact(index, scope_of(1), query, 1, &exact), 1);
        assert_int_equal(exact.id, best + 1);
        assert_int_equal(rp_index_search(index, scope_of(1), query, 1, &near), 1);
        missed += near.id != exact.id;
        for (int i = 0; i < RP_RECALL_EVERY; i++)
            rp_recall_sample(&recall, scope_of(1), query);
        rp_recall_check(&recall, index);
        asked++;
    }
    assert_true(missed > 0); /* or this test shows nothing */
    assert_int_equal(atomic_load(&recall.missed_far), missed);
    assert_int_equal(atomic_load(&recall.found), asked - missed);
    assert_int_equal(atomic_load(&recall.missed), 0);
    rp_recall_fini(&recall);
    rp_index_free(index);
    free(vectors);
}

static void
test_samples_are_few_and_empty_scopes_do_not_count(void **state)
{
    (void)state;
    float *vectors = calloc((size_t)COUNT * DIM, sizeof *vectors);
    assert_non_null(vectors);
    rp_index *index = make_full_index(SIZE_MAX, vectors);
    rp_recall recall;
    assert_true(rp_recall_init(&recall, DIM));
    for (size_t i = 0; i < 1000; i++)
        rp_recall_sample(&recall, scope_of(1), vectors + i * DIM);
    rp_recall_check(&recall, index);
    assert_int_equal(atomic_load(&recall.found), RP_RECALL_KEPT);
    for (size_t i = 0; i < 1000; i++)
        rp_recall_sample(&recall, scope_of(2), vectors + i * DIM);
    rp_recall_check(&recall, index);
    assert_int_equal(atomic_load(&recall.found), RP_RECALL_KEPT);
    assert_int_equal(atomic_load(&recall.missed) + atomic_load(&recall.missed_far), 0);
    rp_recall_fini(&recall);
    rp_index_free(index);
    free(vectors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_exact_search_finds_what_lists_miss),
        cmocka_unit_test(test_samples_are_few_and_empty_scopes_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
