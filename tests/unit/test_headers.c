/* test_headers.c - a client's wishes are read as the standards say, and nothing of ours leaks.
 *
 * What could go wrong: a wish that is taken for a laxer one (a threshold lowered, a
 * no-store overlooked), a malformed control that is silently ignored, a control header or a
 * hop-by-hop field that reaches the upstream, a reply whose headers say something else than
 * what happened. The right answers come from RFC 9110, 9111, 9211 and docs/protocol.md. */
#include "base/bytes.h"
#include "server/headers.h"
#include "test_support.h"

#include <math.h>

static rp_arena arena;

static rp_client_headers
read_headers(const rp_header *headers, size_t count)
{
    const rp_http_request request = { .headers = headers, .header_count = count };
    rp_client_headers out;
    rp_client_headers_read(&request, &arena, &out);
    return out;
}

static rp_client_headers
read_one(const char *name, const char *value)
{
    const rp_header header = { rp_str_of(name), rp_str_of(value) };
    return read_headers(&header, 1);
}

static void
test_credentials_are_found_wherever_they_are(void **state)
{
    (void)state;
    rp_client_headers got = read_one("AUTHORIZATION", "bearer  sk-1 ");
    assert_int_equal(got.place, RP_CREDENTIAL_AUTHORIZATION);
    assert_str_equal(got.credential, RP_STR("sk-1"));
    got = read_one("Authorization", "Basic YTpi");
    assert_str_equal(got.credential, RP_STR("Basic YTpi"));
    got = read_one("x-api-key", "sk-2");
    assert_int_equal(got.place, RP_CREDENTIAL_X_API_KEY);
    got = read_one("api-key", "sk-3");
    assert_int_equal(got.place, RP_CREDENTIAL_API_KEY);
    got = read_one("Authorization", "   ");
    assert_int_equal(got.place, RP_CREDENTIAL_NONE);
    got = read_one("Authorization", "Bearer ");
    assert_str_equal(got.credential, RP_STR("Bearer"));

    const rp_header both[] = { { RP_STR("x-api-key"), RP_STR("b") },
                               { RP_STR("authorization"), RP_STR("Bearer a") } };
    got = read_headers(both, 2);
    assert_str_equal(got.credential, RP_STR("a"));
    assert_true(got.has_several);
    const rp_header equal[] = { { RP_STR("api-key"), RP_STR("a") },
                                { RP_STR("authorization"), RP_STR("Bearer a") } };
    got = read_headers(equal, 2);
    assert_false(got.has_several); /* Azure's clients send both */
}

