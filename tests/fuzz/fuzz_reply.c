/* fuzz_reply.c - any bytes as a reply: from the store, as a body, or as a stream.
 *
 * First byte: what the rest is. What is accepted must open, and replay in each form; a
 * stream that it is replayed as must be accepted again. Bytes of the store that open must
 * replay without leading out of themselves. */
#include "base/bytes.h"
#include "wire/wire.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
check(bool holds)
{
    if (!holds)
        abort();
}

static rp_json_reader *json_reader;

static void
replay_all(const rp_reply *reply, rp_buffer *out)
{
    /* Its own wire in all forms, then the others. */
    for (unsigned i = 0; i < 8 + 2 * RP_WIRE_COUNT; i++) {
        const rp_replay_options options = {
            .wire = i < 8 ? rp_reply_wire(reply) : (rp_wire)(i / 2 % RP_WIRE_COUNT),
            .stream = i & 1, .include_usage = i & 2, .zero_usage = i & 4, .created = 5,
        };
        rp_buffer_clear(out);
        (void)!rp_reply_replay(reply, &options, out);
    }
    (void)rp_reply_text(reply);
    (void)rp_reply_original_id(reply);
}

static rp_reply_verdict
read_reply(rp_wire wire, bool is_stream, rp_str bytes, rp_buffer *encoded)
{
    rp_reply_reader *reader;
    check(rp_reply_reader_new(wire, 200, is_stream, 1 << 20, &reader) == RP_OK);
    rp_reply_reader_feed(reader, bytes);
    const rp_reply_verdict verdict =
        rp_reply_reader_finish(reader, true, json_reader, encoded, NULL);
    rp_reply_reader_free(reader);
    return verdict;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!json_reader)
        check(rp_json_reader_new(&json_reader) == RP_OK);
    if (size == 0)
        return 0;
    const rp_wire wire = (rp_wire)((bytes[0] >> 2) % RP_WIRE_COUNT);
    const rp_str rest = { (const char *)bytes + 1, size - 1 };
    rp_arena arena;
    rp_buffer encoded, out, again;
    rp_arena_init(&arena, 0);
    rp_buffer_init(&encoded, 0);
    rp_buffer_init(&out, 0);
    rp_buffer_init(&again, 0);
    const rp_reply *reply;
    if (bytes[0] % 4 == 0) {
        if (rp_reply_open(rest, &arena, &reply) == RP_OK)
            replay_all(reply, &out);
    } else if (read_reply(wire, bytes[0] % 4 != 1, rest, &encoded) == RP_REPLY_GOOD) {
        check(rp_reply_open(rp_buffer_str(&encoded), &arena, &reply) == RP_OK);
        replay_all(reply, &out);
        rp_replay_options options = { .wire = wire };
        rp_buffer_clear(&out);
        check(rp_reply_replay(reply, &options, &out) == RP_OK);
        check(read_reply(wire, false, rp_buffer_str(&out), &again) == RP_REPLY_GOOD);
        options.stream = true;
        rp_buffer_clear(&out);
        if (rp_reply_replay(reply, &options, &out) == RP_OK)
            check(read_reply(wire, true, rp_buffer_str(&out), &again) == RP_REPLY_GOOD);
    }
    rp_buffer_fini(&again);
    rp_buffer_fini(&out);
    rp_buffer_fini(&encoded);
    rp_arena_fini(&arena);
    return 0;
}
