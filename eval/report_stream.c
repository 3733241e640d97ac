/* report_stream.c - the sections about policies on streams. See report_sections.h. */
#include "eval/report_sections.h"

#include "base/bytes.h"
#include "eval/chart.h"
#include "eval/markup.h"
#include "eval/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINTS_MAX = 256 };
static const char NO_STREAM[] = "No result of <code>eval stream --json</code> was given.";

static rp_cell
figure_cell(const rp_figure *figure)
{
    return rp_cell_share(figure->value, figure->low, figure->high);
}

static rp_cell
judged_above(const rp_figure *figure, double limit)
{
    rp_cell cell = figure_cell(figure);
    cell.verdict = rp_verdict_above(figure->value, figure->low, figure->high, limit);
    return cell;
}

static rp_cell
judged_below(const rp_figure *figure, double limit)
{
    rp_cell cell = figure_cell(figure);
    cell.verdict = rp_verdict_below(figure->value, figure->low, figure->high, limit);
    return cell;
}

static rp_cell
wilson_cell(double part, double whole)
{
    if (!(whole > 0) || !(part >= 0) || part > whole || whole > 9e15)
        return rp_cell_share((double)NAN, (double)NAN, (double)NAN);
    const rp_interval interval = rp_wilson((uint64_t)(part + .5), (uint64_t)whole, 0.95);
    return rp_cell_share(part / whole, interval.low, interval.high);
}

static rp_str
stream_title(rp_report *report, size_t stream)
{
    return report->set.streams[stream].name;
}

/* What differs from the usual, in the words of a column. */
static rp_cell
setting_cell(rp_report *report, const rp_series *s)
{
    rp_str orders = s->order;
    if (s->orders > 1)
        orders = rp_report_text(report, "%.*s, mean of %zu", RP_FMT(s->order), s->orders);
    return rp_cell_text(s->setting.len
                            ? rp_report_text(report, "%.*s; %.*s", RP_FMT(orders), RP_FMT(s->setting))
                            : orders);
}

static rp_cell
policy_cell(const rp_series *s)
{
    return rp_cell_text(s->label);
}

/* ---- at a glance --------------------------------------------------------------------------------- */

void
rp_report_glance(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "stream", .title = "Stream" },
        { .key = "requests", .title = "Requests" },
        { .key = "hit_rate", .title = "Hits of requests, &gt;&nbsp;30&nbsp;%", .digits = 1 },
        { .key = "error", .title = "Wrong of requests, &lt;&nbsp;2&nbsp;%", .digits = 2 },
        { .key = "hit_error", .title = "Wrong of hits", .digits = 1 },
        { .key = "cost_reduction", .title = "Cost saved, &gt;&nbsp;40&nbsp;%", .digits = 1 },
        { .key = "p99_reduction", .title = "P99 less by, &gt;&nbsp;50&nbsp;%", .digits = 1 },
    };
    rp_document *document = &report->document;
    if (!rp_report_section(report, "glance", "At a glance", report->featured != NULL,
                           "No result of <code>eval stream --json</code> was given, so nothing can "
                           "be said about policies."))
        return;
    rp_buffer_clear(&report->text);
    rp_buffer_append(&report->text, RP_STR("The policy <b>"));
    rp_markup_text(&report->text, report->featured->label);
    rp_buffer_append(&report->text, RP_STR(
        "</b> against the limits that the field usually names: cache hit rate (CHR) above 30&#8239;%, "
        "response error rate (RER) below 2&#8239;%, cost reduction (CRR) above 40&#8239;%, 99th percentile "
        "of latency down by more than 50&#8239;%. Both tiers count; the error is of all requests, and of "
        "hits beside it, because published figures mix the two. <i>Not certain</i>: the 95&#8239;% interval "
        "reaches over the limit."));
    rp_buffer_append_char(&report->text, 0);
    rp_document_note(document, report->text.ptr ? report->text.ptr : "");
    rp_table_begin(document, "glance", "limits of the field", columns, RP_COUNT(columns),
                   RP_TABLE_CARDS);
    for (size_t i = 0; i < report->set.stream_count; i++) {
        const rp_series *s = report->set.streams[i].featured;
        if (!s)
            continue;
        const rp_cell cells[] = {
            rp_cell_text(stream_title(report, i)), rp_cell_count(s->requests / (double)s->orders),
            judged_above(&s->chr, RP_LIMIT_CHR), judged_below(&s->rer, RP_LIMIT_RER),
            figure_cell(&s->hit_error), judged_above(&s->reduction, RP_LIMIT_CRR),
            judged_above(&s->p99_cut, RP_LIMIT_P99),
        };
        rp_table_row(document, cells, true);
    }
    rp_table_end(document);
}

