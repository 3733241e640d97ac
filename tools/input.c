/* input.c - see input.h. Lines are cut out of 64 KiB pieces; only a line that
 * crosses a border is copied together. */
#include "tools/input.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct rp_input {
    FILE *file; /* owned unless it is stdin */
    const char *name;
    rp_input_format format; /* AUTO until the first byte was seen */
    rp_json_reader *reader;
    rp_arena arena;
    rp_buffer line; /* the part of a line that ended a piece */
    uint64_t line_number;
    size_t at, len; /* what is left of the piece */
    char piece[64 << 10];
};

bool
rp_input_format_of(const char *name, rp_input_format *out)
{
    static const char *const names[] = { "auto", "text", "jsonl" };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (rp_input_format)i;
            return true;
        }
    return false;
}

rp_status
rp_input_open(const char *path, rp_input_format format, rp_input **out, rp_error *error)
{
    const bool is_stdin = !path || strcmp(path, "-") == 0;
    rp_input *input = calloc(1, sizeof *input);
    if (!input || rp_json_reader_new(&input->reader) != RP_OK) {
        free(input);
        return rp_fail(error, RP_ERR_NOMEM, "no memory to read the input");
    }
    input->name = is_stdin ? "standard input" : path;
    input->format = format;
    rp_arena_init(&input->arena, 0); /* bounded by the line */
    rp_buffer_init(&input->line, RP_INPUT_LINE_SIZE_MAX);
    input->file = is_stdin ? stdin : fopen(path, "rb");
    if (!input->file) {
        const int reason = errno;
        rp_input_close(input);
        return rp_fail(error, reason == ENOENT ? RP_ERR_NOT_FOUND : RP_ERR_IO,
                       "cannot open %s: %s", path, strerror(reason));
    }
    *out = input;
    return RP_OK;
}

void
rp_input_close(rp_input *input)
{
    if (!input)
        return;
    if (input->file && input->file != stdin)
        fclose(input->file);
    rp_json_reader_free(input->reader);
    rp_arena_fini(&input->arena);
    rp_buffer_fini(&input->line);
    free(input);
}

/* The next line without its end, or *more false. */
static rp_status
next_line(rp_input *input, rp_str *line, bool *more, rp_error *error)
{
    rp_buffer_clear(&input->line);
    *more = true;
    for (;;) {
        const char *from = input->piece + input->at;
        const size_t left = input->len - input->at;
        const char *stop = left ? memchr(from, '\n', left) : NULL;
        const size_t size = stop ? (size_t)(stop - from) : left;
        input->at += size + (stop != NULL);
        if (stop && input->line.len == 0) {
            *line = (rp_str){ from, size };
            break;
        }
        if (size)
            rp_buffer_append(&input->line, (rp_str){ from, size });
        if (rp_buffer_failed(&input->line))
            return rp_fail(error, RP_ERR_LIMIT, "%s, line %llu: longer than %d bytes", input->name,
                           (unsigned long long)input->line_number + 1, RP_INPUT_LINE_SIZE_MAX);
        *line = rp_buffer_str(&input->line);
        if (stop)
            break;
        input->len = fread(input->piece, 1, sizeof input->piece, input->file);
        input->at = 0;
        if (input->len == 0 && ferror(input->file))
            return rp_fail(error, RP_ERR_IO, "cannot read %s", input->name);
        if (input->len == 0) {
            *more = line->len > 0;
            break;
        }
    }
    input->line_number += *more;
    if (line->len && line->ptr[line->len - 1] == '\r')
        line->len--;
    return RP_OK;
}

static rp_status
text_of(rp_input *input, rp_str line, rp_str *text, rp_error *error)
{
    const rp_json *root = NULL;
    rp_error reason = { { 0 } };
    rp_arena_reset(&input->arena);
    const rp_status status = rp_json_parse(input->reader, &input->arena, line, &root, &reason);
    if (status)
        return rp_fail(error, status, "%s, line %llu: %s", input->name,
                       (unsigned long long)input->line_number, reason.text);
    const rp_json *value = rp_json_get(root, "text");
    if (!value || value->type != RP_JSON_STRING)
        return rp_fail(error, RP_ERR_INVALID, "%s, line %llu: no string \"text\"", input->name,
                       (unsigned long long)input->line_number);
    *text = value->string;
    return RP_OK;
}

rp_status
rp_input_next(rp_input *input, rp_str *text, bool *more, rp_error *error)
{
    rp_str line = { 0 };
    for (;;) {
        const rp_status status = next_line(input, &line, more, error);
        if (status || !*more)
            return status;
        if (input->format == RP_INPUT_AUTO)
            input->format = line.len && line.ptr[0] == '{' ? RP_INPUT_JSONL : RP_INPUT_TEXT;
        if (input->format == RP_INPUT_TEXT) {
            *text = line;
            return RP_OK;
        }
        if (rp_str_trimmed(line).len)
            return text_of(input, line, text, error);
    }
}
