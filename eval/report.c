/* report.c - see report.h: what the sections share, and the sections about encoders, texts
 * and provenance. */
#include "eval/report_internal.h"

#include "base/bytes.h"
#include "eval/chart.h"
#include "eval/markup.h"
#include "eval/text_set.h"

#include <math.h>
#include <stdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

/* ---- shared ----------------------------------------------------------------------------------- */

rp_str
rp_report_text(rp_report *report, const char *format, ...)
{
    va_list values;
    char small[512];
    va_start(values, format);
    const int len = vsnprintf(small, sizeof small, format, values);
    va_end(values);
    const rp_str text = rp_arena_copy(&report->arena,
                                      (rp_str){ small, (size_t)RP_MIN(RP_MAX(len, 0),
                                                                      (int)sizeof small - 1) });
    report->failed |= !text.ptr;
    return text.ptr ? text : (rp_str){ "", 0 };
}

const rp_result_row *
rp_report_next(const rp_report *report, rp_result_kind kind, size_t *at)
{
    while (*at < report->results->row_count) {
        const rp_result_row *row = &report->results->rows[(*at)++];
        if (row->kind == kind)
            return row;
    }
    return NULL;
}

bool
rp_report_any_series(const rp_report *report, size_t stream, bool (*is)(const rp_series *))
{
    const rp_series *s;
    for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));)
        if (is(s))
            return true;
    return false;
}

uint32_t
rp_report_styles(const rp_report *report, bool (*is)(const rp_series *))
{
    uint32_t styles = 0;
    for (size_t i = 0; i < report->set.count; i++)
        if (is(&report->set.series[i]))
            styles |= 1u << report->set.series[i].style;
    return styles;
}

bool
rp_report_section(rp_report *report, const char *id, const char *title, bool there,
                  const char *missing)
{
    rp_document_section(&report->document, id, title);
    if (!there)
        rp_document_missing(&report->document, missing);
    return there;
}

void
rp_report_policy_table(rp_report *report, const char *id, const char *caption,
                       const rp_column *columns, size_t count, rp_report_fill *fill)
{
    rp_document *document = &report->document;
    rp_table_begin(document, id, caption, columns, count, RP_TABLE_OPEN);
    for (size_t stream = 0; stream < report->set.stream_count; stream++) {
        bool named = false;
        for (size_t i = 0; i < report->set.count; i++) {
            const rp_series *s = &report->set.series[i];
            rp_cell cells[RP_COLUMNS_MAX] = { 0 };
            if (s->stream != stream || !rp_str_equal(s->category, RP_STR("*")))
                continue;
            if (!named)
                rp_table_group(document, report->set.streams[stream].name);
            named = true;
            fill(report, s, cells);
            rp_table_row(document, cells, true);
        }
    }
    rp_table_end(document);
}

const rp_series *
rp_report_next_series(const rp_report *report, size_t stream, size_t *at)
{
    const rp_series *first = report->set.streams[stream].first;
    while (first && *at < report->set.count) {
        const rp_series *s = &report->set.series[(*at)++];
        if (s->stream == stream && rp_str_equal(s->category, RP_STR("*")) &&
            rp_str_equal(s->order, first->order))
            return s;
    }
    return NULL;
}

static void
find_featured(rp_report *report)
{
    for (size_t stream = 0; report->featured && stream < report->set.stream_count; stream++) {
        const rp_series *s;
        const rp_series **out = &report->set.streams[stream].featured;
        for (size_t at = 0; !*out && (s = rp_report_next_series(report, stream, &at));)
            if (rp_str_equal(s->label, report->featured->label) &&
                rp_str_equal(s->setting, report->featured->setting))
                *out = s;
    }
}

static const char *const style_names[RP_STYLES] = { "s0", "s1", "s2", "s3", "s4", "s5",
                                                    "s6", "s7", "s8", "s9", "s10", "s11" };