/* ---- the frontier ---------------------------------------------------------------------------------- */

/* Members of one entry of a sweep's "thresholds". */
typedef struct sweep_point {
    double similarity, hits, wrong;
} sweep_point;

static size_t
read_thresholds(const rp_json *row, sweep_point *out)
{
    const rp_json *list = rp_json_get(row, "thresholds");
    size_t count = 0;
    for (uint32_t i = 0; list && list->type == RP_JSON_ARRAY && i < list->count && count < POINTS_MAX;
         i++) {
        const sweep_point point = { rp_result_number(&list->children[i], "min_similarity"),
                                    rp_result_number(&list->children[i], "hits"),
                                    rp_result_number(&list->children[i], "wrong_hits") };
        /* Later code divides by steps and differences: they must fall as thresholds rise. */
        if (!isfinite(point.similarity) || !(point.hits >= point.wrong) || !(point.wrong >= 0) ||
            point.hits > 9e15 ||
            (count && (point.similarity <= out[count - 1].similarity ||
                       point.hits > out[count - 1].hits || point.wrong > out[count - 1].wrong)))
            continue;
        out[count++] = point;
    }
    return count;
}

/* The sweep of a stream with gates as wanted ("on", "off"); NULL without. */
static const rp_json *
sweep_of(const rp_report *report, size_t stream, const char *gates)
{
    for (size_t i = 0; i < report->set.sweep_count; i++)
        if (report->set.sweeps[i].stream == stream &&
            rp_str_equal(report->set.sweeps[i].gates, rp_str_of(gates)))
            return report->set.sweeps[i].json;
    return NULL;
}

static void
draw_sweep(rp_chart *chart, const rp_json *row, const char *style)
{
    sweep_point points[POINTS_MAX];
    double x[POINTS_MAX], y[POINTS_MAX];
    const double n = rp_result_number(row, "requests");
    const size_t count = read_thresholds(row, points);
    for (size_t i = 0; i < count; i++) {
        x[i] = points[i].wrong / n;
        y[i] = points[i].hits / n;
    }
    rp_chart_line(chart, x, y, count, style);
}

static void
draw_policy(rp_report *report, rp_chart *chart, const rp_series *s)
{
    const rp_str tip = rp_report_text(report, "%.*s: hits %.1f %%, error %.2f %%, %.0f requests",
                                      RP_FMT(s->label), 100 * s->hit_rate.value,
                                      100 * s->error.value, s->requests);
    const rp_chart_point point = {
        .x = s->error.value, .x_low = s->error.low, .x_high = s->error.high,
        .y = s->hit_rate.value, .y_low = s->hit_rate.low, .y_high = s->hit_rate.high,
        .mark = rp_report_mark(s->style), .hollow = rp_str_equal(s->gates, RP_STR("off")),
        .style = rp_report_style(s->style), .tip = tip };
    rp_chart_put_point(chart, &point);
}

/* The most hits of a sweep at an error of at most `error_max`; 0 without a sweep. */
static double
hindsight_hits(const rp_json *row, double error_max)
{
    sweep_point points[POINTS_MAX];
    const double n = rp_result_number(row, "requests");
    const size_t count = read_thresholds(row, points);
    double most = 0;
    for (size_t i = 0; n > 0 && i < count; i++)
        if (points[i].wrong <= error_max * n)
            most = fmax(most, points[i].hits / n);
    return fmin(most, 1);
}

