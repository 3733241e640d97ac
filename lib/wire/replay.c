/* replay.c - a stored reply goes out again: what all protocols have in common.
 *
 * The same body with a few values replaced is copied in pieces. Streams are cut into a few
 * large pieces: clients show text as it comes, but nobody waits for a token here. */
#include "wire/wire_internal.h"

#include "base/bytes.h"

rp_status
rp_reply_replay(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    if (options->wire != reply->wire)
        return rp_replay_on_other_wire(reply, options, out);
    const rp_protocol *protocol = rp_protocol_of(reply->wire);
    if (options->stream && (!protocol->replay_stream || (reply->flags & RP_REPLY_BODY_ONLY)))
        return RP_ERR_UNSUPPORTED;
    const size_t before = out->len;
    const rp_status status = options->stream ? protocol->replay_stream(reply, options, out)
                                             : protocol->replay_body(reply, options, out);
    if (status != RP_OK)
        out->len = before;
    else if (rp_buffer_failed(out))
        return RP_ERR_NOMEM;
    return status;
}

void
rp_replay_id(const rp_reply *reply, const rp_replay_options *options, const char *prefix,
             rp_buffer *out)
{
    if (reply->flags & RP_REPLY_KEEP_ID) {
        rp_buffer_append(out, rp_reply_find(reply, RP_SPAN_ID));
        return;
    }
    char bytes[16], digits[33];
    rp_store_le64(bytes, options->id_random[0]);
    rp_store_le64(bytes + 8, options->id_random[1]);
    rp_hex_encode(bytes, sizeof bytes, digits);
    rp_buffer_append_char(out, '"');
    rp_buffer_append(out, rp_str_of(prefix));
    rp_buffer_append(out, (rp_str){ digits, 32 });
    rp_buffer_append_char(out, '"');
}

static void
put_number(int64_t value, rp_buffer *out)
{
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    rp_json_put_int(&w, value);
}

rp_status
rp_replay_body(const rp_reply *reply, const rp_replay_options *options, const char *id_prefix,
               rp_str zero_usage, rp_buffer *out)
{
    size_t at = 0;
    rp_buffer_reserve(out, reply->body.len + 64);
    for (size_t i = 0; i < reply->span_count; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind != RP_SPAN_ID && span.kind != RP_SPAN_CREATED &&
            !(span.kind == RP_SPAN_USAGE && options->zero_usage))
            continue;
        rp_buffer_append(out, (rp_str){ reply->body.ptr + at, span.offset - at });
        at = (size_t)span.offset + span.size;
        if (span.kind == RP_SPAN_ID)
            rp_replay_id(reply, options, id_prefix, out);
        else if (span.kind == RP_SPAN_CREATED)
            put_number(options->created, out);
        else
            rp_buffer_append(out, zero_usage);
    }
    rp_buffer_append(out, (rp_str){ reply->body.ptr + at, reply->body.len - at });
    return RP_OK;
}

void
rp_replay_raw(rp_str json, rp_buffer *out)
{
    if (json.len == 0)
        return;
    if (!memchr(json.ptr, '\n', json.len) && !memchr(json.ptr, '\r', json.len)) {
        rp_buffer_append(out, json);
        return;
    }
    for (size_t i = 0; i < json.len; i++)
        if (json.ptr[i] != '\n' && json.ptr[i] != '\r')
            rp_buffer_append_char(out, json.ptr[i]);
}

size_t
rp_replay_piece_size(size_t size)
{
    /* About four pieces; none so small that the framing outweighs it, none so large that
     * a client's line buffer minds. Both bounds are guesses. */
    const size_t quarter = size / 4 + 1;
    return RP_MAX((size_t)64, RP_MIN(quarter, (size_t)4096));
}

/* The size of the escape, or of the UTF-8 sequence, at `at`; at least 1. */
static size_t
unit_size(rp_str text, size_t at)
{
    const unsigned char c = (unsigned char)text.ptr[at];
    size_t size = 1;
    if (c == '\\' && at + 1 < text.len) {
        size = text.ptr[at + 1] == 'u' ? 6 : 2;
        /* A high surrogate takes the low one with it. */
        if (size == 6 && at + 12 <= text.len && (text.ptr[at + 2] | 0x20) == 'd' &&
            text.ptr[at + 6] == '\\' && text.ptr[at + 7] == 'u')
            size = 12;
    } else if (c >= 0xC0) {
        size = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    }
    return RP_MIN(size, text.len - at);
}

rp_str
rp_replay_piece(rp_str *rest, size_t size)
{
    const rp_str text = *rest;
    size_t at = 0, word_end = 0;
    /* Escapes are found from the left only: a backslash may itself be escaped. */
    while (at < text.len && (at < size || (word_end <= size / 2 && at < 2 * size))) {
        const size_t unit = unit_size(text, at);
        const bool space = text.ptr[at] == ' ' ||
                           (unit == 2 && text.ptr[at] == '\\' && text.ptr[at + 1] == 'n');
        at += unit;
        if (space)
            word_end = at;
    }
    const size_t cut = at < text.len && word_end > size / 2 ? word_end : at;
    *rest = (rp_str){ text.ptr + cut, text.len - cut };
    return (rp_str){ text.ptr, cut };
}