static void
test_cache_control_is_read_as_rfc_9111_says(void **state)
{
    (void)state;
    rp_client_headers got = read_one("Cache-Control", "No-Cache ,no-store,  only-if-cached");
    assert_true(got.controls.no_read && got.controls.no_write && got.only_if_cached);
    got = read_one("cache-control", "max-age=60, min-fresh=\"5\", something=else");
    assert_int_equal(got.controls.max_age_us, 60000000);
    assert_int_equal(got.controls.min_fresh_us, 5000000);
    assert_false(got.controls.no_read || got.controls.no_write || got.only_if_cached);
    got = read_one("cache-control", "max-age=60, max-stale=30");
    assert_int_equal(got.controls.max_age_us, 90000000);
    got = read_one("cache-control", "max-age=60, max-stale");
    assert_int_equal(got.controls.max_age_us, -1);
    /* Too large is as large as can be; no number is the strictest. */
    got = read_one("cache-control", "max-age=99999999999999999999999");
    assert_true(got.controls.max_age_us > 1000000LL * 86400 * 365);
    got = read_one("cache-control", "max-age=-1");
    assert_int_equal(got.controls.max_age_us, 0);
    assert_null(got.problem);
    got = read_one("cache-control", "max-age, max-stale=x");
    assert_int_equal(got.controls.max_age_us, 0);
    assert_true(read_one("cache-control", "min-fresh=soon").controls.min_fresh_us >
                1000000LL * 86400 * 365);
    /* Said twice, in one line or two: the stricter. */
    got = read_one("cache-control", "max-age=60, max-age=5, min-fresh=1, min-fresh=7");
    assert_int_equal(got.controls.max_age_us, 5000000);
    assert_int_equal(got.controls.min_fresh_us, 7000000);
    got = read_one("cache-control", "max-age=60, max-stale, max-stale=10");
    assert_int_equal(got.controls.max_age_us, 70000000);
    const rp_header lines[] = { { RP_STR("cache-control"), RP_STR("max-age=5") },
                                { RP_STR("Cache-Control"), RP_STR("max-age=60, no-store") } };
    got = read_headers(lines, 2);
    assert_int_equal(got.controls.max_age_us, 5000000);
    assert_true(got.controls.no_write && !got.controls.no_read);
    /* A comma within quotation marks ends nothing, and what stands there is no directive. */
    got = read_one("cache-control", "community=\"a, no-store, \\\", no-cache\", max-age=9,,");
    assert_false(got.controls.no_write || got.controls.no_read);
    assert_int_equal(got.controls.max_age_us, 9000000);
    got = read_one("cache-control", "no-store, open=\"never closed, no-cache");
    assert_true(got.controls.no_write && !got.controls.no_read);
    got = read_one("Pragma", "no-cache");
    assert_true(got.controls.no_read);
    const rp_header both[] = { { RP_STR("pragma"), RP_STR("no-cache") },
                               { RP_STR("cache-control"), RP_STR("max-age=5") } };
    assert_false(read_headers(both, 2).controls.no_read);
}

static void
test_our_own_controls_must_be_well_formed(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        { "X-Reprise-TTL", "" },          { "X-Reprise-TTL", "1.5" },
        { "X-Reprise-TTL", "-1" },        { "X-Reprise-TTL", "0" },
        { "X-Reprise-Namespace", "" },    { "X-Reprise-Namespace", "a\xff" },
        { "X-Reprise-Namespace", "a\tb" },{ "X-Reprise-Category", "" },
        { "X-Reprise-Min-Similarity", "" },{ "X-Reprise-Min-Similarity", "high" },
        { "X-Reprise-Min-Similarity", "1.01" }, { "X-Reprise-Max-Error", "-0.1" },
        { "X-Reprise-Max-Error", "inf" },
    };
    for (size_t i = 0; i < RP_COUNT(bad); i++)
        if (!read_one(bad[i][0], bad[i][1]).problem)
            fail_msg("%s: %s was accepted", bad[i][0], bad[i][1]);

    rp_client_headers got = read_one("x-reprise-ttl", "3600");
    assert_null(got.problem);
    assert_int_equal(got.controls.ttl_us, 3600000000LL);
    got = read_one("X-Reprise-Tags", "b, a ,b");
    assert_str_equal(got.controls.tags, RP_STR("a\nb"));
    got = read_one("X-Reprise-Min-Similarity", "0.97");
    assert_float_equal(got.controls.min_similarity, 0.97f, 1e-6);
}