static const unsigned char style_marks[RP_STYLES] = { 5, 0, 6, 3, 2, 7, 1, 4, 4, 9, 8, 6 };

const char *
rp_report_style(unsigned style)
{
    return style_names[style % RP_STYLES];
}

unsigned
rp_report_mark(unsigned style)
{
    return style_marks[style % RP_STYLES];
}

void
rp_report_legend(rp_report *report, uint32_t styles, const char *extra)
{
    rp_buffer *html = &report->document.html;
    rp_buffer_append(html, RP_STR("<ul class=\"legend\" aria-label=\"Legend\">"));
    for (unsigned i = 0; i < RP_STYLES; i++)
        if (styles >> i & 1) {
            rp_buffer_append(html, RP_STR("<li>"));
            rp_chart_key(html, rp_report_mark(i), false, rp_report_style(i));
            rp_buffer_printf(html, "%s</li>", rp_series_family(i));
        }
    rp_buffer_printf(html, "%s</ul>\n", extra);
}

/* ---- encoders on pairs --------------------------------------------------------------------------- */

static bool
has_argument(const rp_json *about, const char *start)
{
    const rp_json *command = rp_json_get(about, "command");
    for (uint32_t i = 0; command && command->type == RP_JSON_ARRAY && i < command->count; i++)
        if (rp_str_starts_with(rp_json_string(&command->children[i]), rp_str_of(start)))
            return true;
    return false;
}

static rp_cell
number_of(const rp_json *row, const char *name)
{
    return rp_cell_number(rp_result_number(row, name));
}

/* A share that is shown as a number between 0 and 1, as such metrics are, with its interval. */
static rp_cell
metric_of(const rp_json *row, const char *name)
{
    rp_cell cell = number_of(row, name);
    rp_result_interval(row, name, &cell.low, &cell.high);
    return cell;
}

static rp_str
name_of_file(rp_str path)
{
    rp_str name = path;
    while (path.len)
        name = rp_str_split(&path, '/');
    if (rp_str_ends_with(name, RP_STR(".tsv")))
        name.len -= 4;
    return name;
}

typedef struct pair_row {
    uint32_t file;
    const rp_result_row *row;
} pair_row;

