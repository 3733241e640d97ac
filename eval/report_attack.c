/* report_attack.c - the section about attacks. See report_sections.h; what the rows mean is
 * in attack.h. */
#include "eval/report_sections.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>

/* Columns of the tables by defence. Others are in the results, not in the report. */
static const char *const defences[] = { "none", "gates", "deletion-gain", "collision", "templates",
                                        "all", "shipped" };
enum { DEFENCES = RP_COUNT(defences), FIRST = 3 };

/* The next row of a record. */
static const rp_json *
next_record(const rp_report *report, const char *record, size_t *at)
{
    const rp_result_row *row;
    while ((row = rp_report_next(report, RP_RESULT_ATTACK, at)))
        if (rp_str_equal(rp_result_string(row->json, "record"), rp_str_of(record)))
            return row->json;
    return NULL;
}

static rp_cell
share_cell(const rp_json *row, const char *name, const char *low, const char *high)
{
    return rp_cell_share(rp_result_number(row, name), rp_result_number(row, low),
                         rp_result_number(row, high));
}

/* ---- attack success --------------------------------------------------------------------------- */

/* One kind against one policy, all defences. */
typedef struct attack_row {
    rp_str kind, policy;
    bool primed;
    const rp_json *by_defence[DEFENCES];
    double attempts;
} attack_row;

static bool
belongs(const attack_row *row, const rp_json *json)
{
    return rp_str_equal(row->kind, rp_result_string(json, "kind")) &&
           rp_str_equal(row->policy, rp_result_string(json, "policy")) &&
           row->primed == rp_json_is_true(rp_json_get(json, "primed"));
}

enum { ATTACK_ROWS_MAX = 4096 };

/* Rows in order of appearance. `eval attack` writes the defences of a policy one after the
 * other, so the search from the end is short. */
static size_t
collect_attacks(const rp_report *report, attack_row *rows)
{
    const rp_json *json;
    size_t count = 0;
    for (size_t at = 0; (json = next_record(report, "attack", &at));) {
        size_t i = count;
        while (i > 0 && !belongs(&rows[i - 1], json))
            i--;
        if (i == 0 && count == ATTACK_ROWS_MAX)
            continue;
        if (i == 0) {
            rows[count] = (attack_row){ .kind = rp_result_string(json, "kind"),
                                        .policy = rp_result_string(json, "policy"),
                                        .primed = rp_json_is_true(rp_json_get(json, "primed")),
                                        .attempts = rp_result_number(json, "attempts") };
            i = ++count;
        }
        for (size_t d = 0; d < DEFENCES; d++)
            if (rp_str_equal(rp_result_string(json, "defence"), rp_str_of(defences[d])))
                rows[i - 1].by_defence[d] = json;
    }
    return count;
}

static rp_str
policy_label(rp_report *report, rp_str spec, bool primed)
{
    static const char key[] = "min_similarity=";
    const rp_str name = rp_str_split(&spec, ':');
    if (rp_str_starts_with(spec, RP_STR(key)))
        spec = (rp_str){ spec.ptr + sizeof key - 1, spec.len - (sizeof key - 1) };
    return rp_report_text(report, "%.*s%s%.*s%s", RP_FMT(name), spec.len ? " " : "", RP_FMT(spec),
                          primed ? ", primed" : "");
}

/* The policies that the open table shows: the one of the summary, the static thresholds that
 * other caches start with, and the strictest. */
static bool
is_usual(const rp_report *report, const attack_row *row)
{
    static const char *const usual[] = { "static:min_similarity=0.8", "static:min_similarity=0.80",
                                         "static:min_similarity=.80", "static:min_similarity=.8",
                                         "static:min_similarity=0.95", "static:min_similarity=.95",
                                         "calibrated" };
    for (size_t i = 0; i < RP_COUNT(usual); i++)
        if (rp_str_equal(row->policy, rp_str_of(usual[i])))
            return true;
    return report->featured && rp_str_equal(row->policy, report->featured->policy);
}

