/* report_costs.c - the sections about time, cost and latency. See report_sections.h. */
#include "eval/report_sections.h"

#include "base/bytes.h"
#include "eval/chart.h"
#include "eval/metrics.h"

#include <math.h>
#include <stdio.h>

enum { WINDOWS_MAX = 512 };

/* ---- error against bound, over time ------------------------------------------------------------- */

static const rp_json *
curve_of(const rp_series *s)
{
    const rp_json *list = rp_json_get(s->first, "curve");
    return list && list->type == RP_JSON_ARRAY && list->count ? list : NULL;
}

/* The bound that a policy is to keep; NaN for one that promises none. */
static double
bound_of(const rp_series *s)
{
    rp_str spec = s->policy;
    double value = rp_result_number(s->first, "error_max");
    rp_str_split(&spec, ':');
    while (spec.len) {
        rp_str part = rp_str_split(&spec, ',');
        if (rp_str_starts_with(part, RP_STR("error_max="))) {
            part = (rp_str){ part.ptr + 10, part.len - 10 };
            if (!rp_str_to_double(part, &value))
                value = (double)NAN;
        }
    }
    return value > 0 && value <= 1 ? value : (double)NAN;
}

typedef struct running {
    double end[WINDOWS_MAX], error[WINDOWS_MAX], low[WINDOWS_MAX], high[WINDOWS_MAX];
    double hits[WINDOWS_MAX];
    size_t count;
} running;

static void
read_curve(const rp_json *list, running *out)
{
    double requests = 0, hits = 0, wrong = 0;
    out->count = 0;
    for (uint32_t i = 0; i < list->count && out->count < WINDOWS_MAX; i++) {
        const rp_json *window = &list->children[i];
        const double n = rp_result_number(window, "requests");
        const double h = rp_result_number(window, "hits"), w = rp_result_number(window, "wrong_hits");
        if (!(n > 0) || !(h >= w) || !(w >= 0) || !(h <= n) || n > 1e12)
            continue;
        requests += n;
        hits += h;
        wrong += w;
        const rp_interval interval = rp_clopper_pearson((uint64_t)wrong, (uint64_t)requests, 0.95);
        out->end[out->count] = requests;
        out->error[out->count] = wrong / requests;
        out->hits[out->count] = hits / requests;
        out->low[out->count] = interval.low;
        out->high[out->count++] = interval.high;
    }
}

static bool
is_drawn(const rp_series *s)
{
    return curve_of(s) && rp_str_equal(s->gates, RP_STR("on"));
}

/* The bound of the summary's policy; of the first that has one if it has none. */
static double
drawn_bound(const rp_report *report, size_t stream)
{
    const rp_series *s = report->set.streams[stream].featured;
    double bound = s ? bound_of(s) : (double)NAN;
    for (size_t at = 0; !isfinite(bound) && (s = rp_report_next_series(report, stream, &at));)
        bound = is_drawn(s) ? bound_of(s) : (double)NAN;
    return bound;
}

/* The largest error after the first quarter: what comes before is a handful of requests. */
static double
largest_error(const rp_report *report, size_t stream)
{
    const rp_series *s;
    double most = .01;
    for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));) {
        running curve;
        if (!is_drawn(s))
            continue;
        read_curve(curve_of(s), &curve);
        for (size_t i = curve.count / 4; i < curve.count; i++)
            most = fmax(most, curve.error[i]);
    }
    return most;
}

static void
draw_time(rp_report *report, size_t stream)
{
    rp_document *document = &report->document;
    const rp_series *s, *featured = report->set.streams[stream].featured;
    running curve;
    rp_chart chart;
    rp_axis x = rp_axis_linear(report->set.streams[stream].requests, 1, "requests so far");
    x.high = fmax(report->set.streams[stream].requests, 1);
    while (x.tick_count && x.ticks[x.tick_count - 1] > x.high)
        x.tick_count--;
    const rp_axis y = rp_axis_linear(1.15 * fmin(largest_error(report, stream), .05), .01,
                                     "wrong so far, % of requests");
    rp_document_panel_begin(document, report->set.streams[stream].name, "");
    rp_chart_begin(&chart, &document->html, &x, &y,
                   rp_report_text(report, "Error so far on %.*s; the numbers are in the table below",
                                  RP_FMT(report->set.streams[stream].name)));
    if (featured && curve_of(featured)) {
        read_curve(curve_of(featured), &curve);
        rp_chart_band(&chart, curve.end, curve.low, curve.high, curve.count,
                      rp_report_style(featured->style));
    }
    const double bound = drawn_bound(report, stream);
    if (bound <= y.high) {
        char label[32];
        snprintf(label, sizeof label, "%.3g %%", 100 * bound);
        rp_chart_rule_y(&chart, bound, label);
    }
    for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));) {
        if (!is_drawn(s))
            continue;
        read_curve(curve_of(s), &curve);
        rp_chart_line(&chart, curve.end, curve.error, curve.count, rp_report_style(s->style));
        if (!curve.count || curve.error[curve.count - 1] > y.high)
            continue;
        const size_t last = curve.count - 1;
        const rp_chart_point point = {
            .x = curve.end[last], .x_low = 1, .x_high = 0,
            .y = curve.error[last], .y_low = 1, .y_high = 0, .mark = rp_report_mark(s->style),
            .style = rp_report_style(s->style), .tip = s->label };
        rp_chart_put_point(&chart, &point);
    }
    rp_chart_end(&chart);
    rp_document_panel_end(document);
}

