/* make_stream_read.c - files of six kinds become rows of one; see make_stream.h. */
#include "eval/make_stream_internal.h"

#include "base/bytes.h"
#include "json/json.h"

#include <ctype.h>
#include <stdlib.h>

enum { COLUMNS_MAX = 16 };

void
rp_source_init(rp_source *source)
{
    *source = (rp_source){ 0 };
    rp_text_set_init(&source->texts);
    rp_text_set_init(&source->answers);
    rp_text_set_init(&source->others);
    rp_text_set_init(&source->requests);
}

void
rp_source_fini(rp_source *source)
{
    rp_text_set_fini(&source->texts);
    rp_text_set_fini(&source->answers);
    rp_text_set_fini(&source->others);
    rp_text_set_fini(&source->requests);
    free(source->rows);
}

/* One line at hand. */
typedef struct reader {
    rp_source *source;
    const rp_make_stream *options;
    const char *path;
    size_t line;
    rp_error *error;
    rp_buffer answer, scratch;
    rp_str columns[COLUMNS_MAX]; /* of the header; lent from the file */
    size_t column_count, text_column;
    rp_json_reader *json;
    rp_arena arena;
    uint32_t *parents;           /* pairs: union-find over texts; owned */
    size_t parent_capacity;
    uint32_t *differ;            /* pairs: texts with label 0, two and two; owned */
    size_t differ_count, differ_capacity;
} reader;

static rp_status
refuse(const reader *r, const char *what)
{
    return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu: %s", r->path, r->line, what);
}

