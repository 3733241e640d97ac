/* report_pairs.c - the section about encoders on pairs. See report_sections.h. */
#include "eval/report_sections.h"

#include "base/bytes.h"
#include "eval/text_set.h"

#include <stdlib.h>

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
            rp_cell_text(rp_report_file_name(rp_result_string(json, "file"))),
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
