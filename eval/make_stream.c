/* make_stream.c - see make_stream.h. */
#include "eval/make_stream.h"

#include "eval/text_set.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/random.h"
#include "json/json.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { COLUMNS_MAX = 16 };

typedef struct source_row {
    uint32_t text, answer;
} source_row;

typedef struct source {
    rp_text_set texts, answers;
    source_row *rows; /* owned */
    size_t count, capacity;
    rp_str columns[COLUMNS_MAX]; /* of the header; lent from the file */
    size_t column_count, text_column;
    rp_buffer answer; /* of the row at hand */
} source;

static void
fini_source(source *s)
{
    rp_text_set_fini(&s->texts);
    rp_text_set_fini(&s->answers);
    rp_buffer_fini(&s->answer);
    free(s->rows);
}

static rp_str
take_line(rp_str *rest)
{
    rp_str line = rp_str_split(rest, '\n');
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

static size_t
split_fields(rp_str line, rp_str fields[COLUMNS_MAX])
{
    size_t count = 1;
    for (size_t i = 0; i < line.len; i++)
        count += line.ptr[i] == '\t';
    for (size_t i = 0; i < count && i < COLUMNS_MAX; i++)
        fields[i] = rp_str_split(&line, '\t');
    return count;
}

static rp_status
read_header(source *s, const char *path, rp_str line, rp_error *error)
{
    s->column_count = split_fields(line, s->columns);
    s->text_column = COLUMNS_MAX;
    for (size_t i = 0; i < s->column_count && i < COLUMNS_MAX; i++)
        if (rp_str_equal(s->columns[i], RP_STR("text")))
            s->text_column = i;
    if (s->column_count < 2 || s->column_count > COLUMNS_MAX || s->text_column == COLUMNS_MAX)
        return rp_fail(error, RP_ERR_INVALID,
                       "%s:1: the header must name 2 to %d columns with tabs between them, one of "
                       "them text (or give --kind log)", path, COLUMNS_MAX);
    return RP_OK;
}

/* What the row says about its answer: all but the split and the text. */
static void
fill_answer(source *s, const rp_str *fields)
{
    bool first = true;
    rp_buffer_clear(&s->answer);
    for (size_t i = 0; i < s->column_count; i++) {
        if (i == s->text_column || rp_str_equal(s->columns[i], RP_STR("split")))
            continue;
        if (!first)
            rp_buffer_append(&s->answer, RP_STR(" | "));
        rp_buffer_append(&s->answer, fields[i]);
        first = false;
    }
}

static void
fill_answer_of_log(source *s, rp_str text)
{
    rp_buffer_clear(&s->answer);
    for (size_t i = 0; i < text.len; i++)
        rp_buffer_append_char(&s->answer, (char)tolower((unsigned char)text.ptr[i]));
}

static rp_status
add_row(source *s, rp_str text, bool keep_equal)
{
    source_row row;
    const size_t before = s->texts.count;
    if (rp_buffer_failed(&s->answer))
        return RP_ERR_NOMEM;
    rp_status status = rp_text_set_add(&s->texts, text, &row.text);
    if (!status && !keep_equal && s->texts.count == before)
        return RP_OK;
    if (!status)
        status = rp_text_set_add(&s->answers, rp_buffer_str(&s->answer), &row.answer);
    if (!status && s->count == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 1024;
        source_row *rows = realloc(s->rows, capacity * sizeof *rows);
        if (!rows)
            return RP_ERR_NOMEM;
        s->rows = rows;
        s->capacity = capacity;
    }
    if (!status)
        s->rows[s->count++] = row;
    return status;
}

static rp_status
read_row(source *s, const char *path, size_t number, rp_str line, const rp_make_stream *options,
         rp_error *error)
{
    rp_str fields[COLUMNS_MAX], text;
    const size_t count = split_fields(line, fields);
    if (options->kind == RP_STREAM_LOG) {
        if (count > COLUMNS_MAX)
            return rp_fail(error, RP_ERR_INVALID, "%s:%zu: more than %d columns", path, number,
                           COLUMNS_MAX);
        text = rp_str_trimmed(fields[count - 1]);
        fill_answer_of_log(s, text);
    } else {
        if (count != s->column_count)
            return rp_fail(error, RP_ERR_INVALID, "%s:%zu: %zu fields; the header names %zu", path,
                           number, line.len ? count : 0, s->column_count);
        text = rp_str_trimmed(fields[s->text_column]);
        fill_answer(s, fields);
    }
    if (text.len == 0)
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: the text is empty", path, number);
    if (!rp_utf8_is_valid(line))
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: this is no UTF-8", path, number);
    if (s->answer.len == 0)
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: nothing names the answer", path, number);
    const rp_status status = add_row(s, text, options->keep_equal);
    if (status)
        return rp_fail(error, status, "%s:%zu: no memory for more texts", path, number);
    return RP_OK;
}

static rp_status
read_source(source *s, const char *path, rp_str rest, const rp_make_stream *options,
            rp_error *error)
{
    size_t number = 1;
    rp_status status = RP_OK;
    if (options->kind == RP_STREAM_TABLE && rest.len) {
        status = read_header(s, path, take_line(&rest), error);
        number++;
    }
    for (; !status && rest.len; number++)
        status = read_row(s, path, number, take_line(&rest), options, error);
    if (!status && s->count == 0)
        status = rp_fail(error, RP_ERR_INVALID, "%s: there are no texts in it", path);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------- */

static void
write_request(const source *s, const source_row *row, rp_str category, rp_buffer *out)
{
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "prompt");
    rp_json_put_string(&writer, s->texts.texts[row->text]);
    rp_json_key(&writer, "answer_id");
    rp_json_put_string(&writer, s->answers.texts[row->answer]);
    if (category.len) {
        rp_json_key(&writer, "category");
        rp_json_put_string(&writer, category);
    }
    rp_json_close(&writer, '}');
    rp_buffer_append_char(out, '\n');
}

static void
shuffle(uint32_t *values, size_t count, rp_random *random)
{
    for (size_t i = count; i > 1; i--) {
        const size_t other = rp_random_below(random, i);
        const uint32_t moved = values[i - 1];
        values[i - 1] = values[other];
        values[other] = moved;
    }
}

/* Rows by answer: those of answer a are by_answer[starts[a]] to starts[a + 1] - 1. */
typedef struct grouped {
    uint32_t *by_answer, *answers; /* (rows); (answers) shuffled */
    size_t *starts;                /* (answers + 1) */
    double *sums;                  /* (answers) running sums of weights by rank */
} grouped;

static bool
group_rows(const source *s, grouped *g, double zipf, size_t drawn, rp_random *random)
{
    const size_t answers = s->answers.count;
    size_t *next = calloc(answers + 1, sizeof *next);
    g->by_answer = calloc(s->count + 1, sizeof *g->by_answer);
    g->answers = calloc(answers + 1, sizeof *g->answers);
    g->starts = calloc(answers + 2, sizeof *g->starts);
    g->sums = calloc(answers + 1, sizeof *g->sums);
    const bool good = next && g->by_answer && g->answers && g->starts && g->sums;
    for (size_t i = 0; good && i < s->count; i++)
        g->starts[s->rows[i].answer + 1]++;
    for (size_t i = 0; good && i < answers; i++) {
        g->starts[i + 1] += g->starts[i];
        next[i] = g->starts[i];
        g->answers[i] = (uint32_t)i;
        g->sums[i] = (i ? g->sums[i - 1] : 0) + (i < drawn ? pow((double)(i + 1), -zipf) : 0);
    }
    for (size_t i = 0; good && i < s->count; i++)
        g->by_answer[next[s->rows[i].answer]++] = (uint32_t)i;
    if (good)
        shuffle(g->answers, answers, random);
    free(next);
    return good;
}

/* One of the answer's texts. */
static const source_row *
pick_text(const source *s, const grouped *g, size_t rank, rp_random *random)
{
    const uint32_t answer = g->answers[rank];
    const size_t first = g->starts[answer], count = g->starts[answer + 1] - first;
    return &s->rows[g->by_answer[first + rp_random_below(random, count)]];
}

static size_t
pick_rank(const grouped *g, size_t drawn, rp_random *random)
{
    const double at = rp_random_uniform(random) * g->sums[drawn - 1];
    size_t low = 0, high = drawn - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (g->sums[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static rp_status
write_draws(const source *s, const rp_make_stream *options, rp_random *random, rp_buffer *out)
{
    const size_t answers = s->answers.count;
    const double wanted = ceil(options->novel * (double)options->count);
    /* At least one answer is there to be drawn. */
    const size_t novel = wanted < (double)(answers - 1) ? (size_t)wanted : answers - 1;
    const size_t drawn = answers - novel;
    size_t used = 0;
    grouped g = { 0 };
    const bool good = group_rows(s, &g, options->zipf, drawn, random);
    for (size_t i = 0; good && i < options->count; i++) {
        const bool is_novel = used < novel && rp_random_uniform(random) < options->novel;
        const size_t rank = is_novel ? drawn + used++ : pick_rank(&g, drawn, random);
        write_request(s, pick_text(s, &g, rank, random), options->category, out);
    }
    free(g.by_answer);
    free(g.answers);
    free(g.starts);
    free(g.sums);
    return good ? RP_OK : RP_ERR_NOMEM;
}

static rp_status
write_all(const source *s, const rp_make_stream *options, rp_random *random, rp_buffer *out)
{
    uint32_t *order = calloc(s->count, sizeof *order);
    if (!order)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < s->count; i++)
        order[i] = (uint32_t)i;
    if (options->shuffle)
        shuffle(order, s->count, random);
    for (size_t i = 0; i < s->count; i++)
        write_request(s, &s->rows[order[i]], options->category, out);
    free(order);
    return RP_OK;
}

rp_status
rp_stream_make(const char *path, const rp_make_stream *options, rp_buffer *out,
               rp_made_stream *made, rp_error *error)
{
    rp_file_map map;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status) /* a folder, a device: an input that cannot be used */
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    source s = { 0 };
    rp_random random;
    rp_random_init(&random, options->seed);
    rp_text_set_init(&s.texts);
    rp_text_set_init(&s.answers);
    rp_buffer_init(&s.answer, 0);
    status = read_source(&s, path, (rp_str){ map.ptr, map.len }, options, error);
    if (!status) {
        status = options->count ? write_draws(&s, options, &random, out)
                                : write_all(&s, options, &random, out);
        if (status || rp_buffer_failed(out))
            status = rp_fail(error, RP_ERR_NOMEM, "%s: no memory for the stream", path);
    }
    if (!status)
        *made = (rp_made_stream){ options->count ? options->count : s.count, s.texts.count,
                                  s.answers.count };
    fini_source(&s);
    rp_file_map_close(&map);
    return status;
}
