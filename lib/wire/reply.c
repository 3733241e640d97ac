/* reply.c - a stored reply: the protocol's body, and where its parts lie in it.
 *
 * There is one form for both ways a reply can arrive. A body is kept byte for byte; the
 * events of a stream are assembled into the body the service would have sent. Beside it
 * stands a table of spans: id and created, which a replay replaces; content, tool calls and
 * so on, still escaped as JSON, from which a stream is written. So no replay parses JSON.
 *
 * Encoded (docs/file-format.md, section Reply), little-endian:
 *
 *      0  u32  magic "RPLY"
 *      4  u8   version, 1
 *      5  u8   wire
 *      6  u16  flags
 *      8  i64  input tokens, -1 unknown
 *     16  i64  output tokens, -1 unknown
 *     24  i64  created, seconds
 *     32  u32  size of the body
 *     36  u32  number of spans
 *     40       spans: u32 kind, u32 offset, u32 size; in order of the table's making
 *              the body
 *
 * The store checks the bytes by a checksum; here it is only made sure that no value in
 * them leads out of them. Spans that are spliced must not overlap and must rise. */
#include "wire/wire_internal.h"

#include "base/bytes.h"
#include <stdlib.h>

enum {
    REPLY_VERSION = 1,
    HEADER_SIZE = 40,
    SPAN_SIZE = 12,
    SPANS_MAX = 65536, /* a guess: far above any real reply */
};
#define REPLY_MAGIC 0x594C5052u /* "RPLY" */
#define BODY_SIZE_MAX ((size_t)1 << 30)

/* ---- making -------------------------------------------------------------------------- */

void
rp_draft_span(rp_reply_draft *draft, rp_span_kind kind, rp_str bytes)
{
    if (draft->failed)
        return;
    if (draft->span_count == draft->span_capacity) {
        const size_t capacity = draft->span_capacity ? 2 * draft->span_capacity : 16;
        rp_span *grown = capacity > SPANS_MAX
                             ? NULL
                             : realloc(draft->spans, capacity * sizeof *draft->spans);
        if (!grown) {
            draft->failed = true;
            return;
        }
        draft->spans = grown;
        draft->span_capacity = capacity;
    }
    draft->spans[draft->span_count++] =
        (rp_span){ kind, (uint32_t)(bytes.ptr - draft->body.ptr), (uint32_t)bytes.len };
}

static void
encode(const rp_reply_draft *draft, rp_wire wire, rp_buffer *out)
{
    char header[HEADER_SIZE];
    rp_store_le32(header, REPLY_MAGIC);
    header[4] = REPLY_VERSION;
    header[5] = (char)wire;
    rp_store_le16(header + 6, (uint16_t)draft->flags);
    rp_store_le64(header + 8, (uint64_t)draft->usage.input_tokens);
    rp_store_le64(header + 16, (uint64_t)draft->usage.output_tokens);
    rp_store_le64(header + 24, (uint64_t)draft->created);
    rp_store_le32(header + 32, (uint32_t)draft->body.len);
    rp_store_le32(header + 36, (uint32_t)draft->span_count);
    rp_buffer_append(out, (rp_str){ header, sizeof header });
    for (size_t i = 0; i < draft->span_count; i++) {
        rp_buffer_append_le32(out, draft->spans[i].kind);
        rp_buffer_append_le32(out, draft->spans[i].offset);
        rp_buffer_append_le32(out, draft->spans[i].size);
    }
    rp_buffer_append(out, draft->body);
}

bool
rp_draft_head_member(rp_reply_draft *draft, const rp_json_walk *walk, const char *created,
                     rp_usage (*usage_of)(const rp_json *usage))
{
    const rp_str name = walk->child->name;
    if (rp_str_equal(name, RP_STR("id"))) {
        rp_draft_span(draft, RP_SPAN_ID, walk->value);
    } else if (created && rp_str_equal(name, rp_str_of(created))) {
        rp_draft_span(draft, RP_SPAN_CREATED, walk->value);
        if (!rp_json_to_int64(walk->child, &draft->created))
            draft->created = 0;
    } else if (rp_str_equal(name, RP_STR("model"))) {
        rp_draft_span(draft, RP_SPAN_MODEL, walk->value);
    } else if (rp_str_equal(name, RP_STR("usage"))) {
        if (walk->child->type != RP_JSON_OBJECT)
            return true; /* null until the end of a stream */
        rp_draft_span(draft, RP_SPAN_USAGE, walk->value);
        draft->usage = usage_of(walk->child);
    } else {
        return false;
    }
    return true;
}

bool
rp_draft_unfinished(rp_reply_draft *draft, rp_str finish)
{
    const bool is_cut =
        rp_str_equal(finish, RP_STR("length")) || rp_str_equal(finish, RP_STR("max_tokens"));
    const bool is_filtered = rp_str_equal(finish, RP_STR("content_filter"));
    draft->is_cut = draft->is_cut || is_cut;
    draft->is_filtered = draft->is_filtered || is_filtered;
    return is_cut || is_filtered;
}