static rp_str
take_line(rp_str *rest)
{
    rp_str line = rp_str_split(rest, '\n');
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

static void
append_lower(rp_buffer *out, rp_str text)
{
    for (size_t i = 0; i < text.len; i++)
        rp_buffer_append_char(out, (char)tolower((unsigned char)text.ptr[i]));
}

/* ---- one request ----------------------------------------------------------------------------- */

/* What is said about a request besides its text; the answer lies in reader.answer. */
typedef struct draft {
    rp_str text, category, history, gold; /* empty: none */
} draft;

static rp_status
intern_other(reader *r, rp_str text, uint32_t *out)
{
    uint32_t number;
    if (text.len == 0) {
        *out = 0;
        return RP_OK;
    }
    const rp_status status = rp_text_set_add(&r->source->others, text, &number);
    *out = number + 1;
    return status;
}

static rp_status
intern_row(reader *r, const draft *d, rp_source_row *row)
{
    rp_status status = rp_text_set_add(&r->source->texts, d->text, &row->text);
    if (!status)
        status = rp_text_set_add(&r->source->answers, rp_buffer_str(&r->answer), &row->answer);
    if (!status)
        status = intern_other(r, d->category, &row->category);
    if (!status)
        status = intern_other(r, d->history, &row->history);
    if (!status)
        status = intern_other(r, d->gold, &row->gold);
    return status;
}

/* Whether such a request is there already; remembers it. */
static rp_status
is_equal_to_another(reader *r, const draft *d, bool *out)
{
    uint32_t number;
    const size_t before = r->source->requests.count;
    rp_buffer_clear(&r->scratch);
    rp_buffer_append_le64(&r->scratch, d->history.len);
    rp_buffer_append(&r->scratch, d->history);
    rp_buffer_append(&r->scratch, d->text);
    if (rp_buffer_failed(&r->scratch))
        return RP_ERR_NOMEM;
    const rp_status status =
        rp_text_set_add(&r->source->requests, rp_buffer_str(&r->scratch), &number);
    *out = !status && r->source->requests.count == before;
    return status;
}

static rp_status
add_row(reader *r, const draft *d)
{
    rp_source *s = r->source;
    rp_source_row row = { 0 };
    bool is_equal;
    if (rp_buffer_failed(&r->answer))
        return RP_ERR_NOMEM;
    rp_status status = is_equal_to_another(r, d, &is_equal);
    if (status || (is_equal && !r->options->keep_equal))
        return status;
    if ((status = intern_row(r, d, &row)))
        return status;
    if (s->count == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 1024;
        rp_source_row *rows = realloc(s->rows, capacity * sizeof *rows);
        if (!rows)
            return RP_ERR_NOMEM;
        s->rows = rows;
        s->capacity = capacity;
    }
    s->rows[s->count++] = row;
    return RP_OK;
}

/* Check what all kinds ask of a request, and add it. */
static rp_status
accept(reader *r, draft *d)
{
    d->text = rp_str_trimmed(d->text);
    if (d->text.len == 0)
        return refuse(r, "the text is empty");
    if (d->text.len > RP_TEXT_SIZE_MAX)
        return refuse(r, "the text is too long");
    if (r->answer.len == 0)
        return refuse(r, "nothing names the answer");
    if (d->category.len > RP_TAG_SIZE_MAX)
        return refuse(r, "the category is too long");
    const rp_status status = add_row(r, d);
    if (status)
        return rp_fail(r->error, status, "%s:%zu: no memory for more texts", r->path, r->line);
    return RP_OK;
}

/* ---- tables and logs --------------------------------------------------------------------------- */

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

/* `column` as a number from 1; 0: it is a name, or not given. */
static size_t
column_number(const rp_make_stream *options)
{
    uint64_t number;
    if (!options->column || !rp_str_to_u64(rp_str_of(options->column), &number))
        return 0;
    return number >= 1 && number <= COLUMNS_MAX ? (size_t)number : COLUMNS_MAX + 1;
}

static bool
has_header(const rp_make_stream *options)
{
    return options->kind == RP_STREAM_TABLE ||
           (options->kind == RP_STREAM_LOG && options->column && !column_number(options));
}

static rp_status
read_header(reader *r, rp_str line)
{
    const size_t least = r->options->kind == RP_STREAM_TABLE ? 2 : 1;
    const rp_str wanted = rp_str_of(r->options->column ? r->options->column : "text");
    r->column_count = split_fields(line, r->columns);
    r->text_column = COLUMNS_MAX;
    for (size_t i = 0; i < r->column_count && i < COLUMNS_MAX; i++)
        if (rp_str_equal(r->columns[i], wanted))
            r->text_column = i;
    if (r->column_count < least || r->column_count > COLUMNS_MAX || r->text_column == COLUMNS_MAX)
        return rp_fail(r->error, RP_ERR_INVALID,
                       "%s:1: the header must name %zu to %d columns with tabs between them, one of "
                       "them %.*s (or give another --kind or --column)", r->path, least, COLUMNS_MAX,
                       RP_FMT(wanted));
    return RP_OK;
}

/* What the row says about its answer: all but the split and the text. */
static void
fill_answer_of_table(reader *r, const rp_str *fields)
{
    bool first = true;
    for (size_t i = 0; i < r->column_count; i++) {
        if (i == r->text_column || rp_str_equal(r->columns[i], RP_STR("split")))
            continue;
        if (!first)
            rp_buffer_append(&r->answer, RP_STR(" | "));
        rp_buffer_append(&r->answer, fields[i]);
        first = false;
    }
}

static rp_status
read_fields(reader *r, rp_str line)
{
    rp_str fields[COLUMNS_MAX];
    const bool is_log = r->options->kind == RP_STREAM_LOG;
    const size_t count = split_fields(line, fields), number = column_number(r->options);
    size_t at = r->text_column;
    if (count > COLUMNS_MAX)
        return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu: more than %d columns", r->path, r->line,
                       COLUMNS_MAX);
    if (r->column_count && count != r->column_count)
        return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu: %zu fields; the header names %zu", r->path,
                       r->line, line.len ? count : 0, r->column_count);
    if (!r->column_count)
        at = number ? number - 1 : count - 1;
    if (at >= count)
        return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu: %zu columns; --column says %zu", r->path,
                       r->line, count, at + 1);
    if (!rp_utf8_is_valid(line))
        return refuse(r, "this is no UTF-8");
    draft d = { .text = fields[at] };
    if (is_log)
        append_lower(&r->answer, rp_str_trimmed(d.text));
    else
        fill_answer_of_table(r, fields);
    return accept(r, &d);
}

/* ---- JSON lines ----------------------------------------------------------------------------------- */

