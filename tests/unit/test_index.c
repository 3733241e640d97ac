/* test_index.c - the index returns what an exact search over a plain list returns.
 *
 * What could go wrong: a neighbor of another scope, a removed one, a lost one after
 * removals moved vectors about, a wrong order of equals. A random sequence of
 * additions, removals and searches is replayed on a plain array, the oracle; the
 * seed is fixed and printed. */
#include "base/random.h"
#include "test_support.h"

#include <math.h>
#include <pthread.h>
#include <reprise/index.h>

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
    assert_int_equal(rp_index_new(&(rp_index_options){ DIM, ENTRIES_MAX, 2 }, &index), RP_OK);
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

static void
test_bad_vectors_and_limits_are_refused(void **state)
{
    (void)state;
    rp_index *index;
    assert_int_equal(rp_index_new(&(rp_index_options){ 0, 1, 1 }, &index), RP_ERR_INVALID);
    assert_int_equal(rp_index_new(&(rp_index_options){ DIM, 1, 1 }, &index), RP_OK);
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
    assert_int_equal(rp_index_new(&(rp_index_options){ DIM, 2, 1 }, &index), RP_OK);
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
    assert_int_equal(rp_index_new(&(rp_index_options){ DIM, 10, 1 }, &index), RP_OK);
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

typedef struct search_load {
    rp_index *index;
    const float *query;
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
    assert_int_equal(rp_index_new(&(rp_index_options){ DIM, 1000, 4 }, &index), RP_OK);
    float query[DIM], other[DIM];
    draw_unit(&random, query);
    assert_int_equal(rp_index_add(index, scope_of(1), 1, query), RP_OK);
    search_load load = { index, query };
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_random_life_equals_exact_search),
        cmocka_unit_test(test_bad_vectors_and_limits_are_refused),
        cmocka_unit_test(test_equals_come_in_order_of_their_ids),
        cmocka_unit_test(test_searches_go_on_while_entries_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
