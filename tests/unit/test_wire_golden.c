/* test_wire_golden.c - replies from files give the replays that lie beside them, for ever.
 *
 * What could go wrong: a replay changes without anybody meaning it, or a reply that an
 * earlier version stored is read differently by a later one. tests/golden/wire has replies
 * (made by hand), their encoded form of version 1, and their replays as body and as stream;
 * the real SDKs read the latter in tests/integration. REPRISE_GOLDEN_WRITE=1 writes what is
 * missing anew; look at the difference before it is committed. */
#include "base/file.h"
#include "test_support.h"
#include "wire/wire.h"

static const struct {
    rp_wire wire;
    const char *name, *input;
    bool is_stream;
} cases[] = {
    { RP_WIRE_CHAT, "chat", "chat_body.json", false },
    { RP_WIRE_CHAT, "chat_tools", "chat_tools.sse", true },
    { RP_WIRE_COMPLETIONS, "completions", "completions_body.json", false },
    { RP_WIRE_RESPONSES, "responses", "responses_body.json", false },
    { RP_WIRE_MESSAGES, "messages", "messages_body.json", false },
};

static void
load(const char *name, rp_buffer *out)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/wire/%s", RP_TEST_GOLDEN, name);
    rp_error error = { { 0 } };
    rp_buffer_clear(out);
    if (rp_file_read(path, 1 << 20, out, &error) != RP_OK)
        fail_msg("%s", error.text);
}

static void
check_or_write(const char *name, const char *suffix, rp_str bytes)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/wire/%s%s", RP_TEST_GOLDEN, name, suffix);
    if (getenv("REPRISE_GOLDEN_WRITE")) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, file), bytes.len);
        assert_int_equal(fclose(file), 0);
    }
    char file[200];
    rp_buffer expected;
    rp_buffer_init(&expected, 0);
    snprintf(file, sizeof file, "%s%s", name, suffix);
    load(file, &expected);
    assert_str_equal(bytes, rp_buffer_str(&expected));
    rp_buffer_fini(&expected);
}

static void
replay_as(const rp_reply *reply, bool stream, rp_buffer *out)
{
    const rp_replay_options options = {
        .wire = rp_reply_wire(reply), .stream = stream, .include_usage = true,
        .created = 1800000000, .id_random = { 0x0123456789abcdef, 0xfedcba9876543210 },
    };
    rp_buffer_clear(out);
    assert_int_equal(rp_reply_replay(reply, &options, out), RP_OK);
}

static void
test_replays_are_as_they_were(void **state)
{
    (void)state;
    rp_json_reader *json_reader;
    assert_int_equal(rp_json_reader_new(&json_reader), RP_OK);
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_buffer input, encoded, out;
        rp_buffer_init(&input, 0);
        rp_buffer_init(&encoded, 0);
        rp_buffer_init(&out, 0);
        rp_arena arena;
        rp_arena_init(&arena, 0);
        load(cases[i].input, &input);
        rp_reply_reader *reader;
        assert_int_equal(
            rp_reply_reader_new(cases[i].wire, 200, cases[i].is_stream, 1 << 20, &reader), RP_OK);
        rp_reply_reader_feed(reader, rp_buffer_str(&input));
        assert_int_equal(rp_reply_reader_finish(reader, true, json_reader, &encoded, NULL),
                         RP_REPLY_GOOD);
        rp_reply_reader_free(reader);
        check_or_write(cases[i].name, "_v1.reply", rp_buffer_str(&encoded));

        /* From the file, so that an old version's bytes are what is replayed. */
        char file[200];
        snprintf(file, sizeof file, "%s_v1.reply", cases[i].name);
        load(file, &encoded);
        const rp_reply *reply;
        assert_int_equal(rp_reply_open(rp_buffer_str(&encoded), &arena, &reply), RP_OK);
        replay_as(reply, false, &out);
        check_or_write(cases[i].name, "_replay.json", rp_buffer_str(&out));
        replay_as(reply, true, &out);
        check_or_write(cases[i].name, "_replay.sse", rp_buffer_str(&out));
        rp_arena_fini(&arena);
        rp_buffer_fini(&input);
        rp_buffer_fini(&encoded);
        rp_buffer_fini(&out);
    }
    rp_json_reader_free(json_reader);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replays_are_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
