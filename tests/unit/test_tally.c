/* test_tally.c - sums of a simulated run, and the file that keeps them.
 *
 * What could go wrong: a request in the wrong window of the curve, a cost counted twice or
 * not at all, a quantile off by one, upstream times that change with the policy; a
 * checkpoint that returns another run's result, loses one, or is misled by a damaged end; a
 * memo that takes one pair of texts for another, or loses some as it grows.
 * Expected sums are small enough to be added up by hand. */
#include "base/file.h"
#include "eval/checkpoint.h"
#include "eval/memo.h"
#include "eval/tally.h"

#include "test_support.h"

#include <math.h>
#include <sys/stat.h>

static const rp_tally_options usual = { .request_cost = 0.01, .judge_cost = 0.001,
                                        .core_hour_cost = 3.6, .upstream_ms = 100, .windows = 4 };

static rp_tally
make_tally(void)
{
    rp_tally tally;
    assert_int_equal(rp_tally_init(&tally, 2, 10, &usual), RP_OK);
    for (int i = 0; i < 10; i++) {
        const rp_tallied request = {
            .served = i % 3 == 0 ? RP_SERVED_UPSTREAM : i == 4 ? RP_SERVED_EXACT : RP_SERVED_SEMANTIC,
            .right = i != 5, .audited = i == 7 || i == 5, .category = (uint32_t)i % 2, .cost = 0.01 };
        rp_tally_add(&tally, &request, (uint64_t)i);
    }
    tally.judge_calls = 3;
    rp_tally_finish(&tally, &usual, 1e6);
    return tally;
}

static void
test_sums_are_those_added_by_hand(void **state)
{
    (void)state;
    rp_tally t = make_tally(); /* misses: 0 3 6 9; exact: 4; semantic: 1 2 5 7 8, of them 5 wrong */
    assert_int_equal(t.all.requests, 10);
    assert_int_equal(t.all.exact_hits, 1);
    assert_int_equal(t.all.hits, 5);
    assert_int_equal(t.all.wrong_hits, 1);
    assert_int_equal(t.upstream_calls, 6);
    assert_int_equal(t.audits, 2);
    assert_int_equal(t.categories[0].hits, 2);
    assert_int_equal(t.categories[1].hits, 3);
    assert_int_equal(t.categories[1].wrong_hits, 1);
    /* 10 requests of .01; 4 misses, 2 audits, 3 judge calls, 1 s of a core at 3.6 an hour. */
    assert_float_equal(t.cost_all, 0.1, 1e-12);
    assert_float_equal(t.cost_upstream, 0.04, 1e-12);
    assert_float_equal(t.cost_audits, 0.02, 1e-12);
    assert_float_equal(t.cost_judge, 0.003, 1e-12);
    assert_float_equal(t.cost_compute, 0.001, 1e-12);
    assert_float_equal(t.cost_saved, 0.036, 1e-12);
    assert_float_equal(t.cost_saved_right, 0.026, 1e-12);
    assert_float_equal(t.reduction, 0.36, 1e-12);
    rp_tally_fini(&t);
}

static void
test_windows_hold_each_request_once(void **state)
{
    (void)state;
    rp_tally t = make_tally();
    static const uint64_t ends[] = { 2, 5, 7, 10 }, hits[] = { 1, 1, 1, 2 }, wrong[] = { 0, 0, 1, 0 };
    uint64_t before = 0;
    assert_int_equal(t.curve_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(t.curve[i].end, ends[i]);
        assert_int_equal(t.curve[i].counts.requests, ends[i] - before);
        assert_int_equal(t.curve[i].counts.hits, hits[i]);
        assert_int_equal(t.curve[i].counts.wrong_hits, wrong[i]);
        assert_int_equal(t.curve[i].entries, ends[i] - 1);
        before = ends[i];
    }
    rp_tally_fini(&t);
    assert_int_equal(rp_tally_init(&t, 0, 3, &usual), RP_OK); /* fewer requests than windows */
    assert_int_equal(t.curve_count, 3);
    rp_tally_fini(&t);
}

static void
test_spreads_and_upstream_times(void **state)
{
    (void)state;
    float values[100];
    for (int i = 0; i < 100; i++)
        values[i] = (float)((i * 37) % 100 + 1); /* 1..100 in some order */
    const rp_spread spread = rp_spread_of(values, 100);
    assert_float_equal(spread.mean, 50.5, 1e-9);
    assert_float_equal(spread.p50, 51, 0); /* place round(.5 * 99) */
    assert_float_equal(spread.p99, 99, 0);
    assert_true(isnan(rp_spread_of(values, 0).p99));
    rp_tally_options wide = usual;
    assert_float_equal(rp_upstream_ms(&wide, 3), 100, 0);
    wide.upstream_spread = 0.5;
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        const double log_ms = log(rp_upstream_ms(&wide, i) / 100);
        sum += log_ms;
        squares += log_ms * log_ms;
    }
    /* Of 10,000 draws the mean is within 5 standard errors (.025), the deviation within .02:
     * chances below 1e-6, and the draws are the same each time. */
    assert_true(fabs(sum / 10000) < 0.025);
    assert_true(fabs(sqrt(squares / 10000) - 0.5) < 0.02);
    assert_true(rp_upstream_ms(&wide, 7) == rp_upstream_ms(&wide, 7));
}

