/* report.c - see report.h: the sections in their order, and what stands above them. */
#include "eval/report_sections.h"

#include "base/bytes.h"
#include "eval/markup.h"

#include <stdio.h>
#include <time.h>

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