static int
by_file(const void *a, const void *b)
{
    const pair_row *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows, those of one file together, files in order of appearance. The caller frees them;
 * NULL without memory. */
static pair_row *
sort_pairs(const rp_report *report)
{
    const size_t count = report->results->counts[RP_RESULT_PAIRS];
    pair_row *sorted = calloc(count + 1, sizeof *sorted);
    const rp_result_row *row;
    rp_text_set files;
    rp_status status = sorted ? RP_OK : RP_ERR_NOMEM;
    size_t filled = 0;
    rp_text_set_init(&files);
    for (size_t at = 0; !status && (row = rp_report_next(report, RP_RESULT_PAIRS, &at)); filled++) {
        sorted[filled].row = row;
        status = rp_text_set_add(&files, rp_result_string(row->json, "file"), &sorted[filled].file);
    }
    rp_text_set_fini(&files);
    if (status) {
        free(sorted);
        return NULL;
    }
    qsort(sorted, filled, sizeof *sorted, by_file);
    return sorted;
}

void
rp_report_pairs(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "file", .title = "File" },
        { .key = "category", .title = "Category", .words = true },
        { .key = "model", .title = "Encoder", .words = true },
        { .key = "pairs", .title = "Pairs" },
        { .key = "positives", .title = "Positive" },
        { .key = "auc", .title = "AUC", .digits = 3, .strip_low = 0, .strip_high = 1, .strip_mark = .5 },
        { .key = "ap", .title = "AP", .digits = 3 },
        { .key = "f1", .title = "Best F1", .digits = 3 },
        { .key = "threshold", .title = "at", .digits = 2 },
        { .key = "recall_far_1", .title = "Recall at FAR 1&nbsp;%", .digits = 3 },
        { .key = "recall_far_5", .title = "5 %", .digits = 3 },
        { .key = "p_chr_auc", .title = "P-CHR AUC", .digits = 3 },
    };
    rp_document *document = &report->document;
    rp_document_section(document, "pairs", "Encoders on labelled pairs");
    if (!report->results->counts[RP_RESULT_PAIRS]) {
        rp_document_missing(document, "No result of <code>eval pairs --json</code> was given.");
        return;
    }
    rp_document_note(document,
        "Does similarity put pairs that share an answer above those that do not? The upright line is "
        "chance (AUC .5); left of it similarity is worse than a coin. AP and recall depend on the share of "
        "positives, so compare within a file. Brackets: 95&#8239;% bootstrap over groups of pairs that share "
        "texts. Categories are in the JSON.");
    pair_row *sorted = sort_pairs(report);
    report->failed |= !sorted;
    rp_table_begin(document, "pairs", "encoders on pairs", columns, RP_COUNT(columns), RP_TABLE_OPEN);
    for (size_t i = 0; sorted && i < report->results->counts[RP_RESULT_PAIRS]; i++) {
        const rp_json *json = sorted[i].row->json;
        const rp_json *about = report->results->runs[sorted[i].row->run].about;
        const rp_str category = rp_result_string(json, "category");
        const rp_str model = rp_result_string(json, "model");
        const rp_cell cells[] = {
            rp_cell_text(name_of_file(rp_result_string(json, "file"))),
            rp_cell_text(rp_str_equal(category, RP_STR("*")) ? RP_STR("all") : category),
            rp_cell_text(has_argument(about, "--gates")
                             ? rp_report_text(report, "%.*s, gates", RP_FMT(model))
                             : model),
            rp_cell_count(rp_result_number(json, "n")),
            rp_cell_count(rp_result_number(json, "positives")),
            metric_of(json, "auc"), metric_of(json, "ap"), metric_of(json, "f1"),
            number_of(json, "threshold"), number_of(json, "recall_far_1"),
            number_of(json, "recall_far_5"), metric_of(json, "p_chr_auc"),
        };
        rp_table_row(document, cells, rp_str_equal(category, RP_STR("*")));
    }
    rp_table_end(document);
    free(sorted);
}

/* ---- the worst wrong hits ---------------------------------------------------------------------------- */

static void
wrong_hits_of(rp_report *report, const rp_wrong_hits *wrong)
{
    rp_document *document = &report->document;
    const rp_str name = wrong->stream.len ? wrong->stream : wrong->decisions;
    rp_table_group(document, rp_report_text(report, "%.*s: %llu of %llu hits are wrong, all policies "
                                                    "together", RP_FMT(name_of_file(name)),
                                            (unsigned long long)wrong->wrong,
                                            (unsigned long long)wrong->seen));
    for (size_t i = 0; i < wrong->count; i++) {
        const rp_wrong_hit *hit = &wrong->hits[i];
        rp_cell asked = rp_cell_text(hit->request_text), served = rp_cell_text(hit->matched_text);
        asked.other = hit->matched_text;
        served.other = hit->request_text;
        if (!report->options->show_texts || !hit->request_text.ptr)
            asked.kind = served.kind = RP_CELL_EMPTY;
        const rp_cell cells[] = {
            rp_cell_number(hit->similarity), rp_cell_text(hit->policy), asked, served,
            rp_cell_count((double)hit->request), rp_cell_count((double)hit->matched),
        };
        rp_table_row(document, cells, true);
    }
}

