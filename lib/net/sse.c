/* sse.c - see sse.h.
 *
 * Bytes are cut into lines, lines into fields. A line that lies whole in what was
 * fed is read where it lies; only a line cut by the end of a feed is copied. Both
 * ways keep the same limit, so that any split of the bytes gives the same events
 * and fails at the same line. */
#include "net/sse.h"
#include "base/bytes.h"

void
rp_sse_init(rp_sse_reader *reader, size_t event_size_max)
{
    *reader = (rp_sse_reader){ 0 };
    rp_buffer_init(&reader->line, event_size_max);
    rp_buffer_init(&reader->type, event_size_max);
    rp_buffer_init(&reader->data, event_size_max);
}

void
rp_sse_fini(rp_sse_reader *reader)
{
    rp_buffer_fini(&reader->line);
    rp_buffer_fini(&reader->type);
    rp_buffer_fini(&reader->data);
}

static void
dispatch(rp_sse_reader *reader, rp_sse_call *call, void *context)
{
    /* Without a data line there is no event, whatever else was said. */
    if (reader->has_data) {
        const rp_sse_event event = {
            .type = reader->type.len ? rp_buffer_str(&reader->type) : RP_STR("message"),
            .data = rp_buffer_str(&reader->data),
        };
        call(context, &event);
    }
    rp_buffer_clear(&reader->type);
    rp_buffer_clear(&reader->data);
    reader->has_data = false;
}

static void
take_field(rp_sse_reader *reader, rp_str line)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    const rp_str name = { line.ptr, colon ? (size_t)(colon - line.ptr) : line.len };
    rp_str value = { line.ptr + line.len, 0 };
    if (colon) {
        const size_t skip = name.len + 1;
        value = (rp_str){ line.ptr + skip, line.len - skip };
        if (value.len && value.ptr[0] == ' ')
            value = (rp_str){ value.ptr + 1, value.len - 1 };
    }
    if (rp_str_equal(name, RP_STR("data"))) {
        if (reader->has_data)
            rp_buffer_append_char(&reader->data, '\n');
        rp_buffer_append(&reader->data, value);
        reader->has_data = true;
    } else if (rp_str_equal(name, RP_STR("event"))) {
        rp_buffer_clear(&reader->type);
        rp_buffer_append(&reader->type, value);
    }
}

static void
take_line(rp_sse_reader *reader, rp_str line, rp_sse_call *call, void *context)
{
    if (!reader->started) {
        reader->started = true;
        if (rp_str_starts_with(line, RP_STR("\xEF\xBB\xBF")))
            line = (rp_str){ line.ptr + 3, line.len - 3 };
    }
    if (line.len == 0)
        dispatch(reader, call, context);
    else
        take_field(reader, line);
}

/* Where the first CR or LF of `bytes` is, or its end. */
static size_t
find_line_end(rp_str bytes)
{
    const char *lf = memchr(bytes.ptr, '\n', bytes.len);
    const size_t end = lf ? (size_t)(lf - bytes.ptr) : bytes.len;
    const char *cr = memchr(bytes.ptr, '\r', end);
    return cr ? (size_t)(cr - bytes.ptr) : end;
}

bool
rp_sse_feed(rp_sse_reader *reader, rp_str bytes, rp_sse_call *call, void *context)
{
    while (bytes.len && !reader->failed) {
        if (reader->after_cr) {
            reader->after_cr = false;
            if (bytes.ptr[0] == '\n') {
                bytes = (rp_str){ bytes.ptr + 1, bytes.len - 1 };
                continue;
            }
        }
        const size_t end = find_line_end(bytes);
        const rp_str part = { bytes.ptr, end };
        const size_t size_max = reader->line.size_max;
        const bool whole = end < bytes.len;
        if (whole && reader->line.len == 0) {
            if (size_max && part.len > size_max)
                reader->line.failed = true;
            else
                take_line(reader, part, call, context);
        } else {
            rp_buffer_append(&reader->line, part);
            if (whole && !rp_buffer_failed(&reader->line)) {
                take_line(reader, rp_buffer_str(&reader->line), call, context);
                rp_buffer_clear(&reader->line);
            }
        }
        reader->failed = rp_buffer_failed(&reader->line) || rp_buffer_failed(&reader->data) ||
                         rp_buffer_failed(&reader->type);
        reader->after_cr = whole && bytes.ptr[end] == '\r';
        bytes.ptr += whole ? end + 1 : end;
        bytes.len -= whole ? end + 1 : end;
    }
    return !reader->failed;
}