static void
put_attack(rp_report *report, const attack_row *row)
{
    rp_cell cells[FIRST + DEFENCES - 1];
    cells[0] = rp_cell_text(policy_label(report, row->policy, row->primed));
    cells[1] = rp_cell_count(row->attempts);
    for (size_t d = 0; d < DEFENCES; d++) {
        rp_cell *cell = &cells[FIRST - 1 + d];
        *cell = share_cell(row->by_defence[d], "asr", "asr_low", "asr_high");
        if (cell->kind != RP_CELL_EMPTY)
            cell->verdict = rp_verdict_below(cell->value, cell->low, cell->high, RP_LIMIT_ASR);
    }
    rp_table_row(&report->document, cells, true);
}

/* The rows of the kind of rows[first], whatever stands between them. */
static void
put_kind(rp_report *report, const attack_row *rows, size_t first, size_t count, bool all)
{
    bool named = false;
    for (size_t i = first; i < count; i++) {
        if (!rp_str_equal(rows[i].kind, rows[first].kind) || !(all || is_usual(report, &rows[i])))
            continue;
        if (!named)
            rp_table_group(&report->document, rows[i].kind);
        named = true;
        put_attack(report, &rows[i]);
    }
}

static void
attack_table(rp_report *report, const attack_row *rows, size_t count, bool all)
{
    static const rp_column columns[FIRST + DEFENCES - 1] = {
        { .key = "policy", .title = "Policy" },
        { .key = "attempts", .title = "Attempts" },
        { .key = "asr_none", .title = "Undefended", .digits = 1, .strip_high = 1,
          .strip_mark = RP_LIMIT_ASR },
        { .key = "asr_gates", .title = "Gates", .digits = 1 },
        { .key = "asr_deletion_gain", .title = "Deletion gain", .digits = 1 },
        { .key = "asr_collision", .title = "Collision check", .digits = 1 },
        { .key = "asr_templates", .title = "Templates", .digits = 1 },
        { .key = "asr_all", .title = "All", .digits = 1 },
        { .key = "asr_shipped", .title = "As shipped", .digits = 1 },
    };
    rp_table_begin(&report->document, all ? "attacks_all" : "attacks",
                   all ? "attacks on every policy"
                       : "attack success by kind and defence, &lt;&nbsp;5&nbsp;% wanted",
                   columns, RP_COUNT(columns), all ? RP_TABLE_FOLDED : RP_TABLE_OPEN);
    for (size_t i = 0; i < count; i++) {
        bool first = true;
        for (size_t before = 0; first && before < i; before++)
            first = !rp_str_equal(rows[before].kind, rows[i].kind);
        if (first)
            put_kind(report, rows, i, count, all);
    }
    rp_table_end(&report->document);
}

/* ---- how strong, how seen, at what price ---------------------------------------------------------- */

static rp_cell
part_cell(const rp_json *row, const char *part, const char *whole)
{
    const double n = rp_result_number(row, whole);
    return rp_cell_share(n > 0 ? rp_result_number(row, part) / n : (double)NAN, (double)NAN,
                         (double)NAN);
}

static void
strength_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "kind", .title = "Kind" },
        { .key = "attempts", .title = "Attempts" },
        { .key = "mean_similarity", .title = "Mean cosine", .digits = 3 },
        { .key = "at_70", .title = "\xE2\x89\xA5 .70", .digits = 1 },
        { .key = "at_80", .title = "\xE2\x89\xA5 .80", .digits = 1 },
        { .key = "at_90", .title = "\xE2\x89\xA5 .90", .digits = 1 },
        { .key = "at_95", .title = "\xE2\x89\xA5 .95", .digits = 1 },
    };
    const rp_json *row;
    rp_table_begin(&report->document, "strength", "how near the attacks come to the victim's question",
                   columns, RP_COUNT(columns), RP_TABLE_FOLDED);
    for (size_t at = 0; (row = next_record(report, "strength", &at));) {
        rp_cell cells[RP_COUNT(columns)] = {
            rp_cell_text(rp_result_string(row, "kind")),
            rp_cell_count(rp_result_number(row, "attempts")),
            rp_cell_number(rp_result_number(row, "mean_similarity")),
        };
        for (size_t c = 3; c < RP_COUNT(columns); c++)
            cells[c] = part_cell(row, columns[c].key, "attempts");
        rp_table_row(&report->document, cells, true);
    }
    rp_table_end(&report->document);
}