void
rp_report_wrong_hits(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "similarity", .title = "Cosine", .digits = 4 },
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "asked", .title = "Asked", .words = true },
        { .key = "answered_as", .title = "Answered as if asked", .words = true },
        { .key = "request_line", .title = "Line" },
        { .key = "matched_line", .title = "Line matched" },
    };
    rp_document *document = &report->document;
    const rp_report_options *o = report->options;
    rp_document_section(document, "wrong", "The worst wrong hits");
    if (!o->wrong_count) {
        rp_document_missing(document, "No file of <code>--decisions-out</code> was given.");
        return;
    }
    rp_document_note(document,
        o->show_texts
            ? "Wrong hits of the highest cosine. Words that the other prompt lacks are marked: in one of "
              "them the two differ, or the label is wrong."
            : "Wrong hits of the highest cosine, by line of the stream. Their texts are left out; "
              "<code>--show-texts</code> shows them.");
    rp_table_begin(document, "wrong", "wrong hits", columns, RP_COUNT(columns), RP_TABLE_CARDS);
    for (size_t i = 0; i < o->wrong_count; i++)
        wrong_hits_of(report, &o->wrong[i]);
    rp_table_end(document);
}

/* ---- what ran on what ---------------------------------------------------------------------------------- */

/* An argument as a shell would want it. */
static void
put_argument(rp_buffer *out, rp_str argument)
{
    bool plain = argument.len > 0;
    for (size_t i = 0; i < argument.len; i++) {
        const char c = argument.ptr[i];
        plain &= (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                 strchr("-_=.,:/+%@", c);
    }
    if (plain) {
        rp_buffer_append(out, argument);
        return;
    }
    rp_buffer_append_char(out, '\'');
    for (size_t i = 0; i < argument.len; i++) {
        if (argument.ptr[i] == '\'')
            rp_buffer_append(out, RP_STR("'\\'"));
        rp_buffer_append_char(out, argument.ptr[i]);
    }
    rp_buffer_append_char(out, '\'');
}

static rp_str
command_of(rp_report *report, const rp_json *about)
{
    const rp_json *command = rp_json_get(about, "command");
    rp_buffer_clear(&report->text);
    for (uint32_t i = 0; command && command->type == RP_JSON_ARRAY && i < command->count; i++) {
        rp_buffer_append(&report->text, i ? RP_STR(" ") : RP_STR(""));
        put_argument(&report->text, rp_json_string(&command->children[i]));
    }
    const rp_str text = rp_arena_copy(&report->arena, rp_buffer_str(&report->text));
    report->failed |= !text.ptr;
    return text.ptr ? text : (rp_str){ "", 0 };
}

static void
run_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "file", .title = "Results" },    { .key = "command", .title = "Command", .words = true },
        { .key = "rows", .title = "Rows" },       { .key = "commit", .title = "Commit", .words = true },
        { .key = "cpu", .title = "Processor", .words = true },   { .key = "cores", .title = "Cores" },
        { .key = "kernels", .title = "Kernels", .words = true }, { .key = "started", .title = "Started", .words = true },
        { .key = "seconds", .title = "Seconds", .digits = 1 },
    };
    rp_document *document = &report->document;
    rp_table_begin(document, "runs", "commands", columns, RP_COUNT(columns), RP_TABLE_OPEN);
    for (size_t i = 0; i < report->results->run_count; i++) {
        const rp_result_run *run = &report->results->runs[i];
        const rp_str command = run->about ? command_of(report, run->about) : (rp_str){ "", 0 };
        const rp_cell cells[] = {
            rp_cell_text(name_of_file(run->path)),
            command.len ? rp_cell_code(command) : rp_cell_text(RP_STR("not recorded")),
            rp_cell_count((double)run->known), rp_cell_text(rp_result_string(run->about, "commit")),
            rp_cell_text(rp_result_string(run->about, "cpu")),
            rp_cell_count(rp_result_number(run->about, "cores")),
            rp_cell_text(rp_result_string(run->about, "kernels")),
            rp_cell_text(rp_result_string(run->about, "started")),
            number_of(run->about, "seconds"),
        };
        rp_table_row(document, cells, true);
    }
    rp_table_end(document);
}

