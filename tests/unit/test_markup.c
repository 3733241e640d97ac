/* test_markup.c - a stranger's text never becomes part of the page.
 *
 * What could go wrong: a byte of the text closes an element or an attribute, a bad sequence
 * swallows the markup behind it, or an invisible character turns around what stands beside
 * it. So every character and every pair of bytes is tried: the result must be valid UTF-8,
 * hold no character of HTML but in entities, and no control or format character. */
#include "base/bytes.h"
#include "eval/document.h"
#include "eval/markup.h"
#include "test_support.h"

#include <math.h>
#include <utf8proc.h>

/* Nothing in it can end an element or an attribute, or be seen as anything but text. */
static void
check_harmless(rp_str markup)
{
    static const char *const entities[] = { "&amp;", "&lt;", "&gt;", "&quot;", "&#39;" };
    assert_true(rp_utf8_is_valid(markup));
    for (size_t i = 0; i < markup.len; i++) {
        const unsigned char c = (unsigned char)markup.ptr[i];
        bool known = c != '&';
        for (size_t e = 0; e < RP_COUNT(entities); e++)
            known |= markup.len - i >= strlen(entities[e]) &&
                     memcmp(markup.ptr + i, entities[e], strlen(entities[e])) == 0;
        assert_true(known);
        assert_false(c < 0x20 || c == 0x7F || c == '<' || c == '>' || c == '"' || c == '\'');
    }
}

static void
check_says(const char *text, size_t len, const char *expected)
{
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_markup_text(&out, (rp_str){ text, len });
    rp_buffer_append_char(&out, 0);
    assert_string_equal(out.ptr, expected);
    rp_buffer_fini(&out);
}

static void
test_every_character_is_harmless(void **state)
{
    (void)state;
    rp_buffer out;
    rp_buffer_init(&out, 0);
    for (utf8proc_int32_t point = 0; point <= 0x10FFFF; point++) {
        utf8proc_uint8_t bytes[4];
        if (point >= 0xD800 && point <= 0xDFFF)
            continue;
        const size_t size = (size_t)utf8proc_encode_char(point, bytes);
        rp_buffer_clear(&out);
        rp_markup_text(&out, (rp_str){ (const char *)bytes, size });
        check_harmless(rp_buffer_str(&out));
        const bool format = utf8proc_category(point) == UTF8PROC_CATEGORY_CF &&
                            point != 0x200C && point != 0x200D;
        if (format) /* written out, not shown */
            assert_int_equal(out.ptr[0], '[');
    }
    rp_buffer_fini(&out);
}

static void
test_every_pair_of_bytes_before_markup_is_harmless(void **state)
{
    (void)state;
    rp_buffer out;
    rp_buffer_init(&out, 0);
    /* At the end of readable memory: a byte too far is a crash. */
    char *text = rp_test_guarded("..<\"x", 5);
    for (unsigned pair = 0; pair < 65536; pair++) {
        text[0] = (char)(pair >> 8);
        text[1] = (char)pair;
        rp_buffer_clear(&out);
        rp_markup_text(&out, (rp_str){ text, 5 });
        check_harmless(rp_buffer_str(&out));
        assert_memory_equal(out.ptr + out.len - 11, "&lt;&quot;x", 11);
    }
    char *tail = rp_test_guarded("..", 2); /* a sequence that ends too soon */
    for (unsigned pair = 0; pair < 65536; pair++) {
        tail[0] = (char)(pair >> 8);
        tail[1] = (char)pair;
        rp_buffer_clear(&out);
        rp_markup_text(&out, (rp_str){ tail, 2 });
        check_harmless(rp_buffer_str(&out));
    }
    rp_buffer_fini(&out);
}

