/* test_sse.c - events are those of the WHATWG rules, however the bytes are cut.
 *
 * Faults: a line end missed when CR and LF arrive apart, a byte read past a piece,
 * a BOM taken for a field name, a comment or an unfinished event reported, a limit
 * that depends on the cut. Each stream is read whole, and in pieces of 1 to 7 bytes
 * that end at an unreadable page; the events are written down as "type|data;". */
#include "base/buffer.h"
#include "net/sse.h"
#include "test_support.h"

static void
record(void *context, const rp_sse_event *event)
{
    rp_buffer *out = context;
    rp_buffer_append(out, event->type);
    rp_buffer_append_char(out, '|');
    rp_buffer_append(out, event->data);
    rp_buffer_append_char(out, ';');
}

static bool
read_in_pieces(rp_str bytes, size_t piece, size_t size_max, rp_buffer *out)
{
    rp_sse_reader reader;
    rp_sse_init(&reader, size_max);
    bool fine = true;
    while (bytes.len && fine) {
        const size_t n = RP_MIN(piece, bytes.len);
        fine = rp_sse_feed(&reader, (rp_str){ rp_test_guarded(bytes.ptr, n), n }, record, out);
        bytes = (rp_str){ bytes.ptr + n, bytes.len - n };
    }
    if (!fine)
        assert_false(rp_sse_feed(&reader, RP_STR("data: x\n\n"), record, out));
    rp_sse_fini(&reader);
    return fine;
}

static const struct row {
    rp_str stream, events;
} rows[] = {
    { RP_STR("data: a\n\n"), RP_STR("message|a;") },
    { RP_STR("data: a\r\n\r\ndata: b\r\rdata: c\n\n"), RP_STR("message|a;message|b;message|c;") },
    { RP_STR("data:a\ndata: b\ndata:  c\n\n"), RP_STR("message|a\nb\n c;") },
    { RP_STR("\xEF\xBB\xBF" "data: a\n\n"), RP_STR("message|a;") },
    { RP_STR("data: a\n\n\xEF\xBB\xBF" "data: b\n\n"), RP_STR("message|a;") },
    { RP_STR(": comment\n\n:\n\ndata: a\n\n"), RP_STR("message|a;") },
    { RP_STR("event: ping\ndata: {}\n\ndata: b\n\n"), RP_STR("ping|{};message|b;") },
    { RP_STR("event: x\n\ndata: b\n\n"), RP_STR("message|b;") }, /* no data, no event */
    { RP_STR("data\n\ndata\ndata\n\n"), RP_STR("message|;message|\n;") },
    { RP_STR("id: 1\nretry: 9\nnonsense: x\ndata: a\n\n"), RP_STR("message|a;") },
    { RP_STR("data: a\n\ndata: unfinished\n"), RP_STR("message|a;") },
    { RP_STR("data: [DONE]\n\n"), RP_STR("message|[DONE];") },
    { RP_STR("data: a:b\n\n"), RP_STR("message|a:b;") },
    { RP_STR("Data: a\n\n"), RP_STR("") },
    { RP_STR("data: a\0b\n\n"), RP_STR("message|a\0b;") },
    { RP_STR("\n\n\r\n\r\n\r"), RP_STR("") },
};

static void
test_events_do_not_depend_on_the_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        for (size_t piece = 1; piece <= 8; piece++) {
            rp_buffer out;
            rp_buffer_init(&out, 0);
            assert_true(read_in_pieces(rows[i].stream, piece == 8 ? SIZE_MAX : piece, 0, &out));
            assert_str_equal(rp_buffer_str(&out), rows[i].events);
            rp_buffer_fini(&out);
        }
    }
}

static void
test_a_too_large_line_or_event_ends_the_reading(void **state)
{
    (void)state;
    const rp_str fits = RP_STR("data: 0123\n\ndata: 4567\n\n");
    const rp_str long_line = RP_STR("data: a\n\ndata: 0123456789\n\ndata: b\n\n");
    const rp_str long_event = RP_STR("data: a\n\ndata: 0123\ndata: 4567\ndata: 89\n\ndata: b\n\n");
    for (size_t piece = 1; piece <= 8; piece++) {
        const size_t cut = piece == 8 ? SIZE_MAX : piece;
        rp_buffer out;
        rp_buffer_init(&out, 0);
        assert_true(read_in_pieces(fits, cut, 10, &out));
        assert_str_equal(rp_buffer_str(&out), RP_STR("message|0123;message|4567;"));
        rp_buffer_clear(&out);
        assert_false(read_in_pieces(long_line, cut, 10, &out));
        assert_str_equal(rp_buffer_str(&out), RP_STR("message|a;"));
        rp_buffer_clear(&out);
        assert_false(read_in_pieces(long_event, cut, 10, &out));
        assert_str_equal(rp_buffer_str(&out), RP_STR("message|a;"));
        rp_buffer_fini(&out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_do_not_depend_on_the_cut),
        cmocka_unit_test(test_a_too_large_line_or_event_ends_the_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