static void
test_risks_fall_into_their_bins(void **state)
{
    (void)state;
    rp_tally t = { { 0 } };
    rp_tally_add_risk(&t, 0, false);
    rp_tally_add_risk(&t, 0.005, true); /* an end belongs to the bin above */
    rp_tally_add_risk(&t, 1, true);
    rp_tally_add_risk(&t, NAN, true);
    rp_tally_add_risk(&t, -0.1, true);
    assert_int_equal(t.risks[0].count, 1);
    assert_int_equal(t.risks[1].count, 1);
    assert_int_equal(t.risks[1].wrong, 1);
    assert_int_equal(t.risks[RP_RISK_BINS - 1].count, 1);
}

static void
test_a_tally_survives_its_bytes(void **state)
{
    (void)state;
    rp_tally t = make_tally(), back;
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_tally_encode(&t, &bytes);
    assert_int_equal(rp_tally_decode(rp_buffer_str(&bytes), 2, &back), RP_OK);
    assert_memory_equal(back.categories, t.categories, 2 * sizeof *t.categories);
    assert_memory_equal(back.curve, t.curve, 4 * sizeof *t.curve);
    assert_true(back.cost_saved == t.cost_saved && back.all.hits == t.all.hits);
    rp_tally_fini(&back);
    for (size_t cut = 0; cut < bytes.len; cut++) {
        const rp_str guarded = { rp_test_guarded(bytes.ptr, cut), cut };
        assert_int_not_equal(rp_tally_decode(guarded, 2, &back), RP_OK);
        if (cut > 64) /* each keeps its pages: a few will do */
            cut += 97;
    }
    assert_int_not_equal(rp_tally_decode(rp_buffer_str(&bytes), 3, &back), RP_OK);
    rp_buffer_fini(&bytes);
    rp_tally_fini(&t);
}

/* ---- the checkpoint ---------------------------------------------------------------------- */

static void
temporary_path(char path[64])
{
    strcpy(path, "/tmp/test_tally_XXXXXX");
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
}

static void
key_of(uint8_t key[32], int number)
{
    memset(key, 0, 32);
    key[0] = (uint8_t)number;
}

static void
add_three(const char *path)
{
    rp_checkpoint *c;
    uint8_t key[32];
    assert_int_equal(rp_checkpoint_open(path, false, &c, NULL), RP_OK);
    for (int i = 1; i <= 3; i++) {
        char text[32];
        key_of(key, i);
        snprintf(text, sizeof text, "result %d", i);
        assert_int_equal(rp_checkpoint_add(c, key, rp_str_of(text), NULL), RP_OK);
    }
    rp_checkpoint_close(c);
}

/* How many of the three are found, each with its own text. */
static int
found_in(const rp_checkpoint *c)
{
    int found = 0;
    for (int i = 1; i <= 3; i++) {
        uint8_t key[32];
        char text[32];
        rp_str payload;
        key_of(key, i);
        snprintf(text, sizeof text, "result %d", i);
        if (!rp_checkpoint_find(c, key, &payload))
            continue;
        assert_str_equal(payload, rp_str_of(text));
        found++;
    }
    return found;
}

static void
test_what_was_finished_is_found_again(void **state)
{
    (void)state;
    char path[64];
    uint8_t key[32];
    rp_checkpoint *c;
    rp_error error = { { 0 } };
    rp_str payload;
    temporary_path(path);
    add_three(path);
    /* Nobody's hours are written over. */
    assert_int_equal(rp_checkpoint_open(path, false, &c, &error), RP_ERR_EXISTS);
    assert_non_null(strstr(error.text, "--resume"));
    assert_int_equal(rp_checkpoint_open(path, true, &c, NULL), RP_OK);
    assert_int_equal(found_in(c), 3);
    key_of(key, 4);
    assert_false(rp_checkpoint_find(c, key, &payload));
    rp_checkpoint_close(c);
    unlink(path);
}

/* Cut at every byte, and every bit of the last record turned: what is whole stays, what is
 * not is as if it had never been, and the file can be added to. */