/* Of a body that was read to its end. What was cut before it said anything is cut rather than
 * empty; what is both cut and filtered nobody has asked to keep. */
static rp_reply_verdict
judge_finish(const rp_reply_draft *draft, rp_reply_verdict verdict)
{
    if (!draft->is_cut && !draft->is_filtered)
        return verdict;
    if (verdict != RP_REPLY_GOOD && verdict != RP_REPLY_EMPTY)
        return verdict;
    if (verdict == RP_REPLY_EMPTY || (draft->is_cut && draft->is_filtered))
        return RP_REPLY_FINISH;
    return draft->is_cut ? RP_REPLY_LENGTH : RP_REPLY_FILTERED;
}

rp_reply_verdict
rp_reply_from_draft(rp_wire wire, rp_str body, unsigned flags, rp_json_reader *json_reader,
                    rp_buffer *out, rp_usage *usage)
{
    rp_reply_draft draft = { .body = body, .flags = flags, .usage = { -1, -1 } };
    rp_reply_verdict verdict = RP_REPLY_UNREADABLE;
    rp_arena arena;
    const rp_json *json;
    rp_arena_init(&arena, 0);
    if (body.len > BODY_SIZE_MAX ||
        rp_json_parse(json_reader, &arena, body, &json, NULL) != RP_OK)
        goto out;
    verdict = judge_finish(&draft, rp_protocol_of(wire)->reply_body(&draft, json));
    if (draft.flags & RP_REPLY_USAGE_UNKNOWN)
        draft.usage = (rp_usage){ -1, -1 };
    if (usage)
        *usage = draft.usage;
    if (verdict != RP_REPLY_GOOD && verdict != RP_REPLY_LENGTH && verdict != RP_REPLY_FILTERED)
        goto out;
    const size_t before = out->len;
    if (!draft.failed)
        encode(&draft, wire, out);
    if (draft.failed || rp_buffer_failed(out)) {
        out->len = before;
        verdict = RP_REPLY_UNREADABLE;
    }
out:
    free(draft.spans);
    rp_arena_fini(&arena);
    return verdict;
}

rp_reply_verdict
rp_reply_from_body(rp_wire wire, rp_str body, rp_json_reader *json_reader, rp_buffer *out,
                   rp_usage *usage)
{
    return rp_reply_from_draft(wire, body, 0, json_reader, out, usage);
}

/* ---- opening ------------------------------------------------------------------------- */

rp_span
rp_reply_span(const rp_reply *reply, size_t index)
{
    const char *at = reply->spans + index * SPAN_SIZE;
    return (rp_span){ (rp_span_kind)rp_load_le32(at), rp_load_le32(at + 4), rp_load_le32(at + 8) };
}

rp_str
rp_span_bytes(const rp_reply *reply, rp_span span)
{
    return (rp_str){ reply->body.ptr + span.offset, span.size };
}

rp_str
rp_reply_find(const rp_reply *reply, rp_span_kind kind)
{
    for (size_t i = 0; i < reply->span_count; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind == kind)
            return rp_span_bytes(reply, span);
    }
    return (rp_str){ NULL, 0 };
}

bool
rp_group_next(const rp_reply *reply, rp_span_kind kind, rp_span_group *group)
{
    size_t at = group->end;
    while (at < reply->span_count && rp_reply_span(reply, at).kind != kind)
        at++;
    if (at == reply->span_count)
        return false;
    group->first = at++;
    while (at < reply->span_count && rp_reply_span(reply, at).kind != kind)
        at++;
    group->end = at;
    return true;
}

rp_str
rp_group_find(const rp_reply *reply, rp_span_group group, rp_span_kind kind)
{
    for (size_t i = group.first; i < group.end; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind == kind)
            return rp_span_bytes(reply, span);
    }
    return (rp_str){ NULL, 0 };
}

static bool
is_spliced(rp_span_kind kind)
{
    return kind == RP_SPAN_ID || kind == RP_SPAN_CREATED || kind == RP_SPAN_USAGE;
}

static bool
spans_are_sound(const rp_reply *reply)
{
    size_t spliced_end = 0;
    for (size_t i = 0; i < reply->span_count; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind < RP_SPAN_ID || span.kind >= RP_SPAN_KIND_COUNT ||
            span.size > reply->body.len || span.offset > reply->body.len - span.size)
            return false;
        if (is_spliced(span.kind)) {
            if (span.offset < spliced_end)
                return false;
            spliced_end = (size_t)span.offset + span.size;
        }
    }
    return true;
}

