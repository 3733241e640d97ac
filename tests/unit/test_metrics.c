/* test_metrics.c - every count arrives once, whatever thread counted, and Prometheus can read it.
 *
 * What could go wrong: counts lost between threads, a label that splits a line, buckets that
 * are not cumulative, labels without bound. Threads count at the same time under
 * ThreadSanitizer; the sums are known. */
#include "server/metrics.h"
#include "test_support.h"

#include <math.h>
#include <pthread.h>

enum { THREADS = 6, ROUNDS = 5000 };

static void *
count_much(void *context)
{
    rp_metrics *metrics = context;
    for (int i = 0; i < ROUNDS; i++) {
        rp_metrics_request(metrics, i % 2 ? "a" : "b", RP_TIER_EXACT, RP_KIND_HIT, "chat");
        rp_metrics_count(metrics, RP_FAMILY_WRITE_SKIPPED, "status");
        rp_metrics_add(metrics, RP_SUM_BYTES_IN, 3);
        rp_metrics_stage(metrics, RP_STAGE_EMBED, 700);
    }
    return NULL;
}

static void
test_no_count_is_lost_between_threads(void **state)
{
    (void)state;
    rp_metrics *metrics;
    assert_int_equal(rp_metrics_new(&metrics), RP_OK);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_much, metrics), 0);
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_metrics_write(metrics, &text); /* at the same time, for ThreadSanitizer */
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(rp_metrics_requests(metrics, RP_KIND_HIT), THREADS * ROUNDS);
    assert_int_equal(rp_metrics_family(metrics, RP_FAMILY_WRITE_SKIPPED, "status"),
                     THREADS * ROUNDS);
    assert_int_equal(rp_metrics_sum(metrics, RP_SUM_BYTES_IN), 3 * THREADS * ROUNDS);

    rp_buffer_clear(&text);
    rp_metrics_write(metrics, &text);
    rp_buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.ptr, "reprise_cache_requests_total{route=\"a\",tier=\"exact\","
                                     "outcome=\"hit\",api=\"chat\"} 15000\n"));
    assert_non_null(strstr(text.ptr, "{stage=\"embed\",le=\"0.0005\"} 0\n"));
    assert_non_null(strstr(text.ptr, "{stage=\"embed\",le=\"0.001\"} 30000\n"));
    assert_non_null(strstr(text.ptr, "{stage=\"embed\",le=\"+Inf\"} 30000\n"));
    assert_non_null(strstr(text.ptr, "_sum{stage=\"embed\"} 21.000000\n"));
    rp_buffer_fini(&text);
    rp_metrics_free(metrics);
}

static void
test_labels_are_bounded_and_escaped(void **state)
{
    (void)state;
    rp_metrics *metrics;
    assert_int_equal(rp_metrics_new(&metrics), RP_OK);
    for (int i = 0; i < 3 * RP_METRIC_LABELS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "label-%d", i);
        rp_metrics_count(metrics, RP_FAMILY_MISS_REASONS, name);
    }
    rp_metrics_request(metrics, "a\"b\\c\nd", RP_TIER_NONE, RP_KIND_MISS, "chat");
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_metrics_write(metrics, &text);
    rp_buffer_append_char(&text, '\0');
    char expected[64];
    snprintf(expected, sizeof expected, "{reason=\"other\"} %d\n", 2 * RP_METRIC_LABELS_MAX);
    assert_non_null(strstr(text.ptr, expected));
    assert_non_null(strstr(text.ptr, "route=\"a\\\"b\\\\c\\nd\""));
    rp_buffer_fini(&text);
    rp_metrics_free(metrics);
}

static void
test_two_objects_do_not_share_counts(void **state)
{
    (void)state;
    rp_metrics *one, *two;
    assert_int_equal(rp_metrics_new(&one), RP_OK);
    assert_int_equal(rp_metrics_new(&two), RP_OK);
    for (int i = 0; i < 10; i++) {
        rp_metrics_add(one, RP_SUM_REFUSED, 1);
        rp_metrics_add(two, RP_SUM_REFUSED, 2);
    }
    assert_int_equal(rp_metrics_sum(one, RP_SUM_REFUSED), 10);
    assert_int_equal(rp_metrics_sum(two, RP_SUM_REFUSED), 20);
    rp_metrics_free(one);
    rp_metrics_free(two);
}

static void
test_the_error_rate_is_that_of_weighted_audits(void **state)
{
    (void)state;
    rp_metrics *metrics;
    assert_int_equal(rp_metrics_new(&metrics), RP_OK);
    for (int i = 0; i < 1000; i++)
        rp_metrics_request(metrics, "a", i < 400 ? RP_TIER_SEMANTIC : RP_TIER_NONE,
                           i < 400 ? RP_KIND_HIT : RP_KIND_MISS, "chat");
    /* Exact hits are requests too, but nothing about them is estimated. */
    rp_metrics_request(metrics, "b", RP_TIER_EXACT, RP_KIND_HIT, "chat");
    rp_metrics_request(metrics, "b", RP_TIER_SEMANTIC, RP_KIND_HIT, "chat");
    assert_true(isnan(rp_metrics_error_rate(metrics, "a").estimate));
    assert_true(isnan(rp_metrics_error_rate(metrics, "nowhere").upper));

    rp_metrics_audit(metrics, "a", -1, 0.05); /* nobody knows: counted, but says nothing */
    rp_metrics_audit(metrics, "a", 0, 1);     /* would never have been served */
    assert_true(isnan(rp_metrics_error_rate(metrics, "a").estimate));
    for (int i = 0; i < 20; i++)
        rp_metrics_audit(metrics, "a", i != 7, 0.05);
    /* 0.4 of the requests are hits, 1 of 20 audits was wrong; Wilson's interval of 1 of 20 is
     * [0.00888, 0.23614] (computed by hand, and by R's prop.test without correction). */
    rp_error_rate rate = rp_metrics_error_rate(metrics, "a");
    assert_float_equal(rate.estimate, 0.4 * 0.05, 1e-9);
    assert_float_equal(rate.lower, 0.4 * 0.00888, 1e-5);
    assert_float_equal(rate.upper, 0.4 * 0.23614, 1e-5);
    /* Weights 1 and 4: the wrong one stands for one served hit, the right one for four. */
    rp_metrics_audit(metrics, "b", 0, 0.5);
    rp_metrics_audit(metrics, "b", 1, 0.2);
    rate = rp_metrics_error_rate(metrics, "b");
    assert_float_equal(rate.estimate, 0.5 * 0.2, 1e-9);
    assert_true(rate.lower < rate.estimate && rate.estimate < rate.upper);

    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_metrics_write(metrics, &text);
    rp_buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.ptr, "reprise_audits_total{verdict=\"wrong\"} 3\n"));
    assert_non_null(strstr(text.ptr, "reprise_audits_total{verdict=\"right\"} 20\n"));
    assert_non_null(strstr(text.ptr, "reprise_audits_total{verdict=\"unknown\"} 1\n"));
    assert_non_null(strstr(text.ptr, "reprise_error_rate_estimate{route=\"a\"} 0.02\n"));
    rp_buffer_fini(&text);
    rp_metrics_free(metrics);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_count_is_lost_between_threads),
        cmocka_unit_test(test_labels_are_bounded_and_escaped),
        cmocka_unit_test(test_two_objects_do_not_share_counts),
        cmocka_unit_test(test_the_error_rate_is_that_of_weighted_audits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
