/* report_runs.c - the sections about what one can check: texts of wrong hits, and which command ran on
 * what. See report_sections.h. */
#include "eval/report_sections.h"

#include "base/bytes.h"

#include <string.h>

/* ---- the worst wrong hits ---------------------------------------------------------------------------- */

static void
wrong_hits_of(rp_report *report, const rp_wrong_hits *wrong)
{
    rp_document *document = &report->document;
    const rp_str name = wrong->stream.len ? wrong->stream : wrong->decisions;
    rp_table_group(document, rp_report_text(report, "%.*s: %llu of %llu hits are wrong, all policies "
                                                    "together", RP_FMT(rp_report_file_name(name)),
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
            rp_cell_text(rp_report_file_name(run->path)),
            command.len ? rp_cell_code(command) : rp_cell_text(RP_STR("not recorded")),
            rp_cell_count((double)run->known), rp_cell_text(rp_result_string(run->about, "commit")),
            rp_cell_text(rp_result_string(run->about, "cpu")),
            rp_cell_count(rp_result_number(run->about, "cores")),
            rp_cell_text(rp_result_string(run->about, "kernels")),
            rp_cell_text(rp_result_string(run->about, "started")),
            rp_cell_number(rp_result_number(run->about, "seconds")),
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