rp_status
rp_reply_open(rp_str encoded, rp_arena *arena, const rp_reply **out)
{
    if (encoded.len < HEADER_SIZE || rp_load_le32(encoded.ptr) != REPLY_MAGIC)
        return RP_ERR_CORRUPT;
    if (encoded.ptr[4] != REPLY_VERSION)
        return RP_ERR_STALE;
    const size_t body_size = rp_load_le32(encoded.ptr + 32);
    const size_t span_count = rp_load_le32(encoded.ptr + 36);
    const size_t flags = rp_load_le16(encoded.ptr + 6);
    if ((unsigned char)encoded.ptr[5] >= RP_WIRE_COUNT || flags > RP_REPLY_FLAGS ||
        span_count > SPANS_MAX || body_size > BODY_SIZE_MAX ||
        encoded.len != HEADER_SIZE + span_count * SPAN_SIZE + body_size)
        return RP_ERR_CORRUPT;
    rp_reply *reply = rp_arena_alloc(arena, sizeof *reply);
    if (!reply)
        return RP_ERR_NOMEM;
    *reply = (rp_reply){
        .wire = (rp_wire)encoded.ptr[5],
        .flags = (unsigned)flags,
        .usage = { (int64_t)rp_load_le64(encoded.ptr + 8), (int64_t)rp_load_le64(encoded.ptr + 16) },
        .created = (int64_t)rp_load_le64(encoded.ptr + 24),
        .spans = encoded.ptr + HEADER_SIZE,
        .span_count = span_count,
        .body = { encoded.ptr + HEADER_SIZE + span_count * SPAN_SIZE, body_size },
        .arena = arena,
    };
    if (!spans_are_sound(reply))
        return RP_ERR_CORRUPT;
    *out = reply;
    return RP_OK;
}

rp_wire
rp_reply_wire(const rp_reply *reply)
{
    return reply->wire;
}

rp_usage
rp_reply_usage(const rp_reply *reply)
{
    return reply->usage;
}

bool
rp_reply_has_tool_calls(const rp_reply *reply)
{
    return reply->flags & RP_REPLY_HAS_TOOLS;
}

/* ---- text ---------------------------------------------------------------------------- */

rp_str
rp_string_inside(rp_str json)
{
    if (json.len < 2 || json.ptr[0] != '"' || json.ptr[json.len - 1] != '"')
        return (rp_str){ "", 0 };
    return (rp_str){ json.ptr + 1, json.len - 2 };
}

static bool
read_hex4(rp_str text, size_t at, uint32_t *out)
{
    uint8_t bytes[2];
    if (text.len < at || text.len - at < 4 ||
        !rp_hex_decode((rp_str){ text.ptr + at, 4 }, bytes, sizeof bytes))
        return false;
    *out = (uint32_t)bytes[0] << 8 | bytes[1];
    return true;
}

static size_t
put_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((size == 2 ? 0xC0 : size == 3 ? 0xE0 : 0xF0) | c);
    return size;
}

/* Unescape; the result is never longer. Damage gives other text, never a fault. */
static rp_str
unescape(rp_str inside, rp_arena *arena)
{
    if (inside.len == 0 || !memchr(inside.ptr, '\\', inside.len))
        return inside;
    char *out = rp_arena_alloc(arena, inside.len);
    if (!out)
        return (rp_str){ "", 0 };
    size_t size = 0, i = 0;
    while (i < inside.len) {
        const char *slash = memchr(inside.ptr + i, '\\', inside.len - i);
        const size_t run = slash ? (size_t)(slash - inside.ptr) - i : inside.len - i;
        memcpy(out + size, inside.ptr + i, run);
        size += run;
        i += run + 1;
        if (i >= inside.len)
            break;
        const char c = inside.ptr[i++];
        uint32_t code, low;
        if (c == 'u' && read_hex4(inside, i, &code)) {
            i += 4;
            if (code >= 0xD800 && code < 0xDC00 && i + 1 < inside.len &&
                inside.ptr[i] == '\\' && read_hex4(inside, i + 2, &low) && low >= 0xDC00 &&
                low < 0xE000) {
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                i += 6;
            }
            size += put_utf8(code, out + size);
            continue;
        }
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *known = c ? strchr(from, c) : NULL;
        out[size++] = known ? to[known - from] : c;
    }
    return (rp_str){ out, size };
}

rp_str
rp_reply_text(const rp_reply *reply)
{
    if (!reply->text.ptr) {
        /* Our own memory: the view is const for the others only. */
        const rp_str content = rp_string_inside(rp_reply_find(reply, RP_SPAN_CONTENT));
        ((rp_reply *)reply)->text = unescape(content, reply->arena);
    }
    return reply->text;
}

rp_str
rp_reply_original_id(const rp_reply *reply)
{
    return rp_string_inside(rp_reply_find(reply, RP_SPAN_ID));
}