static void
time_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "bound", .title = "Bound", .digits = 1 },
        { .key = "end", .title = "Requests so far" },
        { .key = "hit_rate", .title = "Hits so far", .digits = 1 },
        { .key = "error", .title = "Wrong so far, of requests", .digits = 2 },
    };
    rp_document *document = &report->document;
    rp_table_begin(document, "time", "hits and errors so far", columns, RP_COUNT(columns),
                   RP_TABLE_FOLDED);
    for (size_t stream = 0; stream < report->set.stream_count; stream++) {
        const rp_series *s;
        rp_table_group(document, report->set.streams[stream].name);
        for (size_t at = 0; (s = rp_report_next_series(report, stream, &at));) {
            running curve = { .count = 0 };
            if (curve_of(s))
                read_curve(curve_of(s), &curve);
            for (size_t i = 0; i < curve.count; i++) {
                const rp_cell cells[] = {
                    rp_cell_text(s->label),
                    rp_cell_share(bound_of(s), (double)NAN, (double)NAN),
                    rp_cell_count(curve.end[i]),
                    rp_cell_share(curve.hits[i], (double)NAN, (double)NAN),
                    rp_cell_share(curve.error[i], curve.low[i], curve.high[i]),
                };
                /* Quarters are enough to read; the JSON has every window. */
                rp_table_row(document, cells, (i + 1) % RP_MAX(curve.count / 4, 1u) == 0);
            }
        }
    }
    rp_table_end(document);
}

void
rp_report_time(rp_report *report)
{
    rp_document *document = &report->document;
    const uint32_t styles = rp_report_styles(report, is_drawn);
    if (!rp_report_section(report, "time", "Error against bound, over time", styles != 0,
                           "No result has a curve over time."))
        return;
    rp_document_note(document,
        "Wrong hits so far of all requests so far, of every policy with gates, in the first of its "
        "orders. The band is the 95&#8239;% interval of the policy of the first table; the dotted line is the "
        "bound that learning policies are to keep. Lines that leave the panel are cut at its edge.");
    rp_report_legend(report, styles, "");
    rp_document_figure_begin(document, "Share of wrong hits as requests go by");
    for (size_t stream = 0; stream < report->set.stream_count; stream++)
        if (rp_report_any_series(report, stream, is_drawn))
            draw_time(report, stream);
    rp_document_figure_end(document);
    time_table(report);
}

/* ---- cost ---------------------------------------------------------------------------------------- */

/* A member of a member. */
static double
nested(const rp_json *row, const char *outer, const char *inner)
{
    return rp_result_number(rp_json_get(row, outer), inner);
}

static void
fill_cost(rp_report *report, const rp_series *s, rp_cell *cells)
{
    (void)report;
    const rp_cell row[] = {
        rp_cell_text(s->label),
        rp_cell_share(s->reduction.value, s->reduction.low, s->reduction.high),
        rp_cell_number(rp_result_number(s->first, "cost_all")),
        rp_cell_number(rp_result_number(s->first, "cost_saved")),
        rp_cell_number(nested(s->first, "cost", "saved_right")),
        rp_cell_number(nested(s->first, "cost", "audits")),
        rp_cell_number(nested(s->first, "cost", "judge")),
        rp_cell_number(nested(s->first, "cost", "compute")),
        rp_cell_count(rp_result_number(s->first, "upstream_calls")),
        rp_cell_count(rp_result_number(s->first, "judge_calls")),
        rp_cell_count(rp_result_number(s->first, "audits")),
    };
    memcpy(cells, row, sizeof row);
    cells[1].verdict = rp_verdict_above(s->reduction.value, s->reduction.low, s->reduction.high,
                                        RP_LIMIT_CRR);
}

