/* report_parts.c - see report_parts.h. */
#include "eval/report_parts.h"

#include "base/bytes.h"
#include "eval/chart.h"

#include <stdarg.h>
#include <stdio.h>

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

rp_str
rp_report_file_name(rp_str path)
{
    rp_str name = path;
    while (path.len)
        name = rp_str_split(&path, '/');
    if (rp_str_ends_with(name, RP_STR(".tsv")))
        name.len -= 4;
    return name;
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