static void
draw_frontier(rp_report *report, size_t stream)
{
    rp_document *document = &report->document;
    const rp_json *with = sweep_of(report, stream, "on"), *without = sweep_of(report, stream, "off");
    /* The panel is for policies; of the curves it shows what lies near them. */
    double most = .05, least = .001, worst = .1;
    const rp_series *s;
    for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));) {
        most = fmax(most, s->hit_rate.value);
        least = s->error.value > 0 ? fmin(least, s->error.value) : least;
        worst = fmax(worst, s->error.value);
    }
    for (int i = 0; i < 2; i++)
        most = fmax(most, hindsight_hits(i ? without : with, .05));
    const rp_axis x = rp_axis_logarithmic(fmax(least, 1e-4), fmin(1.2 * worst, 1), .01, true,
                                          "wrong hits, % of requests");
    const rp_axis y = rp_axis_linear(fmin(1.08 * most, 1), .01, "hits, % of requests");
    rp_chart chart;
    char detail[80];
    snprintf(detail, sizeof detail, "%.0f requests", report->set.streams[stream].requests);
    rp_document_panel_begin(document, stream_title(report, stream), detail);
    rp_chart_begin(&chart, &document->html, &x, &y,
                   rp_report_text(report, "Hit rate against error on %.*s; the numbers are in the "
                                          "table of policies", RP_FMT(stream_title(report, stream))));
    rp_chart_rule_x(&chart, RP_LIMIT_RER, "2 %");
    if (y.high > RP_LIMIT_CHR)
        rp_chart_rule_y(&chart, RP_LIMIT_CHR, "30 %");
    if (without)
        draw_sweep(&chart, without, "hindsight dashed");
    if (with)
        draw_sweep(&chart, with, "hindsight");
    for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));)
        draw_policy(report, &chart, s);
    rp_chart_end(&chart);
    rp_document_panel_end(document);
}

static void
frontier_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "stream", .title = "Stream" },
        { .key = "gates", .title = "Gates", .words = true },
        { .key = "requests", .title = "Requests" },
        { .key = "possible", .title = "Possible", .digits = 1 },
        { .key = "nearest_right", .title = "Nearest is right", .digits = 1 },
        { .key = "hits_at_error_05", .title = "Most hits at error \xE2\x89\xA4 0.5 %", .digits = 1 },
        { .key = "hits_at_error_1", .title = "\xE2\x89\xA4 1 %", .digits = 1 },
        { .key = "hits_at_error_2", .title = "\xE2\x89\xA4 2 %", .digits = 1 },
        { .key = "hits_at_error_5", .title = "\xE2\x89\xA4 5 %", .digits = 1 },
    };
    static const double errors[] = { .005, .01, .02, .05 };
    rp_document *document = &report->document;
    rp_table_begin(document, "frontier", "thresholds in hindsight", columns, RP_COUNT(columns),
                   RP_TABLE_FOLDED);
    for (size_t sweep = 0; sweep < report->set.sweep_count; sweep++) {
        const rp_json *json = report->set.sweeps[sweep].json;
        const rp_json *list = rp_json_get(json, "frontier");
        const double n = rp_result_number(json, "requests");
        rp_cell cells[RP_COUNT(columns)] = {
            rp_cell_text(stream_title(report, report->set.sweeps[sweep].stream)),
            rp_cell_text(report->set.sweeps[sweep].gates), rp_cell_count(n),
            wilson_cell(rp_result_number(json, "possible"), n),
            wilson_cell(rp_result_number(json, "nearest_right"), n),
        };
        for (uint32_t i = 0; list && list->type == RP_JSON_ARRAY && i < list->count; i++)
            for (size_t e = 0; e < RP_COUNT(errors); e++)
                if (fabs(rp_result_number(&list->children[i], "error_max") - errors[e]) < 1e-9)
                    cells[5 + e] = wilson_cell(n * rp_result_number(&list->children[i], "hit_rate"),
                                               n);
        rp_table_row(document, cells, true);
    }
    rp_table_end(document);
}

static bool
is_any(const rp_series *s)
{
    return s != NULL;
}