/* Has an earlier run named the same bytes? */
static bool
is_repeated(const rp_report *report, size_t run, uint32_t at, rp_str path, rp_str hash)
{
    for (size_t i = 0; i <= run; i++) {
        const rp_json *files = rp_json_get(report->results->runs[i].about, "files");
        if (!files || files->type != RP_JSON_ARRAY)
            continue;
        for (uint32_t f = 0; f < (i == run ? at : files->count); f++)
            if (rp_str_equal(rp_result_string(&files->children[f], "path"), path) &&
                rp_str_equal(rp_result_string(&files->children[f], "sha256"), hash))
                return true;
    }
    return false;
}

static void
data_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "path", .title = "File" },
        { .key = "bytes", .title = "Bytes" },
        { .key = "sha256", .title = "SHA-256", .words = true },
    };
    rp_table_begin(&report->document, "data", "data", columns, RP_COUNT(columns), RP_TABLE_OPEN);
    for (size_t i = 0; i < report->results->run_count; i++) {
        const rp_json *files = rp_json_get(report->results->runs[i].about, "files");
        for (uint32_t f = 0; files && files->type == RP_JSON_ARRAY && f < files->count; f++) {
            const rp_json *file = &files->children[f];
            const rp_str path = rp_result_string(file, "path");
            const rp_str hash = rp_result_string(file, "sha256");
            const rp_cell cells[] = { rp_cell_text(path),
                                      rp_cell_count(rp_result_number(file, "bytes")),
                                      rp_cell_code(hash) };
            if (!is_repeated(report, i, f, path, hash))
                rp_table_row(&report->document, cells, true);
        }
    }
    rp_table_end(&report->document);
}

void
rp_report_runs(rp_report *report)
{
    rp_document *document = &report->document;
    bool any = false, all = true, mixed = false;
    rp_str commit = { 0 };
    rp_document_section(document, "runs", "What ran on what");
    for (size_t i = 0; i < report->results->run_count; i++) {
        const rp_json *about = report->results->runs[i].about;
        const rp_str said = rp_result_string(about, "commit");
        any |= about != NULL;
        all &= about != NULL;
        mixed |= about && commit.ptr && !rp_str_equal(said, commit);
        commit = about && !commit.ptr ? said : commit;
    }
    rp_document_note(document,
        "Policies, shuffles, audits and bootstrap draw from the seed in their command (1 if it names "
        "none); the same command on the same data gives the same figures, times aside.");
    if (mixed)
        rp_document_note(document, "<strong>These results come from more than one state of the "
                                   "source</strong>; the table says which is of which.");
    if (!all)
        rp_document_missing(document,
            "Some results say nothing about their command, data and machine; <code>reprise eval record"
            "</code> keeps that with them.");
    run_table(report);
    if (any)
        data_table(report);
}

/* ---- the whole -------------------------------------------------------------------------------------------- */

static rp_status
choose_featured(rp_report *report, rp_error *error)
{
    const char *wanted = report->options->policy;
    const rp_series_set *set = &report->set;
    for (size_t i = 0; i < set->count; i++) {
        const rp_series *s = &set->series[i];
        if (!rp_str_equal(s->category, RP_STR("*")))
            continue;
        if (!report->featured && !wanted)
            report->featured = s;
        const rp_str baseline = rp_result_string(s->first, "baseline");
        const bool named = wanted ? rp_str_equal(s->label, rp_str_of(wanted)) ||
                                        rp_str_equal(s->policy, rp_str_of(wanted)) ||
                                        rp_str_equal(baseline, rp_str_of(wanted))
                                  : rp_str_equal(baseline, RP_STR("default")) ||
                                        rp_str_equal(s->label, RP_STR("calibrated"));
        if (named) {
            report->featured = s;
            return RP_OK;
        }
    }
    if (wanted)
        return rp_fail(error, RP_ERR_NOT_FOUND, "no result is of a policy \"%s\"", wanted);
    return RP_OK;
}

