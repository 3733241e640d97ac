/* test_base.c - the small pieces everything stands on: byte strings, arenas,
 * buffers, hashes, random numbers, queues, files.
 *
 * What could go wrong is an off-by-one at an end, an overflow, a bound that is
 * not kept; each is tried at the bound itself and one past it. Hashes are
 * compared with the published test vectors. */
#include "base/arena.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/npy.h"
#include "base/queue.h"
#include "base/random.h"
#include "test_support.h"

#include <math.h>
#include <pthread.h>

static void
test_globs_match_whole_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *pattern;
        bool matches;
    } rows[] = {
        { "gpt-4o-mini", "gpt-4o*", true }, { "gpt-4", "gpt-4o*", false },
        { "", "*", true },                  { "", "", true },
        { "a", "", false },                 { "abc", "a?c", true },
        { "abbbc", "a*b?", true },          { "abbb", "a*c", false },
        { "mississippi", "m*iss*ip*", true },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        assert_int_equal(rp_str_matches_glob(rp_str_of(rows[i].text), rp_str_of(rows[i].pattern)),
                         rows[i].matches);
}

static void
test_numbers_are_read_whole_or_not_at_all(void **state)
{
    (void)state;
    uint64_t n;
    assert_true(rp_str_to_u64(RP_STR("18446744073709551615"), &n) && n == UINT64_MAX);
    assert_false(rp_str_to_u64(RP_STR("18446744073709551616"), &n));
    assert_false(rp_str_to_u64(RP_STR(""), &n));
    assert_false(rp_str_to_u64(RP_STR("+1"), &n));
    assert_false(rp_str_to_u64(RP_STR("1 "), &n));
    double d;
    assert_true(rp_str_to_double(RP_STR("-0.5e1"), &d) && fabs(d + 5) < 1e-12);
    assert_false(rp_str_to_double(RP_STR("nan"), &d));
    assert_false(rp_str_to_double(RP_STR("inf"), &d));
    assert_false(rp_str_to_double(RP_STR("1x"), &d));
    assert_false(rp_str_to_double(RP_STR(" 1"), &d));
}

static void
test_utf8_is_checked_to_the_letter(void **state)
{
    (void)state;
    assert_true(rp_utf8_is_valid(RP_STR("plain ascii of more than eight bytes")));
    assert_true(rp_utf8_is_valid(RP_STR("\xF4\x8F\xBF\xBF\xED\x9F\xBF\xC2\x80")));
    static const char *const bad[] = { "\xC0\x80", "\xC1\xBF",         "\xE0\x9F\xBF", "\xED\xA0\x80",
                                       "\xFF",     "\xF4\x90\x80\x80", "\xF0\x8F\xBF\xBF", "\x80",
                                       "a\xC2",    "12345678\xE2\x82" };
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        const size_t len = strlen(bad[i]);
        assert_false(rp_utf8_is_valid((rp_str){ rp_test_guarded(bad[i], len), len }));
    }
}

static void
test_hex_round_trips_and_refuses_foreign_digits(void **state)
{
    (void)state;
    const uint8_t bytes[3] = { 0x00, 0xfe, 0x1a };
    char text[7];
    uint8_t back[3];
    rp_hex_encode(bytes, 3, text);
    assert_string_equal(text, "00fe1a");
    assert_true(rp_hex_decode(RP_STR("00FE1a"), back, 3));
    assert_memory_equal(back, bytes, 3);
    assert_false(rp_hex_decode(RP_STR("00fe1"), back, 3));
    assert_false(rp_hex_decode(RP_STR("00fe1g"), back, 3));
}

static void
test_an_arena_keeps_its_bound_and_its_pieces(void **state)
{
    (void)state;
    rp_arena arena;
    rp_arena_init(&arena, 64 << 10);
    char *pieces[100];
    for (int i = 0; i < 100; i++) {
        pieces[i] = rp_arena_alloc(&arena, 100);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], i, 100);
    }
    for (int i = 0; i < 100; i++)
        for (int j = 0; j < 100; j++)
            assert_int_equal(pieces[i][j], i);
    assert_null(rp_arena_alloc(&arena, 64 << 10));
    assert_true(rp_arena_failed(&arena));
    assert_null(rp_arena_calloc(&arena, SIZE_MAX / 2, 3));
    rp_arena_reset(&arena);
    assert_false(rp_arena_failed(&arena));
    assert_non_null(rp_arena_alloc(&arena, 1000));
    rp_arena_fini(&arena);
}

