/* frontier.c - see frontier.h. */
#include "eval/frontier.h"

#include <math.h>
#include <stdlib.h>

const char *
rp_frontier_score_name(rp_frontier_score score)
{
    static const char *const names[RP_FRONTIER_SCORES] = { "risk", "gated", "nearest" };
    return names[score];
}

rp_status
rp_frontier_rows_init(rp_frontier_rows *rows, size_t requests)
{
    *rows = (rp_frontier_rows){ .capacity = requests };
    for (size_t i = 0; i < RP_FRONTIER_SCORES; i++)
        if (!(rows->rows[i] = calloc(requests + 1, sizeof *rows->rows[i]))) {
            rp_frontier_rows_fini(rows);
            return RP_ERR_NOMEM;
        }
    return RP_OK;
}

void
rp_frontier_rows_fini(rp_frontier_rows *rows)
{
    for (size_t i = 0; i < RP_FRONTIER_SCORES; i++)
        free(rows->rows[i]);
    *rows = (rp_frontier_rows){ 0 };
}

void
rp_frontier_add(rp_frontier_rows *rows, rp_frontier_score score, double value, bool right)
{
    if (isfinite(value) && rows->counts[score] < rows->capacity)
        rows->rows[score][rows->counts[score]++] = (rp_scored){ value, 1, 0, right };
}

void
rp_frontier_finish(rp_frontier_rows *rows, rp_frontiers *out)
{
    for (size_t s = 0; s < RP_FRONTIER_SCORES; s++) {
        rp_scored_sort(rows->rows[s], rows->counts[s]);
        out->counts[s] = rows->counts[s];
        for (size_t b = 0; b < out->bound_count; b++) {
            rp_frontier_point *point = &out->points[s][b];
            *point = rp_frontier(rows->rows[s], rows->counts[s], (size_t)out->requests,
                                 out->bounds[b]);
            if (s == RP_FRONTIER_RISK)
                point->threshold = -point->threshold;
        }
    }
}

double
rp_frontier_hits(const rp_frontiers *frontiers, rp_frontier_score score, double bound)
{
    for (size_t b = 0; b < frontiers->bound_count && frontiers->counts[score]; b++)
        if (frontiers->bounds[b] == bound)
            return frontiers->points[score][b].hits;
    return NAN;
}