void
rp_report_cost(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "cost_reduction", .title = "Saved of all cost, &gt;&nbsp;40&nbsp;%", .digits = 1, .strip_high = 1,
          .strip_mark = RP_LIMIT_CRR },
        { .key = "cost_all", .title = "Without cache, US$", .digits = 2 },
        { .key = "cost_saved", .title = "Saved, US$", .digits = 2 },
        { .key = "cost_saved_right", .title = "by right hits only", .digits = 2 },
        { .key = "cost_audits", .title = "Audits, US$", .digits = 2 },
        { .key = "cost_judge", .title = "Judge, US$", .digits = 2 },
        { .key = "cost_compute", .title = "Computing, US$", .digits = 4 },
        { .key = "upstream_calls", .title = "Upstream calls" },
        { .key = "judge_calls", .title = "Judge calls" },
        { .key = "audits", .title = "Audits" },
    };
    if (!rp_report_section(report, "cost", "Cost", report->set.count > 0,
                           "No result of <code>eval stream --json</code> was given."))
        return;
    rp_document_note(&report->document,
        "Net: what the upstream would have cost, less its calls, audits, the judge and computing "
        "(embedding, search, decision) at the stated prices. A wrong hit saves as much as a right one, "
        "which is why this table never stands without the ones above. The dollars are those of the first "
        "order.");
    rp_report_policy_table(report, "cost", "cost by policy", columns, RP_COUNT(columns), fill_cost);
}

/* ---- latency --------------------------------------------------------------------------------------- */

typedef struct point_set {
    double x[64], y[64];
    size_t count;
} point_set;

/* Milliseconds of one text by tokens, of the tier that this machine chose for a class. */
static void
embed_points(const rp_report *report, const char *class, point_set *out)
{
    const rp_result_row *row;
    out->count = 0;
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_EMBED, &at)) && out->count < 64;)
        if (rp_str_equal(rp_result_string(row->json, "class"), rp_str_of(class)) &&
            rp_json_is_true(rp_json_get(row->json, "chosen")) &&
            rp_result_number(row->json, "batch") == 1) {
            out->x[out->count] = rp_result_number(row->json, "tokens");
            out->y[out->count++] = rp_result_number(row->json, "ms");
        }
}

static void
extremes(const double *values, size_t count, double *low, double *high)
{
    for (size_t i = 0; i < count; i++)
        if (values[i] > 0 && isfinite(values[i])) {
            *low = fmin(*low, values[i]);
            *high = fmax(*high, values[i]);
        }
}

static void
draw_points(rp_report *report, rp_chart *chart, const point_set *points, const char *name,
            unsigned mark, const char *style)
{
    rp_chart_line(chart, points->x, points->y, points->count, style);
    for (size_t i = 0; i < points->count; i++) {
        const rp_chart_point point = {
            .x = points->x[i], .x_low = 1, .x_high = 0, .y = points->y[i], .y_low = 1, .y_high = 0,
            .mark = mark, .style = style,
            .tip = rp_report_text(report, "%s: %.4g at %.0f", name, points->y[i], points->x[i]) };
        rp_chart_put_point(chart, &point);
    }
}

static const char *const classes[] = { "f32", "bf16", "int8" };
static const char *const class_styles[] = { "s1", "s3", "s5" };

static void
draw_embed(rp_report *report)
{
    point_set points[RP_COUNT(classes)];
    double x_low = 1e9, x_high = 1, y_low = 1e9, y_high = 0;
    for (size_t i = 0; i < RP_COUNT(classes); i++) {
        embed_points(report, classes[i], &points[i]);
        extremes(points[i].x, points[i].count, &x_low, &x_high);
        extremes(points[i].y, points[i].count, &y_low, &y_high);
    }
    if (y_high == 0)
        return;
    rp_axis x = rp_axis_logarithmic(x_low, x_high, 1, false, "tokens of one text");
    const rp_axis y = rp_axis_logarithmic(y_low, y_high, 1, false, "ms, one thread");
    /* The sizes measured are round in twos, not in tens. */
    x.low = x_low;
    x.high = x_high > x_low ? x_high : 2 * x_low;
    x.tick_count = 0;
    for (size_t i = 0; i < points[0].count && x.tick_count < RP_TICKS_MAX; i++)
        x.ticks[x.tick_count++] = points[0].x[i];
    rp_chart chart;
    rp_document_panel_begin(&report->document, RP_STR("Encoder"), "as this machine runs it");
    rp_chart_begin(&chart, &report->document.html, &x, &y,
                   RP_STR("Milliseconds to embed one text by its tokens; the numbers are in the table "
                          "below"));
    for (size_t i = 0; i < RP_COUNT(classes); i++)
        draw_points(report, &chart, &points[i], classes[i], (unsigned)i, class_styles[i]);
    rp_chart_end(&chart);
    rp_document_panel_end(&report->document);
}

