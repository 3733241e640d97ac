/* report.h - `eval report`: results become one page and one JSON document.
 *
 * What is shown depends on which results there are; what is missing is said. Every share
 * has its denominator and, where there is one, its interval; limits that the field uses are
 * answered in words.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_REPORT_H
#define RP_EVAL_REPORT_H

#include "eval/results.h"
#include "eval/wrong_hits.h"

typedef struct rp_report_options {
    const char *policy;         /* label, SPEC or baseline that the summary is about; NULL: the
                                   shipped default or calibrated, else the first */
    const char *commit;         /* of this program */
    const char *command;        /* that made the report */
    rp_time now;
    const rp_wrong_hits *wrong; /* (wrong_count) */
    size_t wrong_count;
    bool show_texts;
} rp_report_options;

/* Fails: RP_ERR_NOMEM, RP_ERR_LIMIT, RP_ERR_NOT_FOUND (no such policy). */
RP_NODISCARD rp_status rp_report_write(const rp_results *results, const rp_report_options *options,
                                       rp_buffer *html, rp_buffer *json, rp_error *error);

#endif