void
rp_report_frontier(rp_report *report)
{
    rp_document *document = &report->document;
    if (!rp_report_section(report, "frontier", "Hits against errors", report->set.stream_count > 0,
                           NO_STREAM))
        return;
    rp_document_note(document,
        "Each mark is a policy as a server would have run it; its lines are 95&#8239;% intervals, or "
        "the range over several orders. Up and to the left is better. The curve is no policy: it "
        "is every threshold on the cosine, chosen in hindsight, with every request kept. The "
        "scale of errors is logarithmic; a policy without any wrong hit stands at 0.");
    rp_report_legend(report, rp_report_styles(report, is_any),
                     "<li><svg class=\"key\" viewBox=\"-7 -7 14 14\" aria-hidden=\"true\"><path "
                     "class=\"line hindsight\" d=\"M-7 3Q-3 -4 7 -4\"/></svg>in hindsight, with gates</li>"
                     "<li><svg class=\"key\" viewBox=\"-7 -7 14 14\" aria-hidden=\"true\"><path "
                     "class=\"line hindsight dashed\" d=\"M-7 3Q-3 -4 7 -4\"/></svg>in hindsight, without"
                     "</li><li>a hollow mark: without gates</li>");
    rp_document_figure_begin(document, "Hits and wrong hits, of all requests");
    for (size_t i = 0; i < report->set.stream_count; i++)
        draw_frontier(report, i);
    rp_document_figure_end(document);
    if (report->results->counts[RP_RESULT_SWEEP])
        frontier_table(report);
    else
        rp_document_missing(document, "The curves of hindsight need <code>eval stream --sweep</code>.");
}

/* ---- every policy ------------------------------------------------------------------------------------- */

static void
fill_policy(rp_report *report, const rp_series *s, rp_cell *cells)
{
    const rp_cell row[] = {
        policy_cell(s), setting_cell(report, s), rp_cell_count(s->requests),
        rp_cell_count(s->exact_hits), rp_cell_count(s->hits), rp_cell_count(s->wrong_hits),
        judged_above(&s->hit_rate, RP_LIMIT_CHR), judged_below(&s->error, RP_LIMIT_RER),
        figure_cell(&s->hit_error), rp_cell_code(s->policy), rp_cell_text(s->gates),
    };
    memcpy(cells, row, sizeof row);
}

void
rp_report_policies(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "setting", .title = "Order", .words = true },
        { .key = "requests", .title = "Requests" },
        { .key = "exact_hits", .title = "Exact hits" },
        { .key = "hits", .title = "Hits" },
        { .key = "wrong_hits", .title = "Wrong" },
        { .key = "hit_rate", .title = "Hits of requests, &gt;&nbsp;30&nbsp;%", .digits = 1 },
        { .key = "error", .title = "Wrong of requests, &lt;&nbsp;2&nbsp;%", .digits = 2 },
        { .key = "hit_error", .title = "Wrong of hits", .digits = 1 },
        { .key = "spec", .title = "SPEC", .words = true },
        { .key = "gates", .title = "Gates", .words = true },
    };
    if (!rp_report_section(report, "policies", "Every policy", report->set.count > 0, NO_STREAM))
        return;
    rp_document_note(&report->document,
        "Hits here are those of the semantic tier, which a policy decides; equal texts are counted "
        "apart. In brackets 95&#8239;% intervals: Wilson for hits, Clopper and Pearson for errors; they take "
        "requests for independent draws, which those of a stream are not quite. With several orders: "
        "sums, means, and the range from the best order to the worst.");
    rp_report_policy_table(report, "policies", "policies by stream", columns, RP_COUNT(columns),
                           fill_policy);
}

/* ---- categories ------------------------------------------------------------------------------------------ */

enum { CATEGORIES_SHOWN = 12 };

static int
by_falling_errors(const void *a, const void *b)
{
    const rp_series *x = *(const rp_series *const *)a, *y = *(const rp_series *const *)b;
    if (x->wrong_hits != y->wrong_hits)
        return x->wrong_hits < y->wrong_hits ? 1 : -1;
    if (x->requests != y->requests)
        return x->requests < y->requests ? 1 : -1;
    return x < y ? -1 : x > y;
}