static void
test_a_buffer_keeps_its_bound(void **state)
{
    (void)state;
    rp_buffer buffer;
    rp_buffer_init(&buffer, 10);
    rp_buffer_append(&buffer, RP_STR("1234567890"));
    assert_false(rp_buffer_failed(&buffer));
    rp_buffer_append_char(&buffer, 'x');
    assert_true(rp_buffer_failed(&buffer));
    assert_str_equal(rp_buffer_str(&buffer), RP_STR("1234567890"));
    rp_buffer_drop_front(&buffer, 7);
    assert_str_equal(rp_buffer_str(&buffer), RP_STR("890"));
    rp_buffer_fini(&buffer);
}

static void
test_hashes_equal_their_published_vectors(void **state)
{
    (void)state;
    uint8_t digest[32];
    char text[65];
    rp_sha256_of(RP_STR("abc"), digest); /* FIPS 180-4, example B.1 */
    rp_hex_encode(digest, 32, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    /* RFC 4231, test cases 2 and 6 (a key longer than a block). */
    rp_hmac_sha256(RP_STR("Jefe"), RP_STR("what do ya want for nothing?"), digest);
    rp_hex_encode(digest, 32, text);
    assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    char key[131];
    memset(key, 0xaa, sizeof key);
    rp_hmac_sha256((rp_str){ key, sizeof key },
                   RP_STR("Test Using Larger Than Block-Size Key - Hash Key First"), digest);
    rp_hex_encode(digest, 32, text);
    assert_string_equal(text, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void
test_fields_cannot_be_shifted_into_each_other(void **state)
{
    (void)state;
    uint8_t a[32], b[32];
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, RP_STR("ab"));
    rp_sha256_update_field(&hash, RP_STR("c"));
    rp_sha256_final(&hash, a);
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, RP_STR("a"));
    rp_sha256_update_field(&hash, RP_STR("bc"));
    rp_sha256_final(&hash, b);
    assert_memory_not_equal(a, b, 32);
}

static void
test_random_numbers_repeat_and_stay_in_range(void **state)
{
    (void)state;
    rp_random a, b;
    rp_random_init(&a, 42);
    rp_random_init(&b, 42);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(rp_random_next(&a), rp_random_next(&b));
        assert_true(rp_random_below(&a, 7) < 7);
        const double u = rp_random_uniform(&a);
        assert_true(u >= 0 && u < 1);
        rp_random_below(&b, 7);
        rp_random_uniform(&b);
    }
}

static void *
push_thousand(void *queue)
{
    for (intptr_t i = 1; i <= 1000; i++)
        while (rp_queue_push(queue, (void *)i) == RP_ERR_BUSY)
            usleep(50);
    return NULL;
}

static void
test_a_queue_loses_nothing_and_refuses_when_full(void **state)
{
    (void)state;
    rp_queue *queue;
    assert_int_equal(rp_queue_new(4, &queue), RP_OK);
    pthread_t producers[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&producers[i], NULL, push_thousand, queue), 0);
    intptr_t sum = 0;
    size_t count = 0;
    while (count < 3000) {
        void *items[3];
        const size_t got = rp_queue_pop(queue, items, 3, 60000000);
        assert_true(got > 0);
        for (size_t i = 0; i < got; i++)
            sum += (intptr_t)items[i];
        count += got;
    }
    for (int i = 0; i < 3; i++)
        pthread_join(producers[i], NULL);
    assert_int_equal(sum, 3 * 500500);
    for (intptr_t i = 0; i < 4; i++)
        assert_int_equal(rp_queue_push(queue, (void *)i), RP_OK);
    assert_int_equal(rp_queue_push(queue, NULL), RP_ERR_BUSY);
    rp_queue_close(queue);
    assert_int_equal(rp_queue_push(queue, NULL), RP_ERR_CLOSED);
    void *items[8];
    assert_int_equal(rp_queue_pop(queue, items, 8, -1), 4);
    assert_int_equal(rp_queue_pop(queue, items, 8, -1), 0);
    rp_queue_free(queue);
}