static void
detection_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "score", .title = "Check" },
        { .key = "kind", .title = "Kind", .words = true },
        { .key = "min_similarity", .title = "From cosine", .digits = 2 },
        { .key = "attacks", .title = "Attacks" },
        { .key = "benign", .title = "Benign" },
        { .key = "auc", .title = "AUC", .digits = 3, .strip_low = .5, .strip_high = 1 },
        { .key = "blocked_rate", .title = "Attacks refused", .digits = 1 },
        { .key = "false_positive_rate", .title = "Benign refused", .digits = 1 },
    };
    const rp_json *row;
    rp_table_begin(&report->document, "detection", "how well a check tells attacks from benign entries",
                   columns, RP_COUNT(columns), RP_TABLE_OPEN);
    for (size_t at = 0; (row = next_record(report, "detection", &at));) {
        rp_cell auc = rp_cell_number(rp_result_number(row, "auc"));
        const rp_str kind = rp_result_string(row, "kind");
        auc.low = rp_result_number(row, "auc_low");
        auc.high = rp_result_number(row, "auc_high");
        const rp_cell cells[] = {
            rp_cell_text(rp_result_string(row, "score")),
            rp_cell_text(rp_str_equal(kind, RP_STR("*")) ? RP_STR("all") : kind),
            rp_cell_number(rp_result_number(row, "min_similarity")),
            rp_cell_count(rp_result_number(row, "attacks")),
            rp_cell_count(rp_result_number(row, "benign")), auc,
            share_cell(row, "blocked_rate", "blocked_low", "blocked_high"),
            share_cell(row, "false_positive_rate", "false_positive_low", "false_positive_high"),
        };
        rp_table_row(&report->document, cells, true);
    }
    rp_table_end(&report->document);
}

static void
price_table(rp_report *report)
{
    static const rp_column columns[] = {
        { .key = "file", .title = "Benign prompts" },
        { .key = "policy", .title = "Policy", .words = true },
        { .key = "defence", .title = "Defence", .words = true },
        { .key = "questions", .title = "Questions" },
        { .key = "of_right", .title = "Right hits undefended" },
        { .key = "refused_right", .title = "Taken away" },
        { .key = "refused_rate", .title = "Of right hits", .digits = 1 },
    };
    const rp_json *row;
    rp_table_begin(&report->document, "price", "what the defences take from benign prompts", columns,
                   RP_COUNT(columns), RP_TABLE_FOLDED);
    for (size_t at = 0; (row = next_record(report, "benign", &at));) {
        rp_str file = rp_result_string(row, "file"), path = file;
        while (path.len)
            file = rp_str_split(&path, '/');
        const rp_cell cells[] = {
            rp_cell_text(rp_str_equal(file, RP_STR("*")) ? RP_STR("all") : file),
            rp_cell_text(policy_label(report, rp_result_string(row, "policy"), false)),
            rp_cell_text(rp_result_string(row, "defence")),
            rp_cell_count(rp_result_number(row, "questions")),
            rp_cell_count(rp_result_number(row, "of_right")),
            rp_cell_count(rp_result_number(row, "refused_right")),
            share_cell(row, "refused_rate", "refused_low", "refused_high"),
        };
        rp_table_row(&report->document, cells, true);
    }
    rp_table_end(&report->document);
}

void
rp_report_attacks(rp_report *report)
{
    rp_document *document = &report->document;
    rp_document_section(document, "attacks", "Attacks");
    if (!report->results->counts[RP_RESULT_ATTACK]) {
        rp_document_missing(document, "No result of <code>eval attack --json</code> was given.");
        return;
    }
    attack_row *rows = calloc(ATTACK_ROWS_MAX, sizeof *rows);
    report->failed |= !rows;
    const size_t count = rows ? collect_attacks(report, rows) : 0;
    rp_document_note(document,
        "Somebody plants an entry so that other people's questions are answered with it. Success: the "
        "victim's question is a hit, and the planted entry is what is served. <i>bare</i> is no attack but "
        "the encoder's base rate, to be read beside the others. Thresholds of the checks were chosen on "
        "one half of the texts and used on the other. Brackets: 95&#8239;%, Clopper and Pearson.");
    attack_table(report, rows, count, false);
    attack_table(report, rows, count, true);
    detection_table(report);
    strength_table(report);
    price_table(report);
    free(rows);
}