static bool
is_shown(const rp_report *report, const rp_series *s)
{
    const rp_series *featured = report->set.streams[s->stream].featured;
    return featured && rp_str_equal(s->label, featured->label) &&
           rp_str_equal(s->order, featured->order) && rp_str_equal(s->setting, featured->setting);
}

static void
category_row(rp_report *report, const rp_series *s, bool shown)
{
    const rp_cell cells[] = {
        rp_cell_text(s->category), policy_cell(s), rp_cell_count(s->requests),
        rp_cell_count(s->hits), rp_cell_count(s->wrong_hits), figure_cell(&s->hit_rate),
        figure_cell(&s->error), figure_cell(&s->hit_error),
    };
    rp_table_row(&report->document, cells, shown);
}

void
rp_report_categories(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "category", .title = "Category", .words = true },
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "requests", .title = "Requests" },
        { .key = "hits", .title = "Hits" },
        { .key = "wrong_hits", .title = "Wrong" },
        { .key = "hit_rate", .title = "Hits of requests", .digits = 1 },
        { .key = "error", .title = "Wrong of requests", .digits = 2 },
        { .key = "hit_error", .title = "Wrong of hits", .digits = 1 },
    };
    rp_document *document = &report->document;
    size_t count = 0;
    const rp_series **sorted = calloc(report->set.count + 1, sizeof *sorted);
    rp_document_section(document, "categories", "By category");
    for (size_t i = 0; sorted && i < report->set.count; i++)
        if (!rp_str_equal(report->set.series[i].category, RP_STR("*")))
            sorted[count++] = &report->set.series[i];
    report->failed |= !sorted;
    if (!count) {
        rp_document_missing(document, "No stream with categories was given.");
        free(sorted);
        return;
    }
    qsort(sorted, count, sizeof *sorted, by_falling_errors);
    rp_document_note(document,
        "A mean hides the category that goes wrong. Shown is the policy of the first table, and of each "
        "stream the twelve categories with the most wrong hits; the JSON has all of them, for every "
        "policy.");
    rp_table_begin(document, "categories", "categories", columns, RP_COUNT(columns), RP_TABLE_OPEN);
    for (size_t stream = 0; stream < report->set.stream_count; stream++) {
        size_t shown = 0;
        for (size_t i = 0; i < count; i++) {
            if (sorted[i]->stream != stream)
                continue;
            const bool show = shown < CATEGORIES_SHOWN && is_shown(report, sorted[i]);
            if (show && !shown)
                rp_table_group(document, stream_title(report, stream));
            shown += show;
            category_row(report, sorted[i], show);
        }
    }
    rp_table_end(document);
    free(sorted);
}

/* ---- neighbours ----------------------------------------------------------------------------------------------- */

/* Right and wrong nearest neighbours between two cosines. */
typedef struct neighbor_bin {
    double low, high, right, wrong;
} neighbor_bin;

/* Thresholds into bins of at least `width`, the last one closed. */
static size_t
bins_of(const rp_json *row, double width, neighbor_bin *out)
{
    sweep_point points[POINTS_MAX];
    const size_t count = read_thresholds(row, points);
    size_t bins = 0;
    for (size_t from = 0; from < count;) {
        size_t to = from + 1;
        while (to < count && points[to].similarity - points[from].similarity < width - 1e-9)
            to++;
        /* What reaches the last threshold itself belongs to the bin before it. */
        const bool last = to + 1 >= count;
        const sweep_point end = last ? (sweep_point){ points[count - 1].similarity, 0, 0 }
                                     : points[to];
        const double hits = points[from].hits - end.hits, wrong = points[from].wrong - end.wrong;
        if (end.similarity <= points[from].similarity)
            break;
        out[bins++] = (neighbor_bin){ points[from].similarity, end.similarity, hits - wrong, wrong };
        from = last ? count : to;
    }
    return bins;
}

