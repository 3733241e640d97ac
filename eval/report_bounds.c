/* report_bounds.c - is the bound kept over many orders, and what could it allow at best? See
 * report_sections.h; what the rows mean is in frontier.h and docs/evaluation.md. */
#include "eval/report_sections.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>

/* ---- bounds ------------------------------------------------------------------------------------- */

static rp_cell
plain_share(const rp_json *row, const char *name)
{
    return rp_cell_share(rp_result_number(row, name), (double)NAN, (double)NAN);
}

/* With the verdict that the measurement itself gave; null: no bound was promised. */
static rp_cell
judged(const rp_json *row, const char *name, const char *verdict)
{
    const rp_json *holds = rp_json_get(row, verdict);
    rp_cell cell = plain_share(row, name);
    if (holds && holds->type == RP_JSON_BOOL)
        cell.verdict = rp_json_is_true(holds) ? RP_VERDICT_PASS : RP_VERDICT_FAIL;
    return cell;
}

static void
bounds_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "order", .title = "Order", .words = true },
        { .key = "error_max", .title = "Bound", .digits = 1 },
        { .key = "error_mean", .title = "Wrong, mean", .digits = 2 },
        { .key = "error_worst", .title = "Wrong, worst order", .digits = 2 },
        { .key = "error_worst_low", .title = "its 99.9 % lower limit", .digits = 2 },
        { .key = "hit_rate_mean", .title = "Hits, mean", .digits = 1 },
        { .key = "orders", .title = "Orders" },
        { .key = "requests", .title = "Requests each" },
    };
    rp_document *document = &report->document;
    const rp_result_row *row;
    rp_str file = { 0 };
    rp_table_begin(document, "bounds", "bounds over many orders", columns, RP_COUNT(columns),
                   RP_TABLE_OPEN);
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_BOUND, &at));) {
        const rp_json *json = row->json;
        if (!rp_str_equal(rp_result_string(json, "file"), file)) {
            file = rp_result_string(json, "file");
            rp_table_group(document, rp_series_file_name(file));
        }
        const rp_cell cells[] = {
            rp_cell_text(rp_result_string(json, "policy")),
            rp_cell_text(rp_result_string(json, "order")),
            plain_share(json, "error_max"),
            judged(json, "error_mean", "mean_holds"),
            plain_share(json, "error_worst"),
            judged(json, "error_worst_low_999", "orders_hold"),
            plain_share(json, "hit_rate_mean"),
            rp_cell_count(rp_result_number(json, "orders")),
            rp_cell_count(rp_result_number(json, "requests")),
        };
        rp_table_row(document, cells, true);
    }
    rp_table_end(document);
}

/* ---- what an estimate allows ----------------------------------------------------------------------- */

enum { POINTS = 4, GROUPS_MAX = 256, ROWS_MAX = 2048 };
static const double errors[POINTS] = { .005, .01, .02, .05 };
static const char *const scores[] = { "risk", "gated", "nearest" };
static const char *const score_titles[] = { "estimate of the risk", "cosine, gates", "cosine" };

/* One policy on one stream in one kind of order: sums over its orders, NaN where nothing is. */
typedef struct group {
    const rp_json *first;
    double hits[RP_COUNT(scores)][POINTS], orders;
    double online[POINTS], kept[POINTS], runs[POINTS];
} group;

static bool
is_same(const rp_json *a, const rp_json *b, const char *name)
{
    return rp_str_equal(rp_result_string(a, name), rp_result_string(b, name));
}

static bool
belongs(const group *g, const rp_json *row)
{
    return is_same(g->first, row, "file") && is_same(g->first, row, "policy") &&
           is_same(g->first, row, "order") && is_same(g->first, row, "gates");
}

/* POINTS: none of the usual bounds. */
static size_t
point_of(double error_max)
{
    size_t at = 0;
    while (at < POINTS && !(fabs(error_max - errors[at]) < 1e-9))
        at++;
    return at;
}

static void
add_frontier(group *g, const rp_json *row)
{
    const rp_json *all = rp_json_get(row, "frontiers");
    g->orders++;
    for (size_t s = 0; s < RP_COUNT(scores); s++) {
        const rp_json *list = rp_json_get(all, scores[s]);
        double hits[POINTS] = { (double)NAN, (double)NAN, (double)NAN, (double)NAN };
        for (uint32_t i = 0; list && list->type == RP_JSON_ARRAY && i < list->count; i++) {
            const size_t at = point_of(rp_result_number(&list->children[i], "error_max"));
            if (at < POINTS)
                hits[at] = rp_result_number(&list->children[i], "hit_rate");
        }
        for (size_t i = 0; i < POINTS; i++)
            g->hits[s][i] += hits[i];
    }
}