/* The first gold answer: a string, or a number in JSON's words. Empty: there is none. */
static rp_str
first_answer(reader *r, const rp_json *object)
{
    const rp_json *answer = rp_json_get(object, "answers");
    if (answer && answer->type == RP_JSON_ARRAY)
        answer = answer->count ? &answer->children[0] : NULL;
    if (!answer)
        answer = rp_json_get(object, "answer");
    if (!answer || answer->type == RP_JSON_NULL || answer->type == RP_JSON_ARRAY ||
        answer->type == RP_JSON_OBJECT)
        return (rp_str){ 0 };
    if (answer->type == RP_JSON_STRING)
        return rp_str_trimmed(answer->string);
    rp_buffer_clear(&r->scratch);
    rp_json_write_canonical(answer, &r->scratch);
    return rp_arena_copy(&r->arena, rp_buffer_str(&r->scratch));
}

static rp_status
read_qa(reader *r, const rp_json *object)
{
    const rp_str gold = first_answer(r, object);
    draft d = { .text = rp_json_string(rp_json_get(object, "question")), .gold = gold };
    append_lower(&r->answer, gold);
    return accept(r, &d);
}

static rp_status
read_prompt(reader *r, const rp_json *object)
{
    draft d = { .text = rp_json_string(rp_json_get(object, "prompt")),
                .category = rp_json_string(rp_json_get(object, "source")) };
    append_lower(&r->answer, rp_str_trimmed(d.text));
    return accept(r, &d);
}

static rp_status
read_turn(reader *r, const rp_json *object)
{
    const rp_json *history = rp_json_get(object, "history");
    const rp_str rewrite = rp_str_trimmed(rp_json_string(rp_json_get(object, "rewrite")));
    draft d = { .text = rp_json_string(rp_json_get(object, "question")) };
    if (history && history->type != RP_JSON_ARRAY)
        return refuse(r, "\"history\" is no array of strings");
    for (uint32_t i = 0; history && i < history->count; i++)
        if (history->children[i].type != RP_JSON_STRING)
            return refuse(r, "\"history\" is no array of strings");
    if (rewrite.len == 0)
        return refuse(r, "\"rewrite\" is missing or empty");
    append_lower(&r->answer, rewrite);
    if (r->options->standalone) {
        d.text = rewrite;
    } else if (history && history->count) {
        rp_buffer_clear(&r->scratch);
        rp_json_write(history, &r->scratch);
        d.history = rp_arena_copy(&r->arena, rp_buffer_str(&r->scratch));
        if (!d.history.ptr)
            return refuse(r, "no memory for the history");
    }
    return accept(r, &d);
}

static rp_status
read_object(reader *r, rp_str line)
{
    const rp_json *object;
    rp_error why = { { 0 } };
    rp_arena_reset(&r->arena);
    if (rp_str_trimmed(line).len == 0)
        return refuse(r, "the line is empty");
    const rp_status status = rp_json_parse(r->json, &r->arena, line, &object, &why);
    if (status)
        return rp_fail(r->error, status, "%s:%zu: %s", r->path, r->line, why.text);
    if (object->type != RP_JSON_OBJECT)
        return refuse(r, "this is no JSON object");
    switch (r->options->kind) {
    case RP_STREAM_QA: return read_qa(r, object);
    case RP_STREAM_PROMPTS: return read_prompt(r, object);
    default: return read_turn(r, object);
    }
}

/* ---- pairs ---------------------------------------------------------------------------------------- */

/* Texts joined by label 1 have one root, the text that came first; a row's answer is its
 * own text until all is read. */
static uint32_t
root_of(const reader *r, uint32_t text)
{
    while (r->parents[text] != text)
        text = r->parents[text] = r->parents[r->parents[text]];
    return text;
}

static rp_status
add_text_of_pair(reader *r, rp_str text, rp_str category, uint32_t *out)
{
    draft d = { .text = text, .category = category };
    rp_buffer_clear(&r->answer);
    rp_buffer_append(&r->answer, rp_str_trimmed(text));
    const rp_status status = accept(r, &d);
    if (status)
        return status;
    if (!rp_text_set_find(&r->source->texts, rp_str_trimmed(text), out))
        return refuse(r, "the text is gone");
    if (r->source->texts.count > r->parent_capacity) {
        const size_t capacity = RP_MAX(2 * r->parent_capacity, (size_t)1024);
        uint32_t *parents = realloc(r->parents, capacity * sizeof *parents);
        if (!parents)
            return rp_fail(r->error, RP_ERR_NOMEM, "no memory for more texts");
        for (size_t i = r->parent_capacity; i < capacity; i++)
            parents[i] = (uint32_t)i;
        r->parents = parents;
        r->parent_capacity = capacity;
    }
    return RP_OK;
}

