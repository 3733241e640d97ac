/* make_stream.c - see make_stream.h: rows are put in order, or drawn, and written. */
#include "eval/make_stream_internal.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/random.h"
#include "eval/wrap.h"
#include "evidence/template.h"
#include "json/json.h"

#include <math.h>
#include <stdlib.h>

bool
rp_stream_kind_of(rp_str name, rp_stream_kind *out)
{
    static const char *const names[RP_STREAM_KINDS] = { "table", "log", "qa", "prompts",
                                                        "conversation", "pairs" };
    for (int i = 0; i < RP_STREAM_KINDS; i++)
        if (rp_str_equal(name, rp_str_of(names[i]))) {
            *out = (rp_stream_kind)i;
            return true;
        }
    return false;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* What is being written. */
typedef struct writing {
    const rp_source *source;
    const rp_make_stream *options;
    rp_trace trace;
    size_t written;
    rp_buffer prompt;       /* wrapped */
    rp_template *template_; /* NULL: nothing is cut */
    size_t cut;
    rp_buffer *out;
} writing;

static void
put_text(rp_json_writer *writer, const char *name, rp_str text)
{
    rp_json_key(writer, name);
    rp_json_put_string(writer, text);
}

/* When it arrives and what it costs, as the request in this place of the trace did. */
static void
put_times(const writing *w, rp_json_writer *writer)
{
    const rp_trace *trace = &w->trace;
    if (!trace->count)
        return;
    const rp_trace_row *row = &trace->rows[w->written % trace->count];
    const double rounds = (double)(w->written / trace->count);
    const double cost = row->tokens_in * w->options->price_in + row->tokens_out * w->options->price_out;
    rp_json_key(writer, "time");
    rp_json_put_double(writer, round((rounds * trace->length + row->seconds) * 1e3) / 1e3);
    rp_json_key(writer, "cost");
    rp_json_put_double(writer, round(cost * 1e3) / 1e9);
}

/* The prompt as it is asked: wrapped, then cut by what was learned from those before it and
 * from itself. */
static rp_str
make_prompt(writing *w, rp_str text, bool *fits)
{
    *fits = false;
    if (w->options->wrap) {
        rp_buffer_clear(&w->prompt);
        rp_buffer_append(&w->prompt, RP_STR(RP_WRAP_FRONT));
        rp_buffer_append(&w->prompt, text);
        rp_buffer_append(&w->prompt, RP_STR(RP_WRAP_BACK));
        text = rp_buffer_str(&w->prompt);
    }
    if (!w->template_)
        return text;
    rp_template_learn(w->template_, text);
    text = rp_template_cut(w->template_, text, fits);
    w->cut += *fits;
    return text;
}

static void
write_request(writing *w, const rp_source_row *row)
{
    bool fits;
    const rp_str prompt = make_prompt(w, w->source->texts.texts[row->text], &fits);
    const rp_source *s = w->source;
    const rp_str own = row->category ? s->others.texts[row->category - 1] : (rp_str){ 0 };
    const rp_str category = w->options->category.len ? w->options->category : own;
    rp_json_writer writer;
    rp_json_writer_init(&writer, w->out);
    rp_json_open(&writer, '{');
    put_text(&writer, "prompt", prompt);
    if (fits)
        put_text(&writer, "scope", RP_STR("cut"));
    put_text(&writer, "answer_id", s->answers.texts[row->answer]);
    if (row->gold)
        put_text(&writer, "answer", s->others.texts[row->gold - 1]);
    if (category.len)
        put_text(&writer, "category", category);
    if (row->history) {
        rp_json_key(&writer, "history");
        rp_json_put_raw(&writer, s->others.texts[row->history - 1]);
    }
    put_times(w, &writer);
    rp_json_close(&writer, '}');
    rp_buffer_append_char(w->out, '\n');
    w->written++;
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
group_rows(const rp_source *s, grouped *g, double zipf, size_t drawn, rp_random *random)
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
static const rp_source_row *
pick_text(const rp_source *s, const grouped *g, size_t rank, rp_random *random)
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

static size_t
novel_count(const rp_make_stream *options)
{
    return (size_t)ceil(options->novel * (double)options->count);
}

/* Answers that occur once are no part of the draw; some must be left for it, or the stream
 * would be one answer over and over. */
static rp_status
check_novel(const rp_source *s, const rp_make_stream *options, const char *path, rp_error *error)
{
    const size_t novel = novel_count(options);
    if (novel == 0 || novel < s->answers.count)
        return RP_OK;
    return rp_fail(error, RP_ERR_INVALID, "%s: %zu answers; --count and --novel want %zu that occur "
                   "once, and others to draw from", path, s->answers.count, novel);
}

static rp_status
write_draws(writing *w, rp_random *random)
{
    const rp_source *s = w->source;
    const rp_make_stream *options = w->options;
    const size_t answers = s->answers.count;
    const size_t novel = novel_count(options), drawn = answers - novel;
    size_t used = 0;
    grouped g = { 0 };
    const bool good = group_rows(s, &g, options->zipf, drawn, random);
    for (size_t i = 0; good && i < options->count; i++) {
        const bool is_novel = used < novel && rp_random_uniform(random) < options->novel;
        const size_t rank = is_novel ? drawn + used++ : pick_rank(&g, drawn, random);
        write_request(w, pick_text(s, &g, rank, random));
    }
    free(g.by_answer);
    free(g.answers);
    free(g.starts);
    free(g.sums);
    return good ? RP_OK : RP_ERR_NOMEM;
}

static rp_status
write_all(writing *w, rp_random *random)
{
    const rp_source *s = w->source;
    uint32_t *order = calloc(s->count, sizeof *order);
    if (!order)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < s->count; i++)
        order[i] = (uint32_t)i;
    if (w->options->shuffle)
        shuffle(order, s->count, random);
    for (size_t i = 0; i < s->count; i++)
        write_request(w, &s->rows[order[i]]);
    free(order);
    return RP_OK;
}

/* Answers that no row has (pairs: texts whose root is another) must not be drawn: give the
 * others their numbers. */
static rp_status
close_gaps(rp_source *s)
{
    rp_text_set answers;
    rp_status status = RP_OK;
    rp_text_set_init(&answers);
    for (size_t i = 0; !status && i < s->count; i++)
        status = rp_text_set_add(&answers, s->answers.texts[s->rows[i].answer], &s->rows[i].answer);
    if (status) {
        rp_text_set_fini(&answers);
        return status;
    }
    rp_text_set_fini(&s->answers);
    s->answers = answers;
    return RP_OK;
}

static rp_status
write_stream(const rp_source *s, const rp_make_stream *options, const char *path, rp_buffer *out,
             size_t *cut, rp_error *error)
{
    writing w = { .source = s, .options = options, .out = out };
    rp_random random;
    rp_random_init(&random, options->seed);
    rp_status status = options->trace ? rp_trace_read(options->trace, &w.trace, error) : RP_OK;
    if (status)
        return status;
    rp_buffer_init(&w.prompt, 0);
    status = options->cut ? rp_template_new(&w.template_) : RP_OK;
    if (!status)
        status = options->count ? write_draws(&w, &random) : write_all(&w, &random);
    const bool failed = status || rp_buffer_failed(out) || rp_buffer_failed(&w.prompt);
    *cut = w.cut;
    rp_trace_fini(&w.trace);
    rp_template_free(w.template_);
    rp_buffer_fini(&w.prompt);
    return failed
               ? rp_fail(error, RP_ERR_NOMEM, "%s: no memory for the stream", path)
               : RP_OK;
}

rp_status
rp_stream_make(const char *path, const rp_make_stream *options, rp_buffer *out,
               rp_made_stream *made, rp_error *error)
{
    rp_file_map map;
    rp_source s;
    size_t cut = 0;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status) /* a folder, a device: an input that cannot be used */
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    rp_source_init(&s);
    status = rp_source_read(&s, path, (rp_str){ map.ptr, map.len }, options, error);
    if (!status && (status = close_gaps(&s)))
        rp_fail(error, status, "%s: no memory for the answers", path);
    if (!status)
        status = check_novel(&s, options, path, error);
    if (!status)
        status = write_stream(&s, options, path, out, &cut, error);
    if (!status)
        *made = (rp_made_stream){ options->count ? options->count : s.count, s.texts.count,
                                  s.answers.count, s.contradicted, cut };
    rp_source_fini(&s);
    rp_file_map_close(&map);
    return status;
}
