/* stream.c - see stream.h. */
#include "eval/stream.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/random.h"
#include "json/json.h"
#include "wire/wire.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void
rp_stream_fini(rp_stream *stream)
{
    rp_text_set_fini(&stream->texts);
    rp_text_set_fini(&stream->answers);
    rp_text_set_fini(&stream->scopes);
    rp_text_set_fini(&stream->categories);
    rp_text_set_fini(&stream->keys);
    rp_text_set_fini(&stream->users);
    free(stream->rows);
    *stream = (rp_stream){ 0 };
}

/* The place of a line, for sentences. */
typedef struct place {
    const char *path;
    size_t line;
    rp_error *error;
} place;

static rp_status
refuse(const place *at, const char *what)
{
    return rp_fail(at->error, RP_ERR_INVALID, "%s:%zu: %s", at->path, at->line, what);
}

/* A string, or a whole number written as one. ptr NULL: neither. */
static rp_str
string_or_integer(const rp_json *value, char storage[32])
{
    int64_t number;
    if (value && value->type == RP_JSON_INT && rp_json_to_int64(value, &number)) {
        const int len = snprintf(storage, 32, "%lld", (long long)number);
        return (rp_str){ storage, (size_t)len };
    }
    return rp_json_string(value);
}

static rp_status
read_number(const place *at, const rp_json *object, const char *name, double *out)
{
    const rp_json *value = rp_json_get(object, name);
    if (!value || value->type == RP_JSON_NULL)
        return RP_OK;
    if (!rp_json_to_double(value, out) || !isfinite(*out) || *out < 0 || *out > 1e12)
        return rp_fail(at->error, RP_ERR_INVALID, "%s:%zu: \"%s\" is no number from 0 to 1e12",
                       at->path, at->line, name);
    return RP_OK;
}

/* An optional string; absent: empty. */
static rp_status
read_string(const place *at, const rp_json *object, const char *name, size_t size_max, rp_str *out)
{
    const rp_json *value = rp_json_get(object, name);
    *out = (rp_str){ "", 0 };
    if (!value || value->type == RP_JSON_NULL)
        return RP_OK;
    if (value->type != RP_JSON_STRING || value->string.len > size_max)
        return rp_fail(at->error, RP_ERR_INVALID, "%s:%zu: \"%s\" is no string of at most %zu bytes",
                       at->path, at->line, name, size_max);
    *out = value->string;
    return RP_OK;
}

/* Scope and history as one string: each with its length before it, so that two different
 * conversations never look the same. */
static rp_status
fill_scope(const place *at, const rp_json *object, rp_buffer *out)
{
    rp_str scope;
    const rp_json *history = rp_json_get(object, "history");
    const rp_status status = read_string(at, object, "scope", RP_TEXT_SIZE_MAX, &scope);
    if (status)
        return status;
    rp_buffer_clear(out);
    rp_buffer_append_le64(out, scope.len);
    rp_buffer_append(out, scope);
    if (!history || history->type == RP_JSON_NULL)
        return RP_OK;
    if (history->type != RP_JSON_ARRAY)
        return refuse(at, "\"history\" is no array of strings");
    for (uint32_t i = 0; i < history->count; i++) {
        if (history->children[i].type != RP_JSON_STRING)
            return refuse(at, "\"history\" is no array of strings");
        rp_buffer_append_le64(out, history->children[i].string.len);
        rp_buffer_append(out, history->children[i].string);
    }
    return RP_OK;
}

static rp_status
add_row(rp_stream *stream, const rp_stream_row *row)
{
    if (stream->count == stream->capacity) {
        const size_t capacity = stream->capacity ? 2 * stream->capacity : 1024;
        rp_stream_row *rows = realloc(stream->rows, capacity * sizeof *rows);
        if (!rows)
            return RP_ERR_NOMEM;
        stream->rows = rows;
        stream->capacity = capacity;
    }
    stream->rows[stream->count++] = *row;
    return RP_OK;
}