static void
test_a_file_is_replaced_whole_and_bounded_when_read(void **state)
{
    (void)state;
    char folder[] = "/tmp/reprise-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[256];
    rp_error error = { { 0 } };
    snprintf(path, sizeof path, "%s/a/b", folder);
    assert_int_equal(rp_folder_make(path, 0700, &error), RP_OK);
    snprintf(path, sizeof path, "%s/a/b/file", folder);
    assert_int_equal(rp_file_replace(path, RP_STR("one"), 0600, &error), RP_OK);
    assert_int_equal(rp_file_replace(path, RP_STR("second"), 0600, &error), RP_OK);
    rp_buffer buffer;
    rp_buffer_init(&buffer, 0);
    assert_int_equal(rp_file_read(path, 6, &buffer, &error), RP_OK);
    assert_str_equal(rp_buffer_str(&buffer), RP_STR("second"));
    assert_int_equal(rp_file_read(path, 5, &buffer, &error), RP_ERR_LIMIT);
    assert_int_equal(rp_file_read(folder, 5, &buffer, &error), RP_ERR_IO);
    rp_file_map map;
    assert_int_equal(rp_file_map_open(path, &map, &error), RP_OK);
    assert_str_equal(((rp_str){ map.ptr, map.len }), RP_STR("second"));
    rp_file_map_close(&map);
    unlink(path);
    assert_int_equal(rp_file_map_open(path, &map, &error), RP_ERR_NOT_FOUND);
    rp_buffer_fini(&buffer);
}

static void
test_an_npy_file_is_read_back_and_a_bad_one_refused(void **state)
{
    (void)state;
    char path[] = "/tmp/reprise-test-XXXXXX";
    close(mkstemp(path));
    rp_error error = { { 0 } };
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const float values[6] = { 1, 2, 3, 4, 5, -6.5f };
    rp_npy_write_header(2, 3, &bytes);
    assert_int_equal(bytes.len % 64, 0);
    rp_buffer_append(&bytes, (rp_str){ (const char *)values, sizeof values });
    rp_npy npy;
    assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, &error), RP_OK);
    assert_int_equal(rp_npy_open(path, &npy, &error), RP_OK);
    assert_true(npy.rows == 2 && npy.columns == 3);
    assert_memory_equal(npy.values, values, sizeof values);
    rp_npy_close(&npy);
    /* One value less; another type; a header that reaches past the end. */
    bytes.len -= 4;
    assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, &error), RP_OK);
    assert_int_equal(rp_npy_open(path, &npy, &error), RP_ERR_TRUNCATED);
    memcpy(strstr(bytes.ptr + 10, "<f4"), "<f8", 3);
    assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, &error), RP_OK);
    assert_int_equal(rp_npy_open(path, &npy, &error), RP_ERR_INVALID);
    bytes.ptr[9] = (char)0xff;
    assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, &error), RP_OK);
    assert_int_equal(rp_npy_open(path, &npy, &error), RP_ERR_INVALID);
    rp_buffer_fini(&bytes);
    unlink(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_globs_match_whole_texts),
        cmocka_unit_test(test_numbers_are_read_whole_or_not_at_all),
        cmocka_unit_test(test_utf8_is_checked_to_the_letter),
        cmocka_unit_test(test_hex_round_trips_and_refuses_foreign_digits),
        cmocka_unit_test(test_an_arena_keeps_its_bound_and_its_pieces),
        cmocka_unit_test(test_a_buffer_keeps_its_bound),
        cmocka_unit_test(test_hashes_equal_their_published_vectors),
        cmocka_unit_test(test_fields_cannot_be_shifted_into_each_other),
        cmocka_unit_test(test_random_numbers_repeat_and_stay_in_range),
        cmocka_unit_test(test_a_queue_loses_nothing_and_refuses_when_full),
        cmocka_unit_test(test_an_npy_file_is_read_back_and_a_bad_one_refused),
        cmocka_unit_test(test_a_file_is_replaced_whole_and_bounded_when_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