/* What the same policies kept when they were run. */
static void
add_runs(const rp_report *report, group *groups, size_t count)
{
    const rp_result_row *row;
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_POLICY, &at));) {
        const double kept = rp_result_number(row->json, "kept");
        const size_t point = point_of(rp_result_number(row->json, "error_max"));
        for (size_t i = 0; isfinite(kept) && point < POINTS && i < count; i++)
            if (belongs(&groups[i], row->json)) {
                groups[i].online[point] += rp_result_number(row->json, "hit_rate");
                groups[i].kept[point] += kept;
                groups[i].runs[point]++;
            }
    }
}

static size_t
collect(const rp_report *report, group *groups)
{
    const rp_result_row *row;
    size_t count = 0, rows = 0;
    for (size_t at = 0; (row = rp_report_next(report, RP_RESULT_FRONTIER, &at)) && rows < ROWS_MAX;
         rows++) {
        size_t i = 0;
        while (i < count && !belongs(&groups[i], row->json))
            i++;
        if (i == GROUPS_MAX)
            continue;
        if (i == count)
            groups[count++] = (group){ .first = row->json };
        add_frontier(&groups[i], row->json);
    }
    add_runs(report, groups, count);
    return count;
}

/* `sums` over `counts` each; what was never measured is an empty cell. */
static void
frontier_row(rp_report *report, const group *g, const char *what, const double *sums,
             const double *counts)
{
    rp_cell cells[4 + POINTS] = {
        rp_cell_text(rp_result_string(g->first, "policy")), rp_cell_text(rp_str_of(what)),
        rp_cell_text(rp_result_string(g->first, "order")), rp_cell_count(g->orders),
    };
    bool any = false;
    for (size_t i = 0; i < POINTS; i++) {
        cells[4 + i] = rp_cell_share(counts[i] > 0 ? sums[i] / counts[i] : (double)NAN, (double)NAN,
                                     (double)NAN);
        any |= cells[4 + i].kind != RP_CELL_EMPTY;
    }
    if (any)
        rp_table_row(&report->document, cells, true);
}

static void
estimate_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "what", .title = "Cut in hindsight on, or kept", .words = true },
        { .key = "order", .title = "Order", .words = true },
        { .key = "orders", .title = "Orders" },
        { .key = "at_error_05", .title = "Hits at error \xE2\x89\xA4 0.5 %", .digits = 1 },
        { .key = "at_error_1", .title = "\xE2\x89\xA4 1 %", .digits = 1 },
        { .key = "at_error_2", .title = "\xE2\x89\xA4 2 %", .digits = 1 },
        { .key = "at_error_5", .title = "\xE2\x89\xA4 5 %", .digits = 1 },
    };
    rp_document *document = &report->document;
    group *groups = calloc(GROUPS_MAX, sizeof *groups);
    const size_t count = groups ? collect(report, groups) : 0;
    report->failed |= !groups;
    rp_str file = { 0 };
    rp_table_begin(document, "estimates", "what the estimates of policies allow", columns,
                   RP_COUNT(columns), RP_TABLE_OPEN);
    for (size_t i = 0; i < count; i++) {
        const group *g = &groups[i];
        const double orders[POINTS] = { g->orders, g->orders, g->orders, g->orders };
        if (!rp_str_equal(rp_result_string(g->first, "file"), file)) {
            file = rp_result_string(g->first, "file");
            rp_table_group(document, rp_series_file_name(file));
        }
        for (size_t s = 0; s < RP_COUNT(scores); s++)
            frontier_row(report, g, score_titles[s], g->hits[s], orders);
        frontier_row(report, g, "online: hits", g->online, g->runs);
        frontier_row(report, g, "online: share kept", g->kept, g->runs);
    }
    rp_table_end(document);
    free(groups);
}

void
rp_report_bounds(rp_report *report)
{
    rp_document *document = &report->document;
    const bool bounds = report->results->counts[RP_RESULT_BOUND] > 0;
    const bool frontiers = report->results->counts[RP_RESULT_FRONTIER] > 0;
    rp_document_section(document, "bounds", "Is the bound kept?");
    if (bounds) {
        rp_document_note(document,
            "A bound is a promise about the mean over orders of the share of all requests that get a "
            "wrong answer. One order may pass it by chance, but not by more than chance: the lower "
            "limit of its error (Clopper and Pearson, 99.9&#8239;%) must not lie above the bound. In sorted "
            "orders the requests of an answer follow each other; a drifting one has four phases with "
            "answers of their own.");
        bounds_table(report);
    } else {
        rp_document_missing(document, "Whether bounds hold over many orders needs "
                                      "<code>eval stream --json --bounds --orders 20</code>.");
    }
    if (frontiers) {
        rp_document_note(document,
            "What a policy's own estimate of the risk is worth: every request kept, nothing served, the "
            "cut chosen in hindsight; beside it the cosine of the same candidate, and of the nearest "
            "one without gates. Then what the policy kept of it when it had to choose the cut itself, "
            "knowing only what a server knows.");
        estimate_table(report);
    } else {
        rp_document_missing(document, "What the estimates allow in hindsight needs "
                                      "<code>eval stream --json --frontier</code>.");
    }
}
