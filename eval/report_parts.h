/* report_parts.h - what the sections of a report are made with. Used by one thread at a time. */
#ifndef RP_EVAL_REPORT_PARTS_H
#define RP_EVAL_REPORT_PARTS_H

#include "eval/document.h"
#include "eval/report.h"
#include "eval/series.h"

typedef struct rp_report {
    const rp_results *results;
    const rp_report_options *options;
    rp_series_set set;
    const rp_series *featured; /* NULL: there is no policy at all */
    rp_document document;
    rp_arena arena;            /* texts that are put together */
    rp_buffer text;            /* scratch for one sentence */
    bool failed;               /* no memory for one of them */
} rp_report;

/* What the field asks of a cache (shares). */
#define RP_LIMIT_CHR 0.30
#define RP_LIMIT_RER 0.02
#define RP_LIMIT_CRR 0.40
#define RP_LIMIT_P99 0.50
#define RP_LIMIT_ASR 0.05

/* Formatted text that lives as long as the report; "" without memory (report->failed). */
rp_str rp_report_text(rp_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The last part of a path, without ".tsv"; it lives as long as the path. */
rp_str rp_report_file_name(rp_str path);

/* The rows of one kind. *at is where to go on from; NULL at the end. */
const rp_result_row *rp_report_next(const rp_report *report, rp_result_kind kind, size_t *at);

/* The series of all categories of one stream, in the order of the stream's first one. */
const rp_series *rp_report_next_series(const rp_report *report, size_t stream, size_t *at);
/* Is there one of them of which this is true? */
bool rp_report_any_series(const rp_report *report, size_t stream, bool (*is)(const rp_series *));
/* Bits by style of all series, of any stream and category, of which this is true. */
uint32_t rp_report_styles(const rp_report *report, bool (*is)(const rp_series *));
/* A section that is there if `there`; else it says what is missing, and the answer is false. */
bool rp_report_section(rp_report *report, const char *id, const char *title, bool there,
                       const char *missing);
/* A table with a row for every policy on every stream, all its categories, under the names of
 * the streams. `fill` gets cells that are empty. */
typedef void rp_report_fill(rp_report *report, const rp_series *s, rp_cell *cells);
void rp_report_policy_table(rp_report *report, const char *id, const char *caption,
                            const rp_column *columns, size_t count, rp_report_fill *fill);
/* Class of its colour and lines; its shape. */
const char *rp_report_style(unsigned style);
unsigned rp_report_mark(unsigned style);
/* A legend of the families on these streams (bits by style), with extra lines of our HTML. */
void rp_report_legend(rp_report *report, uint32_t styles, const char *extra);

#endif
