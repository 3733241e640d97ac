/* make_stream_trace.c - arrival times and lengths of real requests; see make_stream.h. */
#include "eval/make_stream_internal.h"

#include "base/bytes.h"
#include "base/file.h"
#include "json/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* "2023-11-16 18:17:03.9799600" in seconds since 1970. */
static bool
read_timestamp(rp_str text, double *out)
{
    char copy[40];
    int year, month, day, hour, minute, used = 0;
    double second;
    if (text.len >= sizeof copy)
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    if (sscanf(copy, "%4d-%2d-%2d %2d:%2d:%lf%n", &year, &month, &day, &hour, &minute, &second,
               &used) != 6 || (size_t)used != text.len)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 ||
        minute > 59 || !(second >= 0 && second < 61) || year < 1970)
        return false;
    struct tm when = { .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour,
                       .tm_min = minute };
    *out = (double)timegm(&when) + second;
    return true;
}

static bool
read_csv_row(rp_str line, rp_trace_row *out)
{
    const rp_str time = rp_str_split(&line, ','), in = rp_str_split(&line, ',');
    return read_timestamp(time, &out->seconds) && rp_str_to_double(in, &out->tokens_in) &&
           rp_str_to_double(line, &out->tokens_out);
}

static bool
read_json_row(rp_json_reader *reader, rp_arena *arena, rp_str line, rp_trace_row *out)
{
    const rp_json *object;
    rp_arena_reset(arena);
    if (rp_json_parse(reader, arena, line, &object, NULL) != RP_OK ||
        !rp_json_to_double(rp_json_get(object, "timestamp"), &out->seconds) ||
        !rp_json_to_double(rp_json_get(object, "input_length"), &out->tokens_in) ||
        !rp_json_to_double(rp_json_get(object, "output_length"), &out->tokens_out))
        return false;
    out->seconds /= 1000;
    return true;
}

static bool
is_sound(const rp_trace_row *row)
{
    return isfinite(row->seconds) && row->tokens_in >= 0 && row->tokens_in < 1e9 &&
           row->tokens_out >= 0 && row->tokens_out < 1e9;
}

static rp_status
add_row(rp_trace *trace, size_t *capacity, const rp_trace_row *row)
{
    if (trace->count == *capacity) {
        const size_t more = *capacity ? 2 * *capacity : 1024;
        rp_trace_row *rows = realloc(trace->rows, more * sizeof *rows);
        if (!rows)
            return RP_ERR_NOMEM;
        trace->rows = rows;
        *capacity = more;
    }
    trace->rows[trace->count++] = *row;
    return RP_OK;
}

/* The first request comes at 0; a trace that begins again leaves its mean distance between. */
static rp_status
finish(rp_trace *trace, const char *path, rp_error *error)
{
    const double first = trace->rows[0].seconds;
    for (size_t i = 0; i < trace->count; i++) {
        trace->rows[i].seconds -= first;
        if (i && trace->rows[i].seconds < trace->rows[i - 1].seconds)
            return rp_fail(error, RP_ERR_INVALID, "%s: request %zu comes before the one before it",
                           path, i + 1);
    }
    const double last = trace->rows[trace->count - 1].seconds;
    trace->length = last + (trace->count > 1 ? last / (double)(trace->count - 1) : 1);
    return RP_OK;
}

rp_status
rp_trace_read(const char *path, rp_trace *out, rp_error *error)
{
    rp_file_map map;
    rp_json_reader *reader;
    rp_trace trace = { 0 };
    rp_arena arena;
    size_t capacity = 0, number = 0;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    if ((status = rp_json_reader_new(&reader))) {
        rp_file_map_close(&map);
        return rp_fail(error, status, "no memory for a JSON reader");
    }
    rp_arena_init(&arena, 0);
    for (rp_str rest = { map.ptr, map.len }; !status && rest.len;) {
        rp_str line = rp_str_trimmed(rp_str_split(&rest, '\n'));
        rp_trace_row row = { 0 };
        number++;
        if (number == 1 && rp_str_starts_with(line, RP_STR("TIMESTAMP,")))
            continue;
        const bool good = line.len && line.ptr[0] == '{' ? read_json_row(reader, &arena, line, &row)
                                                         : read_csv_row(line, &row);
        if (!good || !is_sound(&row))
            status = rp_fail(error, RP_ERR_INVALID, "%s:%zu: no time and two numbers of tokens",
                             path, number);
        else if ((status = add_row(&trace, &capacity, &row)))
            rp_fail(error, status, "no memory for the trace");
    }
    if (!status && trace.count == 0)
        status = rp_fail(error, RP_ERR_INVALID, "%s: there are no requests in it", path);
    if (!status)
        status = finish(&trace, path, error);
    rp_arena_fini(&arena);
    rp_json_reader_free(reader);
    rp_file_map_close(&map);
    if (status)
        rp_trace_fini(&trace);
    else
        *out = trace;
    return status;
}

void
rp_trace_fini(rp_trace *trace)
{
    free(trace->rows);
    *trace = (rp_trace){ 0 };
}