/* The whole histogram where the sweep has one, else what its thresholds say from .50 up. */
static size_t
similarities_of(const rp_json *row, neighbor_bin *out)
{
    const rp_json *list = rp_json_get(row, "similarities");
    size_t count = 0;
    for (uint32_t i = 0; list && list->type == RP_JSON_ARRAY && i < list->count && count < POINTS_MAX;
         i++) {
        const neighbor_bin bin = { rp_result_number(&list->children[i], "low"),
                                   rp_result_number(&list->children[i], "high"),
                                   rp_result_number(&list->children[i], "right"),
                                   rp_result_number(&list->children[i], "wrong") };
        if (bin.low < bin.high && bin.low >= -1 && bin.high <= 1.1 && bin.right >= 0 &&
            bin.wrong >= 0 && bin.right + bin.wrong < 9e15 &&
            (!count || bin.low >= out[count - 1].high - 1e-9))
            out[count++] = bin;
    }
    return count ? count : bins_of(row, .02, out);
}

static void
draw_histogram(rp_report *report, size_t stream, const rp_json *row)
{
    rp_document *document = &report->document;
    neighbor_bin bins[POINTS_MAX];
    const double n = rp_result_number(row, "requests");
    const size_t count = similarities_of(row, bins);
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fmax(bins[i].right, bins[i].wrong));
    if (!count || !(n > 0))
        return;
    rp_axis x = { .low = bins[0].low, .high = bins[count - 1].high, .unit = 1,
                  .title = "cosine to the nearest earlier prompt" };
    x.low = fmin(floor(x.low * 10 + 1e-9) / 10, .5);
    x.high = 1;
    /* Whole tenths, so that a tick at nothing says 0. */
    for (int t = 10; t >= x.low * 10 - 1e-6 && x.tick_count < RP_TICKS_MAX; t -= x.low < .2 ? 2 : 1)
        x.ticks[x.tick_count++] = t / 10.0;
    rp_axis y = rp_axis_linear(most / n, .01, "right above, wrong below, % of requests");
    y.low = -y.high;
    for (size_t i = y.tick_count; i-- > 1 && y.tick_count < RP_TICKS_MAX;)
        y.ticks[y.tick_count++] = -y.ticks[i];
    rp_chart chart;
    char detail[80];
    double shown = 0;
    for (size_t i = 0; i < count; i++)
        shown += bins[i].right + bins[i].wrong;
    snprintf(detail, sizeof detail, "%.0f of %.0f requests", shown, n);
    rp_document_panel_begin(document, stream_title(report, stream), detail);
    rp_chart_begin(&chart, &document->html, &x, &y,
                   rp_report_text(report, "Histogram of the cosine of right and wrong nearest "
                                          "neighbours on %.*s; the numbers are in the table below",
                                  RP_FMT(stream_title(report, stream))));
    for (size_t i = 0; i < count; i++) {
        rp_chart_bar(&chart, bins[i].low, bins[i].high, 0, bins[i].right / n, "right");
        rp_chart_bar(&chart, bins[i].low, bins[i].high, -bins[i].wrong / n, 0, "wrong");
    }
    rp_chart_end(&chart);
    rp_document_panel_end(document);
}

static void
draw_worth(rp_report *report, size_t stream, const rp_json *row)
{
    rp_document *document = &report->document;
    neighbor_bin bins[POINTS_MAX];
    const size_t count = bins_of(row, .05, bins);
    if (!count)
        return;
    rp_axis x = { .low = .5, .high = 1, .unit = 1, .ticks = { .5, .6, .7, .8, .9, 1 },
                  .tick_count = 6, .title = "cosine to the nearest earlier prompt" };
    const rp_axis y = rp_axis_linear(1, .01, "neighbour is right, %");
    rp_chart chart;
    rp_document_panel_begin(document, stream_title(report, stream), "");
    rp_chart_begin(&chart, &document->html, &x, &y,
                   rp_report_text(report, "How often the nearest neighbour is right, by cosine, on "
                                          "%.*s; the numbers are in the table below",
                                  RP_FMT(stream_title(report, stream))));
    double xs[POINTS_MAX], ys[POINTS_MAX];
    for (size_t i = 0; i < count; i++) {
        xs[i] = (bins[i].low + bins[i].high) / 2;
        ys[i] = wilson_cell(bins[i].right, bins[i].right + bins[i].wrong).value;
    }
    rp_chart_line(&chart, xs, ys, count, "thin");
    for (size_t i = 0; i < count; i++) {
        const double all = bins[i].right + bins[i].wrong;
        const rp_cell cell = wilson_cell(bins[i].right, all);
        const rp_chart_point point = {
            .x = xs[i], .x_low = 1, .x_high = 0, .y = cell.value, .y_low = cell.low,
            .y_high = cell.high, .style = "s5",
            .tip = rp_report_text(report, "cosine %.2f to %.2f: %.0f of %.0f right", bins[i].low,
                                  bins[i].high, bins[i].right, all) };
        rp_chart_put_point(&chart, &point);
    }
    rp_chart_end(&chart);
    rp_document_panel_end(document);
}