/* The key, as in the server, is the words as they came; what is matched is their one form. */
static rp_status
intern(rp_stream *stream, rp_str prompt, rp_str normal, rp_str answer, rp_str scope,
       rp_str category, rp_stream_row *row)
{
    rp_status status = rp_text_set_add(&stream->texts, normal, &row->text);
    if (!status)
        status = rp_text_set_add(&stream->answers, answer, &row->answer);
    if (!status)
        status = rp_text_set_add(&stream->scopes, scope, &row->scope);
    if (!status)
        status = rp_text_set_add(&stream->categories, category, &row->category);
    if (status)
        return status;
    rp_buffer key;
    rp_buffer_init(&key, 0);
    rp_buffer_append_le32(&key, row->scope);
    rp_buffer_append(&key, prompt);
    status = rp_buffer_failed(&key) ? RP_ERR_NOMEM
                                    : rp_text_set_add(&stream->keys, rp_buffer_str(&key), &row->key);
    rp_buffer_fini(&key);
    return status ? status : add_row(stream, row);
}

/* Whom a personal question is about; only whether two are the same counts. */
static rp_status
fill_user(const place *at, const rp_json *object, rp_stream *stream, rp_stream_row *row)
{
    rp_str user;
    uint32_t number = 0;
    rp_status status = read_string(at, object, "user", RP_TEXT_SIZE_MAX, &user);
    if (status || user.len == 0)
        return status;
    if ((status = rp_text_set_add(&stream->users, user, &number)))
        return rp_fail(at->error, status, "%s:%zu: no memory for more users", at->path, at->line);
    row->user = number + 1;
    return RP_OK;
}

static rp_status
read_object(const place *at, const rp_json *object, rp_arena *arena, rp_buffer *scope,
            rp_stream *stream)
{
    char digits[32];
    rp_str category;
    if (object->type != RP_JSON_OBJECT)
        return refuse(at, "this is no JSON object");
    const rp_str prompt = rp_json_string(rp_json_get(object, "prompt"));
    const rp_str answer = string_or_integer(rp_json_get(object, "answer_id"), digits);
    if (!prompt.ptr || rp_str_trimmed(prompt).len == 0)
        return refuse(at, "\"prompt\" is missing, no string, or empty");
    if (prompt.len > RP_TEXT_SIZE_MAX)
        return refuse(at, "\"prompt\" is too long");
    if (!answer.ptr || answer.len == 0)
        return refuse(at, "\"answer_id\" is missing, or neither a string nor a whole number");
    rp_stream_row row = { .time = (double)stream->count, .cost = NAN };
    rp_status status = read_number(at, object, "time", &row.time);
    if (!status)
        status = read_number(at, object, "cost", &row.cost);
    if (!status)
        status = read_string(at, object, "category", RP_TAG_SIZE_MAX, &category);
    if (!status)
        status = fill_scope(at, object, scope);
    if (!status)
        status = fill_user(at, object, stream, &row);
    if (status)
        return status;
    const rp_json *time = rp_json_get(object, "time");
    stream->has_times |= time && time->type != RP_JSON_NULL;
    const rp_str normal = rp_normal_text(prompt, arena);
    status = rp_buffer_failed(scope) || !normal.ptr
                 ? RP_ERR_NOMEM
                 : intern(stream, prompt, normal, answer, rp_buffer_str(scope), category, &row);
    return status ? rp_fail(at->error, status, "%s:%zu: no memory for more requests", at->path,
                            at->line)
                  : RP_OK;
}

static rp_status
read_line(place *at, rp_json_reader *reader, rp_arena *arena, rp_buffer *scope, rp_str line,
          rp_stream *stream)
{
    const rp_json *object;
    rp_error why = { { 0 } };
    rp_arena_reset(arena);
    if (rp_str_trimmed(line).len == 0)
        return refuse(at, "the line is empty");
    const rp_status status = rp_json_parse(reader, arena, line, &object, &why);
    if (status)
        return rp_fail(at->error, status, "%s:%zu: %s", at->path, at->line, why.text);
    return read_object(at, object, arena, scope, stream);
}