static void
draw_search(rp_report *report)
{
    point_set ours = { .count = 0 }, exact = { .count = 0 };
    double x_low = 1e12, x_high = 1, y_low = 1e12, y_high = 0;
    const rp_result_row *row;
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_SEARCH, &at)) && ours.count < 64;) {
        ours.x[ours.count] = exact.x[exact.count] = rp_result_number(row->json, "count");
        ours.y[ours.count++] = rp_result_number(row->json, "search_us");
        exact.y[exact.count++] = rp_result_number(row->json, "exact_us");
    }
    extremes(ours.x, ours.count, &x_low, &x_high);
    extremes(ours.y, ours.count, &y_low, &y_high);
    extremes(exact.y, exact.count, &y_low, &y_high);
    if (y_high == 0)
        return;
    const rp_axis x = rp_axis_logarithmic(x_low, x_high, 1, false, "vectors in the scope");
    const rp_axis y = rp_axis_logarithmic(y_low, y_high, 1, false, "\xC2\xB5s a search");
    rp_chart chart;
    rp_document_panel_begin(&report->document, RP_STR("Index"), "beside an exact scan");
    rp_chart_begin(&chart, &report->document.html, &x, &y,
                   RP_STR("Microseconds of a search by vectors held; the numbers are in the table "
                          "below"));
    draw_points(report, &chart, &exact, "exact scan", 6, "s0");
    draw_points(report, &chart, &ours, "index", 0, "s5");
    rp_chart_end(&chart);
    rp_document_panel_end(&report->document);
}

static void
embed_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "class", .title = "Precision", .words = true },     { .key = "tier", .title = "Kernels", .words = true },
        { .key = "batch", .title = "Texts" },         { .key = "tokens", .title = "Tokens" },
        { .key = "ms", .title = "ms", .digits = 3 },  { .key = "texts_per_second", .title = "Texts a second" },
    };
    const rp_result_row *row;
    rp_table_begin(&report->document, "embed", "the encoder", columns, RP_COUNT(columns),
                   RP_TABLE_FOLDED);
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_EMBED, &at));) {
        const bool chosen = rp_json_is_true(rp_json_get(row->json, "chosen"));
        const rp_cell cells[] = {
            rp_cell_text(rp_result_string(row->json, "class")),
            rp_cell_text(rp_report_text(report, "%.*s%s", RP_FMT(rp_result_string(row->json, "tier")),
                                        chosen ? " (chosen here)" : "")),
            rp_cell_count(rp_result_number(row->json, "batch")),
            rp_cell_count(rp_result_number(row->json, "tokens")),
            rp_cell_number(rp_result_number(row->json, "ms")),
            rp_cell_count(rp_result_number(row->json, "texts_per_second")),
        };
        rp_table_row(&report->document, cells, true);
    }
    rp_table_end(&report->document);
}

static void
search_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "count", .title = "Vectors" },
        { .key = "search_us", .title = "Nearest, \xC2\xB5s", .digits = 1 },
        { .key = "search_k8_us", .title = "Nearest 8, \xC2\xB5s", .digits = 1 },
        { .key = "exact_us", .title = "Exact scan, \xC2\xB5s", .digits = 1 },
        { .key = "recall_at_1", .title = "Recall at 1", .digits = 4 },
        { .key = "recall_at_8", .title = "Recall at 8", .digits = 4 },
        { .key = "queries", .title = "Queries" },
        { .key = "bytes_per_vector", .title = "Bytes a vector", .digits = 0 },
    };
    const rp_result_row *row;
    rp_table_begin(&report->document, "search", "the index", columns, RP_COUNT(columns),
                   RP_TABLE_FOLDED);
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_SEARCH, &at));) {
        rp_cell cells[RP_COUNT(columns)];
        for (size_t c = 0; c < RP_COUNT(columns); c++) {
            const double value = rp_result_number(row->json, columns[c].key);
            cells[c] = c == 0 || c == 6 ? rp_cell_count(value) : rp_cell_number(value);
        }
        rp_table_row(&report->document, cells, true);
    }
    rp_table_end(&report->document);
}

