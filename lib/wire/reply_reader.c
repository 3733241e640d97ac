/* reply_reader.c - watches a reply on its way to the client.
 *
 * While bytes pass, they are only kept (the loop thread has no time for more); whether the
 * reply is whole and worth keeping is decided at the end, off the path of the client. */
#include "wire/wire_internal.h"

#include "base/bytes.h"
#include "net/sse.h"
#include <stdlib.h>

struct rp_reply_reader {
    rp_wire wire;
    int http_status;
    bool is_stream;
    bool too_large;
    rp_buffer bytes;
};

rp_status
rp_reply_reader_new(rp_wire wire, int http_status, bool is_stream, size_t size_max,
                    rp_reply_reader **out)
{
    rp_reply_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return RP_ERR_NOMEM;
    reader->wire = wire;
    reader->http_status = http_status;
    reader->is_stream = is_stream;
    rp_buffer_init(&reader->bytes, size_max);
    *out = reader;
    return RP_OK;
}

void
rp_reply_reader_free(rp_reply_reader *reader)
{
    if (!reader)
        return;
    rp_buffer_fini(&reader->bytes);
    free(reader);
}

/* A 206 says itself that it is a part. */
static bool
is_success(const rp_reply_reader *reader)
{
    return reader->http_status >= 200 && reader->http_status < 300 && reader->http_status != 206;
}

void
rp_reply_reader_feed(rp_reply_reader *reader, rp_str bytes)
{
    if (reader->too_large || !is_success(reader))
        return;
    rp_buffer_append(&reader->bytes, bytes);
    if (rp_buffer_failed(&reader->bytes)) {
        reader->too_large = true;
        rp_buffer_fini(&reader->bytes);
    }
}

/* ---- streams -------------------------------------------------------------------------- */

typedef struct stream_walk {
    const rp_protocol *protocol;
    rp_json_reader *json_reader;
    rp_assembly assembly;
    rp_arena event_arena;
} stream_walk;

static void
on_event(void *context, const rp_sse_event *event)
{
    stream_walk *walk = context;
    rp_assembly *assembly = &walk->assembly;
    /* What follows the end is not part of the reply; what follows a no changes nothing. */
    if (assembly->terminal || assembly->verdict != RP_REPLY_GOOD)
        return;
    if (rp_str_equal(rp_str_trimmed(event->data), RP_STR("[DONE]"))) {
        walk->protocol->reply_event(assembly, event->type, NULL);
        return;
    }
    const rp_json *json;
    rp_arena_reset(&walk->event_arena);
    if (rp_json_parse(walk->json_reader, &walk->event_arena, event->data, &json, NULL) != RP_OK) {
        assembly->verdict = RP_REPLY_UNREADABLE;
        return;
    }
    if (!rp_json_is_idle(rp_json_get(json, "error")) || rp_str_equal(event->type, RP_STR("error"))) {
        assembly->verdict = RP_REPLY_ERROR;
        return;
    }
    walk->protocol->reply_event(assembly, event->type, json);
}

static rp_reply_verdict
finish_stream(rp_reply_reader *reader, bool clean, rp_json_reader *json_reader, rp_buffer *out,
              rp_usage *usage)
{
    const rp_protocol *protocol = rp_protocol_of(reader->wire);
    if (protocol->assembly_size == 0)
        return RP_REPLY_UNREADABLE;
    rp_arena arena;
    rp_sse_reader sse;
    rp_buffer body;
    stream_walk walk = { .protocol = protocol, .json_reader = json_reader };
    rp_arena_init(&arena, 0);
    rp_arena_init(&walk.event_arena, 0);
    rp_sse_init(&sse, reader->bytes.len);
    rp_buffer_init(&body, 0);
    walk.assembly.arena = &arena;
    walk.assembly.state = rp_arena_calloc(&arena, 1, protocol->assembly_size);
    rp_reply_verdict verdict = RP_REPLY_UNREADABLE;
    if (!walk.assembly.state)
        goto out;
    if (!rp_sse_feed(&sse, rp_buffer_str(&reader->bytes), on_event, &walk))
        walk.assembly.verdict = RP_REPLY_UNREADABLE;
    verdict = walk.assembly.verdict;
    if (verdict == RP_REPLY_GOOD && (!walk.assembly.terminal || !clean))
        verdict = RP_REPLY_INCOMPLETE;
    if (verdict == RP_REPLY_GOOD) {
        protocol->reply_assembled(&walk.assembly, &body);
        verdict = walk.assembly.verdict;
        if (verdict == RP_REPLY_GOOD && (rp_buffer_failed(&body) || rp_arena_failed(&arena)))
            verdict = RP_REPLY_UNREADABLE;
    }
    if (verdict == RP_REPLY_GOOD) {
        const unsigned flags = RP_REPLY_FROM_STREAM |
                               (walk.assembly.usage_known ? 0 : RP_REPLY_USAGE_UNKNOWN);
        verdict = rp_reply_from_draft(reader->wire, rp_buffer_str(&body), flags, json_reader, out,
                                      usage);
    }
out:
    if (walk.assembly.state && protocol->assembly_fini)
        protocol->assembly_fini(&walk.assembly);
    rp_buffer_fini(&body);
    rp_sse_fini(&sse);
    rp_arena_fini(&walk.event_arena);
    rp_arena_fini(&arena);
    return verdict;
}

rp_reply_verdict
rp_reply_reader_finish(rp_reply_reader *reader, bool clean, rp_json_reader *json_reader,
                       rp_buffer *out, rp_usage *usage)
{
    if (usage)
        *usage = (rp_usage){ -1, -1 };
    if (!is_success(reader))
        return RP_REPLY_STATUS;
    if (reader->too_large)
        return RP_REPLY_UNREADABLE;
    if (reader->is_stream)
        return finish_stream(reader, clean, json_reader, out, usage);
    if (!clean || reader->bytes.len == 0)
        return RP_REPLY_INCOMPLETE;
    return rp_reply_from_body(reader->wire, rp_buffer_str(&reader->bytes), json_reader, out, usage);
}