rp_status
rp_stream_read(const char *path, rp_stream *out, rp_error *error)
{
    rp_file_map map;
    rp_json_reader *reader;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status) /* a folder, a device: an input that cannot be used */
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    if ((status = rp_json_reader_new(&reader))) {
        rp_file_map_close(&map);
        return rp_fail(error, status, "no memory for a JSON reader");
    }
    rp_text_set *const sets[] = { &out->texts, &out->answers, &out->scopes, &out->categories,
                                  &out->keys, &out->users };
    rp_arena arena;
    rp_buffer scope;
    place at = { .path = path, .error = error };
    *out = (rp_stream){ 0 };
    for (size_t i = 0; i < RP_COUNT(sets); i++)
        rp_text_set_init(sets[i]);
    rp_arena_init(&arena, 0);
    rp_buffer_init(&scope, 0);
    for (rp_str rest = { map.ptr, map.len }; !status && rest.len;) {
        at.line++;
        status = read_line(&at, reader, &arena, &scope, rp_str_split(&rest, '\n'), out);
    }
    if (!status && out->count == 0)
        status = rp_fail(error, RP_ERR_INVALID, "%s: there are no requests in it", path);
    rp_buffer_fini(&scope);
    rp_arena_fini(&arena);
    rp_json_reader_free(reader);
    rp_file_map_close(&map);
    if (status)
        rp_stream_fini(out);
    return status;
}

/* ---- order ------------------------------------------------------------------------------- */

enum { DRIFT_PHASES = 4 };

static void
shuffle(rp_random *random, uint32_t *values, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        const size_t other = rp_random_below(random, i);
        const uint32_t moved = values[i - 1];
        values[i - 1] = values[other];
        values[other] = moved;
    }
}

/* Stable counting sort of `lines` by the place of their answers (`place_count` places). */
static rp_status
sort_by_place(const rp_stream *stream, const uint32_t *places, size_t place_count, uint32_t *lines)
{
    size_t *starts = calloc(place_count + 1, sizeof *starts);
    uint32_t *sorted = calloc(stream->count, sizeof *sorted);
    if (starts && sorted) {
        for (size_t i = 0; i < stream->count; i++)
            starts[places[stream->rows[i].answer] + 1]++;
        for (size_t i = 1; i <= place_count; i++)
            starts[i] += starts[i - 1];
        for (size_t i = 0; i < stream->count; i++)
            sorted[starts[places[stream->rows[lines[i]].answer]]++] = lines[i];
        memcpy(lines, sorted, stream->count * sizeof *lines);
    }
    const rp_status status = starts && sorted ? RP_OK : RP_ERR_NOMEM;
    free(starts);
    free(sorted);
    return status;
}

rp_status
rp_stream_arrange(const rp_stream *stream, rp_stream_order order, uint64_t seed, uint32_t *out)
{
    const size_t answers = stream->answers.count;
    rp_random random;
    rp_random_init(&random, seed);
    for (size_t i = 0; i < stream->count; i++)
        out[i] = (uint32_t)i;
    if (order == RP_ORDER_FILE)
        return RP_OK;
    shuffle(&random, out, stream->count);
    if (order == RP_ORDER_SHUFFLED)
        return RP_OK;
    uint32_t *places = calloc(answers + 1, sizeof *places);
    if (!places)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < answers; i++)
        places[i] = (uint32_t)i;
    shuffle(&random, places, answers);
    for (size_t i = 0; order == RP_ORDER_DRIFTING && i < answers; i++)
        places[i] %= DRIFT_PHASES;
    const rp_status status
        = sort_by_place(stream, places, order == RP_ORDER_DRIFTING ? DRIFT_PHASES : answers, out);
    free(places);
    return status;
}
