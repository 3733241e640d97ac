/* report_sections.h - the sections of a report. Each writes its heading, and says so if the
 * results that it is about are missing. */
#ifndef RP_EVAL_REPORT_SECTIONS_H
#define RP_EVAL_REPORT_SECTIONS_H

#include "eval/report_parts.h"

/* In the order of the page. */
void rp_report_glance(rp_report *report);
void rp_report_frontier(rp_report *report);
void rp_report_bounds(rp_report *report);
void rp_report_policies(rp_report *report);
void rp_report_categories(rp_report *report);
void rp_report_neighbors(rp_report *report);
void rp_report_calibration(rp_report *report);
void rp_report_time(rp_report *report);
void rp_report_cost(rp_report *report);
void rp_report_latency(rp_report *report);
void rp_report_pairs(rp_report *report);
void rp_report_attacks(rp_report *report);
void rp_report_wrong_hits(rp_report *report);
void rp_report_runs(rp_report *report);

#endif