static rp_status
note_difference(reader *r, uint32_t a, uint32_t b)
{
    if (r->differ_count + 2 > r->differ_capacity) {
        const size_t capacity = RP_MAX(2 * r->differ_capacity, (size_t)1024);
        uint32_t *differ = realloc(r->differ, capacity * sizeof *differ);
        if (!differ)
            return rp_fail(r->error, RP_ERR_NOMEM, "no memory for more pairs");
        r->differ = differ;
        r->differ_capacity = capacity;
    }
    r->differ[r->differ_count++] = a;
    r->differ[r->differ_count++] = b;
    return RP_OK;
}

static rp_status
read_pair(reader *r, rp_str line)
{
    rp_str fields[COLUMNS_MAX];
    uint32_t a, b;
    const size_t count = split_fields(line, fields);
    if (count != 4)
        return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu: %zu fields instead of 4", r->path, r->line,
                       line.len ? count : 0);
    const bool same = rp_str_equal(fields[0], RP_STR("1"));
    if (!same && !rp_str_equal(fields[0], RP_STR("0")))
        return refuse(r, "the label is neither 0 nor 1 (graded pairs say nothing about answers)");
    if (!rp_utf8_is_valid(line))
        return refuse(r, "this is no UTF-8");
    rp_status status = add_text_of_pair(r, fields[2], fields[1], &a);
    if (!status)
        status = add_text_of_pair(r, fields[3], fields[1], &b);
    if (status)
        return status;
    if (!same)
        return note_difference(r, a, b);
    const uint32_t x = root_of(r, a), y = root_of(r, b);
    r->parents[RP_MAX(x, y)] = RP_MIN(x, y);
    return RP_OK;
}

/* All is read: each text's answer is its root's. Texts and answers were added side by side,
 * so that they have the same numbers. */
static void
join_pairs(reader *r)
{
    rp_source *s = r->source;
    for (size_t i = 0; i < s->count; i++)
        s->rows[i].answer = root_of(r, s->rows[i].text);
    for (size_t i = 0; i < r->differ_count; i += 2)
        s->contradicted += root_of(r, r->differ[i]) == root_of(r, r->differ[i + 1]);
}

/* ---- all kinds --------------------------------------------------------------------------------------- */

static rp_status
read_line(reader *r, rp_str line)
{
    rp_buffer_clear(&r->answer);
    if (r->line == 1 && r->options->kind == RP_STREAM_PAIRS) {
        if (!rp_str_equal(line, RP_STR("label\tcategory\ttext_a\ttext_b")))
            return refuse(r, "the header must be label, category, text_a, text_b, tabs between them");
        return RP_OK;
    }
    if (r->line == 1 && has_header(r->options))
        return read_header(r, line);
    switch (r->options->kind) {
    case RP_STREAM_TABLE:
    case RP_STREAM_LOG: return read_fields(r, line);
    case RP_STREAM_PAIRS: return read_pair(r, line);
    default: return read_object(r, line);
    }
}

rp_status
rp_source_read(rp_source *source, const char *path, rp_str bytes, const rp_make_stream *options,
               rp_error *error)
{
    reader r = { .source = source, .options = options, .path = path, .error = error };
    rp_status status = rp_json_reader_new(&r.json);
    if (status)
        return rp_fail(error, status, "no memory for a JSON reader");
    rp_buffer_init(&r.answer, 0);
    rp_buffer_init(&r.scratch, 0);
    rp_arena_init(&r.arena, 0);
    while (!status && bytes.len) {
        r.line++;
        status = read_line(&r, take_line(&bytes));
    }
    if (!status && source->count == 0)
        status = rp_fail(error, RP_ERR_INVALID, "%s: there are no texts in it", path);
    if (!status && options->kind == RP_STREAM_PAIRS)
        join_pairs(&r);
    rp_json_reader_free(r.json);
    rp_buffer_fini(&r.answer);
    rp_buffer_fini(&r.scratch);
    rp_arena_fini(&r.arena);
    free(r.parents);
    free(r.differ);
    return status;
}