static void
neighbor_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "cosine_from", .title = "Cosine from", .digits = 2 },
        { .key = "cosine_to", .title = "to", .digits = 2 },
        { .key = "right", .title = "Right" },
        { .key = "wrong", .title = "Wrong" },
        { .key = "share_right", .title = "Right of these", .digits = 1 },
    };
    rp_document *document = &report->document;
    rp_table_begin(document, "neighbours", "right and wrong neighbours by cosine", columns,
                   RP_COUNT(columns), RP_TABLE_FOLDED);
    for (size_t stream = 0; stream < report->set.stream_count; stream++) {
        const rp_json *row = sweep_of(report, stream, "off");
        neighbor_bin bins[POINTS_MAX];
        row = row ? row : sweep_of(report, stream, "on");
        const size_t count = row ? bins_of(row, .05, bins) : 0;
        if (count)
            rp_table_group(document, stream_title(report, stream));
        for (size_t i = 0; i < count; i++) {
            const rp_cell cells[] = {
                rp_cell_number(bins[i].low), rp_cell_number(bins[i].high),
                rp_cell_count(bins[i].right), rp_cell_count(bins[i].wrong),
                wilson_cell(bins[i].right, bins[i].right + bins[i].wrong),
            };
            rp_table_row(document, cells, true);
        }
    }
    rp_table_end(document);
}

void
rp_report_neighbors(rp_report *report)
{
    rp_document *document = &report->document;
    if (!rp_report_section(report, "neighbours", "What a cosine is worth",
                           report->results->counts[RP_RESULT_SWEEP] > 0,
                           "The similarity of right and wrong neighbours needs "
                           "<code>eval stream --json --sweep</code>."))
        return;
    rp_document_note(document,
        "The nearest earlier prompt of every request, whatever a policy made of it; without gates "
        "where that was measured. Where right and wrong lie over each other no "
        "threshold can part them, and the same cosine means something else on every stream.");
    for (int which = 0; which < 2; which++) {
        rp_document_figure_begin(document,
                                 which ? "How often that neighbour is right, with 95&#8239;% intervals"
                                       : "Nearest neighbours by cosine, <span class=\"right\">right</span> "
                                         "above the line, <span class=\"wrong\">wrong</span> below");
        for (size_t stream = 0; stream < report->set.stream_count; stream++) {
            const rp_json *row = sweep_of(report, stream, "off");
            row = row ? row : sweep_of(report, stream, "on");
            if (row)
                (which ? draw_worth : draw_histogram)(report, stream, row);
        }
        rp_document_figure_end(document);
    }
    neighbor_table(report);
}

/* ---- estimates ---------------------------------------------------------------------------------------------------- */

static const rp_json *
calibration_of(const rp_series *s)
{
    const rp_json *list = rp_json_get(s->first, "calibration");
    return list && list->type == RP_JSON_ARRAY && list->count ? list : NULL;
}

static bool
is_calibrated(const rp_series *s)
{
    return calibration_of(s) != NULL;
}