static const rp_column request_columns[] = {
    { .key = "policy", .title = "Policy", .words = true },
    { .key = "p99_reduction", .title = "P99 less by, &gt;&nbsp;50&nbsp;%", .digits = 1, .strip_high = 1,
      .strip_mark = RP_LIMIT_P99 },
    { .key = "with_ms_p50", .title = "P50 with, ms", .digits = 1 },
    { .key = "without_ms_p50", .title = "without, ms", .digits = 1 },
    { .key = "with_ms_p99", .title = "P99 with, ms", .digits = 1 },
    { .key = "without_ms_p99", .title = "without, ms", .digits = 1 },
    { .key = "embed_us_p50", .title = "Embedding P50, \xC2\xB5s", .digits = 0 },
    { .key = "embed_us_p99", .title = "P99, \xC2\xB5s", .digits = 0 },
    { .key = "search_us_p50", .title = "Search P50, \xC2\xB5s", .digits = 1 },
    { .key = "search_us_p99", .title = "P99, \xC2\xB5s", .digits = 1 },
    { .key = "decide_us_p50", .title = "Decision P50, \xC2\xB5s", .digits = 1 },
    { .key = "decide_us_p99", .title = "P99, \xC2\xB5s", .digits = 1 },
};

static void
fill_request(rp_report *report, const rp_series *s, rp_cell *cells)
{
    (void)report;
    cells[0] = rp_cell_text(s->label);
    cells[1] = rp_cell_share(s->p99_cut.value, s->p99_cut.low, s->p99_cut.high);
    cells[1].verdict = rp_verdict_above(s->p99_cut.value, s->p99_cut.low, s->p99_cut.high,
                                        RP_LIMIT_P99);
    for (size_t c = 2; c < 6; c++)
        cells[c] = rp_cell_number(nested(rp_json_get(s->first, "latency"),
                                         c % 2 ? "without_ms" : "with_ms", c < 4 ? "p50" : "p99"));
    for (size_t c = 6; c < RP_COUNT(request_columns); c++)
        cells[c] = rp_cell_number(c < 8 ? nested(s->first, "embed_us", c == 6 ? "p50" : "p99")
                                        : rp_result_number(s->first, request_columns[c].key));
}

/* Shapes as well as colours. */
static void
put_hit_legend(rp_document *document, bool embed, bool search)
{
    static const struct {
        const char *name, *style;
        unsigned mark;
        bool of_search;
    } keys[] = {
        { "encoder, f32", "s1", 0, false }, { "encoder, bf16", "s3", 1, false },
        { "encoder, int8", "s5", 2, false }, { "index", "s5", 0, true },
        { "exact scan", "s0", 6, true },
    };
    rp_buffer *html = &document->html;
    rp_buffer_append(html, RP_STR("<ul class=\"legend\" aria-label=\"Legend\">"));
    for (size_t i = 0; i < RP_COUNT(keys); i++)
        if (keys[i].of_search ? search : embed) {
            rp_buffer_append(html, RP_STR("<li>"));
            rp_chart_key(html, keys[i].mark, false, keys[i].style);
            rp_buffer_printf(html, "%s</li>", keys[i].name);
        }
    rp_buffer_append(html, RP_STR("</ul>\n"));
}

void
rp_report_latency(rp_report *report)
{
    rp_document *document = &report->document;
    const bool embed = report->results->counts[RP_RESULT_EMBED] > 0;
    const bool search = report->results->counts[RP_RESULT_SEARCH] > 0;
    rp_document_section(document, "latency", "Latency");
    if (report->set.count) {
        rp_document_note(document,
            "Of a whole request: embedding, search and decision as measured, the upstream as stated. "
            "P99 falls only if nearly every slow request is a hit; a cache mends the mean.");
        rp_report_policy_table(report, "requests", "latency by policy", request_columns,
                               RP_COUNT(request_columns), fill_request);
    } else {
        rp_document_missing(document, "Latency of requests needs <code>eval stream --json</code>.");
    }
    if (embed || search) {
        put_hit_legend(document, embed, search);
        rp_document_figure_begin(document, "What a hit costs: a text embedded, a neighbour found");
        if (embed)
            draw_embed(report);
        if (search)
            draw_search(report);
        rp_document_figure_end(document);
    }
    if (embed)
        embed_table(report);
    else
        rp_document_missing(document, "Latency by encoder needs <code>bench embed --json</code>.");
    if (search)
        search_table(report);
    else
        rp_document_missing(document, "Latency by cache size needs <code>bench search --json</code>.");
}