static void
test_other_products_names_never_loosen(void **state)
{
    (void)state;
    const rp_header both[] = { { RP_STR("X-Cache-Semantic-Threshold"), RP_STR("0.5") },
                               { RP_STR("X-Reprise-Min-Similarity"), RP_STR("0.9") } };
    assert_float_equal(read_headers(both, 2).controls.min_similarity, 0.9f, 1e-6);
    const rp_header stricter[] = { { RP_STR("x-bf-cache-threshold"), RP_STR("0.99") },
                                   { RP_STR("X-Reprise-Min-Similarity"), RP_STR("0.9") } };
    assert_float_equal(read_headers(stricter, 2).controls.min_similarity, 0.99f, 1e-6);
    rp_client_headers got = read_one("cf-aig-skip-cache", "true");
    assert_true(got.controls.no_read && got.controls.no_write);
    got = read_one("cf-aig-skip-cache", "false");
    assert_false(got.controls.no_read || got.controls.no_write);
    got = read_one("x-bf-cache-ttl", "5m");
    assert_int_equal(got.controls.ttl_us, 300000000LL);
    got = read_one("x-bf-cache-ttl", "500ms");
    assert_int_equal(got.controls.ttl_us, 500000LL);
    got = read_one("x-bf-cache-ttl", "whenever");
    assert_true(!got.problem && got.controls.ttl_us == -1);
    const rp_header spaces[] = { { RP_STR("Helicone-Cache-Seed"), RP_STR("theirs") },
                                 { RP_STR("X-Reprise-Namespace"), RP_STR("ours") } };
    assert_str_equal(read_headers(spaces, 2).namespace_name, RP_STR("ours"));
}

static void
test_what_may_change_the_answer_becomes_an_attribute(void **state)
{
    (void)state;
    const rp_header headers[] = { { RP_STR("Anthropic-Version"), RP_STR("2023-06-01") },
                                  { RP_STR("accept"), RP_STR("*/*") } };
    const rp_http_request request = {
        .headers = headers, .header_count = 2, .query = RP_STR("api-version=1")
    };
    rp_client_headers got;
    rp_client_headers_read(&request, &arena, &got);
    assert_int_equal(got.attribute_count, 2);
    assert_str_equal(got.attributes[0].name, RP_STR("anthropic-version"));
    assert_str_equal(got.attributes[1].value, RP_STR("api-version=1"));
}

static bool
is_among(const rp_header *headers, size_t count, const char *name)
{
    return rp_http_header(headers, count, name).ptr != NULL;
}

static void
test_only_what_belongs_upstream_goes_there(void **state)
{
    (void)state;
    const rp_header headers[] = {
        { RP_STR("Host"), RP_STR("me") },
        { RP_STR("Connection"), RP_STR("keep-alive, X-Secret-Hop") },
        { RP_STR("X-Secret-Hop"), RP_STR("1") },
        { RP_STR("Transfer-Encoding"), RP_STR("chunked") },
        { RP_STR("Content-Length"), RP_STR("3") },
        { RP_STR("Accept-Encoding"), RP_STR("gzip, br") },
        { RP_STR("X-REPRISE-TTL"), RP_STR("5") },
        { RP_STR("Authorization"), RP_STR("Bearer callers") },
        { RP_STR("traceparent"), RP_STR("00-a-b-01") },
        { RP_STR("X-Custom"), RP_STR("kept") },
    };
    const rp_http_request request = { .headers = headers, .header_count = RP_COUNT(headers) };
    size_t count;
    rp_forward_options options = { .identity = true };
    const rp_header *out = rp_headers_forward(&request, &options, &arena, &count);
    assert_non_null(out);
    assert_int_equal(count, 4);
    assert_str_equal(rp_http_header(out, count, "authorization"), RP_STR("Bearer callers"));
    assert_str_equal(rp_http_header(out, count, "accept-encoding"), RP_STR("identity"));
    assert_true(is_among(out, count, "traceparent") && is_among(out, count, "x-custom"));

    options = (rp_forward_options){ .key = "ours" };
    out = rp_headers_forward(&request, &options, &arena, &count);
    assert_str_equal(rp_http_header(out, count, "authorization"), RP_STR("Bearer ours"));
    assert_str_equal(rp_http_header(out, count, "accept-encoding"), RP_STR("gzip, br"));
    options = (rp_forward_options){ .key = "ours", .anthropic = true };
    out = rp_headers_forward(&request, &options, &arena, &count);
    assert_false(is_among(out, count, "authorization"));
    assert_str_equal(rp_http_header(out, count, "x-api-key"), RP_STR("ours"));
}