static void
draw_calibration(rp_report *report, rp_chart *chart, const rp_series *s, bool whiskers)
{
    const rp_json *list = calibration_of(s);
    double xs[POINTS_MAX], ys[POINTS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; list && i < list->count && count < POINTS_MAX; i++) {
        const double all = rp_result_number(&list->children[i], "count");
        const double wrong = rp_result_number(&list->children[i], "wrong");
        const rp_cell cell = wilson_cell(wrong, all);
        if (cell.kind == RP_CELL_EMPTY)
            continue;
        const rp_chart_point point = {
            .x = rp_result_number(&list->children[i], "risk_mean"), .x_low = 1, .x_high = 0,
            .y = cell.value, .y_low = whiskers ? cell.low : 1, .y_high = whiskers ? cell.high : 0,
            .mark = rp_report_mark(s->style), .style = rp_report_style(s->style),
            .tip = rp_report_text(report, "%.*s: %.0f of %.0f wrong", RP_FMT(s->label), wrong, all) };
        rp_chart_put_point(chart, &point);
        xs[count] = point.x;
        ys[count++] = point.y;
    }
    rp_chart_line(chart, xs, ys, count, rp_report_style(s->style));
}

static void
calibration_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "risk_from", .title = "Estimate from", .digits = 1 },
        { .key = "risk_to", .title = "to", .digits = 1 },
        { .key = "risk_mean", .title = "Mean estimate", .digits = 2 },
        { .key = "count", .title = "Candidates" },
        { .key = "wrong", .title = "Wrong" },
        { .key = "share_wrong", .title = "Came true", .digits = 1 },
    };
    rp_document *document = &report->document;
    rp_table_begin(document, "calibration", "estimates and what came true", columns,
                   RP_COUNT(columns), RP_TABLE_FOLDED);
    for (size_t stream = 0; stream < report->set.stream_count; stream++) {
        const rp_series *s;
        rp_table_group(document, stream_title(report, stream));
        for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));) {
            const rp_json *list = calibration_of(s);
            for (uint32_t i = 0; list && i < list->count; i++) {
                const rp_json *bin = &list->children[i];
                const double all = rp_result_number(bin, "count");
                const double wrong = rp_result_number(bin, "wrong");
                const rp_cell cells[] = {
                    policy_cell(s),
                    rp_cell_share(rp_result_number(bin, "risk_low"), (double)NAN, (double)NAN),
                    rp_cell_share(rp_result_number(bin, "risk_high"), (double)NAN, (double)NAN),
                    rp_cell_share(rp_result_number(bin, "risk_mean"), (double)NAN, (double)NAN),
                    rp_cell_count(all), rp_cell_count(wrong), wilson_cell(wrong, all),
                };
                rp_table_row(document, cells, true);
            }
        }
    }
    rp_table_end(document);
}

void
rp_report_calibration(rp_report *report)
{
    rp_document *document = &report->document;
    const uint32_t styles = rp_report_styles(report, is_calibrated);
    if (!rp_report_section(report, "calibration", "Are the estimates true?", styles != 0,
                           "No policy that estimates its risk was measured."))
        return;
    rp_document_note(document,
        "A policy that says 20&#8239;% must be wrong once in five. On the dotted line estimate and truth "
        "agree; above it the policy is too bold, below it too shy. Candidates that were not served count "
        "too. Intervals are drawn for the policy of the first table.");
    rp_report_legend(report, styles, "");
    rp_document_figure_begin(document, "Estimated and observed share of wrong candidates");
    const rp_axis x = rp_axis_linear(1, .01, "estimated, % wrong");
    const rp_axis y = rp_axis_linear(1, .01, "observed, % wrong");
    for (size_t stream = 0; stream < report->set.stream_count; stream++) {
        const rp_series *s, *featured = report->set.streams[stream].featured;
        static const double ends[] = { 0, 1 };
        rp_chart chart;
        if (!rp_report_any_series(report, stream, is_calibrated))
            continue;
        rp_document_panel_begin(document, stream_title(report, stream), "");
        rp_chart_begin(&chart, &document->html, &x, &y,
                       rp_report_text(report, "Estimated against observed error on %.*s; the numbers "
                                              "are in the table below",
                                      RP_FMT(stream_title(report, stream))));
        rp_chart_line(&chart, ends, ends, 2, "hindsight dotted");
        for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));)
            draw_calibration(report, &chart, s, s == featured);
        rp_chart_end(&chart);
        rp_document_panel_end(document);
    }
    rp_document_figure_end(document);
    calibration_table(report);
}