static void
test_what_people_write_stays_as_it_is(void **state)
{
    (void)state;
    check_says("na\xC3\xAFve \xE0\xA4\x95\xE0\xA5\x8D\xE2\x80\x8D\xE0\xA4\xB7 \xF0\x9F\x91\xA9", sizeof "na\xC3\xAFve \xE0\xA4\x95\xE0\xA5\x8D\xE2\x80\x8D\xE0\xA4\xB7 \xF0\x9F\x91\xA9" - 1,
               "na\xC3\xAFve \xE0\xA4\x95\xE0\xA5\x8D\xE2\x80\x8D\xE0\xA4\xB7 \xF0\x9F\x91\xA9");
    check_says("</script><b>", 12, "&lt;/script&gt;&lt;b&gt;");
    check_says("a\xE2\x80\xAE" "b\xE2\x81\xA6", 8, "a[U+202E]b[U+2066]");
    check_says("\0\x1B[31m", 6, "[U+0000][U+001B][31m");
    check_says("tab\tend\r\n", 9, "tab end  ");
    check_says("cut \xE2\x80", 6, "cut \xEF\xBF\xBD\xEF\xBF\xBD");
    /* Of a pile of accents three stay. */
    check_says("e\xCC\x81\xCC\x81\xCC\x81\xCC\x81\xCC\x81z", 12, "e\xCC\x81\xCC\x81\xCC\x81z");
}

static void
test_an_excerpt_counts_characters_and_says_what_is_left_out(void **state)
{
    (void)state;
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_markup_excerpt(&out, RP_STR("\xC3\xA4\xC3\xB6\xC3\xBC<"), 2);
    rp_buffer_append_char(&out, 0);
    assert_string_equal(out.ptr, "\xC3\xA4\xC3\xB6\xE2\x80\xA6 [3 bytes more]");
    rp_buffer_fini(&out);
}

static void
check_number(double value, int digits, const char *expected)
{
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_markup_number(&out, value, digits);
    rp_buffer_append_char(&out, 0);
    assert_string_equal(out.ptr, expected);
    rp_buffer_fini(&out);
}

static void
test_numbers_are_set_for_reading(void **state)
{
    (void)state;
    check_number(0, 0, "0");
    check_number(999, 0, "999");
    check_number(1000, 0, "1,000");
    check_number(-1234567.891, 1, "\xE2\x88\x92" "1,234,567.9");
    check_number(-.001, 2, "0.00");
    check_number(.999, 2, "1.00");
    check_number((double)NAN, 2, "\xE2\x80\x93");
    check_number((double)INFINITY, 2, "\xE2\x80\x93");
    check_number(1e15, 0, "1,000,000,000,000,000");
}

static void
test_a_verdict_is_certain_only_if_its_interval_is(void **state)
{
    (void)state;
    const double none = (double)NAN;
    assert_int_equal(rp_verdict_above(.4, .35, .45, .3), RP_VERDICT_PASS);
    assert_int_equal(rp_verdict_above(.4, .25, .45, .3), RP_VERDICT_PASS_PERHAPS);
    assert_int_equal(rp_verdict_above(.2, .15, .35, .3), RP_VERDICT_FAIL_PERHAPS);
    assert_int_equal(rp_verdict_above(.2, .15, .25, .3), RP_VERDICT_FAIL);
    assert_int_equal(rp_verdict_above(.3, .3, .3, .3), RP_VERDICT_FAIL); /* not above */
    assert_int_equal(rp_verdict_below(.01, .005, .015, .02), RP_VERDICT_PASS);
    assert_int_equal(rp_verdict_below(.01, .005, .025, .02), RP_VERDICT_PASS_PERHAPS);
    assert_int_equal(rp_verdict_below(.03, .015, .04, .02), RP_VERDICT_FAIL_PERHAPS);
    assert_int_equal(rp_verdict_below(.03, .025, .04, .02), RP_VERDICT_FAIL);
    assert_int_equal(rp_verdict_below(.01, none, none, .02), RP_VERDICT_PASS);
    assert_int_equal(rp_verdict_below(none, .005, .015, .02), RP_VERDICT_NONE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character_is_harmless),
        cmocka_unit_test(test_every_pair_of_bytes_before_markup_is_harmless),
        cmocka_unit_test(test_what_people_write_stays_as_it_is),
        cmocka_unit_test(test_an_excerpt_counts_characters_and_says_what_is_left_out),
        cmocka_unit_test(test_numbers_are_set_for_reading),
        cmocka_unit_test(test_a_verdict_is_certain_only_if_its_interval_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