static rp_str
find(const rp_reply_head *head, const char *name)
{
    return rp_http_header(head->headers, head->count, name);
}

static void
test_a_report_says_what_happened(void **state)
{
    (void)state;
    rp_cache_report report = { .kind = RP_KIND_HIT,
                               .tier = RP_TIER_SEMANTIC,
                               .similarity = 0.97314,
                               .risk = (double)NAN,
                               .entry = "00112233445566778899aabbccddeeff",
                               .age_us = 65000000,
                               .ttl_us = 3599999999,
                               .saved = { 10, 20 },
                               .request_id = "r1",
                               .policy = RP_STR("static:min_similarity=0.95") };
    rp_reply_head head;
    rp_reply_head_init(&head);
    rp_reply_head_add_report(&head, &report);
    assert_str_equal(find(&head, "x-reprise-cache"), RP_STR("hit"));
    assert_str_equal(find(&head, "cache-status"), RP_STR("reprise; hit; ttl=3599; detail=semantic"));
    assert_str_equal(find(&head, "x-reprise-similarity"), RP_STR("0.9731"));
    assert_str_equal(find(&head, "age"), RP_STR("65"));
    assert_str_equal(find(&head, "x-reprise-saved-tokens"), RP_STR("10,20"));
    assert_str_equal(find(&head, "x-reprise-policy"), RP_STR("static:min_similarity=0.95"));
    assert_null(find(&head, "x-reprise-risk").ptr);

    report.hide_similarity = true;
    report.risk = 0.004; /* it grows as similarity falls */
    rp_reply_head_init(&head);
    rp_reply_head_add_report(&head, &report);
    assert_null(find(&head, "x-reprise-similarity").ptr);
    assert_null(find(&head, "x-reprise-risk").ptr);
    report.hide_similarity = false;
    rp_reply_head_init(&head);
    rp_reply_head_add_report(&head, &report);
    assert_str_equal(find(&head, "x-reprise-risk"), RP_STR("0.0040"));

    report = (rp_cache_report){ .kind = RP_KIND_MISS, .reason = "similarity", .similarity = 0.9,
                                .collapsed = true, .risk = (double)NAN };
    rp_reply_head_init(&head);
    rp_reply_head_add_report(&head, &report);
    assert_str_equal(find(&head, "cache-status"),
                     RP_STR("reprise; fwd=miss; collapsed; detail=similarity"));
    assert_null(find(&head, "x-reprise-similarity").ptr); /* on hits only */
    assert_null(find(&head, "age").ptr);
}

static void
test_a_head_that_is_too_large_is_cut_and_not_overrun(void **state)
{
    (void)state;
    rp_reply_head *head = malloc(sizeof *head); /* on the heap, where ASan watches its end */
    rp_reply_head_init(head);
    for (int i = 0; i < 1000; i++)
        rp_reply_head_printf(head, RP_STR("x"), "%064d", i);
    assert_true(head->count <= RP_HEAD_HEADERS_MAX && head->text_size <= RP_HEAD_TEXT_SIZE);
    for (int i = 0; i < 1000; i++)
        rp_reply_head_add(head, RP_STR("x"), RP_STR("y"));
    assert_int_equal(head->count, RP_HEAD_HEADERS_MAX);
    free(head);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_credentials_are_found_wherever_they_are),
        cmocka_unit_test(test_cache_control_is_read_as_rfc_9111_says),
        cmocka_unit_test(test_our_own_controls_must_be_well_formed),
        cmocka_unit_test(test_other_products_names_never_loosen),
        cmocka_unit_test(test_what_may_change_the_answer_becomes_an_attribute),
        cmocka_unit_test(test_only_what_belongs_upstream_goes_there),
        cmocka_unit_test(test_a_report_says_what_happened),
        cmocka_unit_test(test_a_head_that_is_too_large_is_cut_and_not_overrun),
    };
    rp_arena_init(&arena, 0);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rp_arena_fini(&arena);
    return failed;
}