static void
test_a_damaged_end_costs_only_itself(void **state)
{
    (void)state;
    char path[64];
    uint8_t key[32];
    rp_checkpoint *c;
    temporary_path(path);
    add_three(path);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    const off_t size = info.st_size, record = size / 3;
    for (off_t cut = size; cut >= 0; cut--) {
        assert_int_equal(truncate(path, cut), 0);
        assert_int_equal(rp_checkpoint_open(path, true, &c, NULL), RP_OK);
        assert_int_equal(found_in(c), cut / record);
        assert_int_equal(rp_checkpoint_count(c), cut / record);
        if (cut % record) { /* the end was cut away: complete it again */
            key_of(key, (int)(cut / record) + 1);
            char text[32];
            snprintf(text, sizeof text, "result %d", (int)(cut / record) + 1);
            assert_int_equal(rp_checkpoint_add(c, key, rp_str_of(text), NULL), RP_OK);
            assert_int_equal(found_in(c), cut / record + 1);
        }
        rp_checkpoint_close(c);
    }
    assert_int_equal(truncate(path, 0), 0);
    add_three(path);
    for (off_t at = 2 * record; at < size; at++) {
        if (at >= 2 * record + 8 && at < 2 * record + 40)
            continue; /* the key: another one is another run, not damage */
        FILE *file = fopen(path, "r+b");
        fseek(file, at, SEEK_SET);
        const int byte = fgetc(file);
        fseek(file, at, SEEK_SET);
        fputc(byte ^ 1, file);
        fclose(file);
        assert_int_equal(rp_checkpoint_open(path, true, &c, NULL), RP_OK);
        assert_int_equal(found_in(c), 2);
        key_of(key, 3);
        assert_int_equal(rp_checkpoint_add(c, key, RP_STR("result 3"), NULL), RP_OK);
        rp_checkpoint_close(c);
    }
    unlink(path);
}

static void
test_the_file_of_somebody_else_stays_as_it_is(void **state)
{
    (void)state;
    static const rp_str texts[] = { RP_STR("{\"prompt\": \"a\", \"answer_id\": 1}\n"), RP_STR("RP"),
                                    RP_STR("\n") };
    for (size_t i = 0; i < RP_COUNT(texts); i++)
        for (int resume = 0; resume < 2; resume++) {
            char path[64];
            rp_checkpoint *c;
            rp_error error = { { 0 } };
            temporary_path(path);
            assert_int_equal(rp_file_replace(path, texts[i], 0600, NULL), RP_OK);
            /* "RP" may be the beginning of our own first record, cut short. */
            const bool mine = i == 1;
            const rp_status wanted = !mine ? RP_ERR_INVALID : resume ? RP_OK : RP_ERR_EXISTS;
            assert_int_equal(rp_checkpoint_open(path, resume, &c, &error), wanted);
            if (wanted == RP_OK)
                rp_checkpoint_close(c);
            rp_buffer after;
            rp_buffer_init(&after, 0);
            assert_int_equal(rp_file_read(path, 1 << 10, &after, NULL), RP_OK);
            assert_int_equal(after.len, wanted == RP_OK ? 0 : texts[i].len);
            assert_true(after.len == 0 || rp_str_equal(rp_buffer_str(&after), texts[i]));
            rp_buffer_fini(&after);
            unlink(path);
        }
}

static void
test_a_memo_knows_each_pair_and_its_order(void **state)
{
    (void)state;
    enum { PAIRS = 5000 };
    rp_memo memo = { 0 };
    float said = -1;
    assert_false(rp_memo_find(&memo, rp_memo_key(1, 0, 0), &said));
    for (uint32_t i = 0; i < PAIRS; i++)
        rp_memo_keep(&memo, rp_memo_key(1 + i % 2, i * 7919 % 1000, i / 3), (float)i);
    rp_memo_keep(&memo, rp_memo_key(1, 0, 0), 0.5f); /* said again: replaced */
    assert_int_equal(memo.count, PAIRS);
    for (uint32_t i = 1; i < PAIRS; i++) {
        assert_true(rp_memo_find(&memo, rp_memo_key(1 + i % 2, i * 7919 % 1000, i / 3), &said));
        assert_true(said == (float)i);
    }
    assert_true(rp_memo_find(&memo, rp_memo_key(1, 0, 0), &said) && said == 0.5f);
    assert_false(rp_memo_find(&memo, rp_memo_key(2, 0, 0), &said));
    assert_true(rp_memo_key(1, 2, 3) != rp_memo_key(1, 3, 2));
    rp_memo_fini(&memo);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_memo_knows_each_pair_and_its_order),
        cmocka_unit_test(test_sums_are_those_added_by_hand),
        cmocka_unit_test(test_windows_hold_each_request_once),
        cmocka_unit_test(test_spreads_and_upstream_times),
        cmocka_unit_test(test_risks_fall_into_their_bins),
        cmocka_unit_test(test_a_tally_survives_its_bytes),
        cmocka_unit_test(test_what_was_finished_is_found_again),
        cmocka_unit_test(test_a_damaged_end_costs_only_itself),
        cmocka_unit_test(test_the_file_of_somebody_else_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