static void
write_time(rp_time now, char *out, size_t size)
{
    const time_t seconds = (time_t)(now / 1000000);
    struct tm utc;
    if (!gmtime_r(&seconds, &utc) || !strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &utc))
        snprintf(out, size, "unknown");
}

static void
write_heads(rp_report *report, rp_buffer *html, rp_buffer *json)
{
    const rp_report_options *o = report->options;
    char when[64];
    rp_json_writer writer;
    write_time(o->now, when, sizeof when);
    rp_buffer_printf(html, "<p class=\"lede\">Hit rates beside error rates, with their denominators and "
                     "intervals. Made %.10s from %zu files of results by Reprise at commit ", when,
                     report->results->run_count);
    rp_markup_text(html, rp_str_of(o->commit));
    rp_buffer_append(html, RP_STR(".</p>\n"));
    rp_json_writer_init(&writer, json);
    rp_json_key(&writer, "report");
    rp_json_put_cstring(&writer, "reprise-eval/1");
    rp_json_key(&writer, "made");
    rp_json_put_cstring(&writer, when);
    rp_json_key(&writer, "commit");
    rp_json_put_cstring(&writer, o->commit);
    rp_json_key(&writer, "command");
    rp_json_put_cstring(&writer, o->command);
    rp_json_key(&writer, "policy");
    if (report->featured)
        rp_json_put_string(&writer, report->featured->label);
    else
        rp_json_put_null(&writer);
}

static rp_status
write_sections(rp_report *report, rp_error *error)
{
    rp_buffer head, json_head;
    rp_buffer_init(&head, 0);
    rp_buffer_init(&json_head, 0);
    rp_report_glance(report);
    rp_report_frontier(report);
    rp_report_bounds(report);
    rp_report_policies(report);
    rp_report_categories(report);
    rp_report_neighbors(report);
    rp_report_calibration(report);
    rp_report_time(report);
    rp_report_cost(report);
    rp_report_latency(report);
    rp_report_pairs(report);
    rp_report_attacks(report);
    rp_report_wrong_hits(report);
    rp_report_runs(report);
    write_heads(report, &head, &json_head);
    rp_status status = rp_document_finish(&report->document, "What the cache answers, and what it "
                                                             "gets wrong",
                                          rp_buffer_str(&head), rp_buffer_str(&json_head));
    if (!status && (report->failed || rp_buffer_failed(&head) || rp_buffer_failed(&json_head) ||
                    rp_buffer_failed(&report->text)))
        status = RP_ERR_NOMEM;
    rp_buffer_fini(&head);
    rp_buffer_fini(&json_head);
    return status ? rp_fail(error, status, "no memory for the report") : RP_OK;
}

rp_status
rp_report_write(const rp_results *results, const rp_report_options *options, rp_buffer *html,
                rp_buffer *json, rp_error *error)
{
    rp_report report = { .results = results, .options = options };
    rp_status status = rp_series_build(results, &report.set);
    if (status)
        return rp_fail(error, status, status == RP_ERR_LIMIT
                                          ? "more than %d streams are too many for one report"
                                          : "no memory for a report of %d streams", RP_STREAMS_MAX);
    rp_arena_init(&report.arena, 0);
    rp_buffer_init(&report.text, 0);
    rp_document_init(&report.document);
    status = choose_featured(&report, error);
    find_featured(&report);
    if (!status)
        status = write_sections(&report, error);
    if (!status) {
        rp_buffer_append(html, rp_buffer_str(&report.document.html));
        rp_buffer_append(json, rp_buffer_str(&report.document.json));
        if (rp_buffer_failed(html) || rp_buffer_failed(json))
            status = rp_fail(error, RP_ERR_NOMEM, "no memory for the report");
    }
    rp_document_fini(&report.document);
    rp_buffer_fini(&report.text);
    rp_arena_fini(&report.arena);
    rp_series_fini(&report.set);
    return status;
}
