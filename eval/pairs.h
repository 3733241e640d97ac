/* pairs.h - labelled pairs: read, scored, measured.
 *
 * Format: lines of four fields between tabs, the first line `label category text_a text_b`;
 * label 1: one answer serves both, 0: it does not. No quoting; a carriage return at the
 * end of a line is dropped.
 *
 * A file may hold grades instead (STS-B, SICK): numbers, the first with a decimal point.
 * They say how alike two texts are, not whether one answer serves both: of such a file the
 * correlations of score and grade are measured, and nothing else.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_PAIRS_H
#define RP_EVAL_PAIRS_H

#include "eval/correlation.h"
#include "eval/metrics.h"
#include "eval/text_set.h"
#include "eval/vectors.h"
#include "json/json.h"

typedef struct rp_pair {
    uint32_t a, b;     /* numbers in texts */
    uint32_t category; /* number in categories */
    uint32_t group;    /* pairs that share a text, directly or through others */
    bool positive;     /* false in a graded file */
    double grade;
} rp_pair;

typedef struct rp_pairs {
    rp_text_set texts, categories;
    rp_pair *rows; /* owned */
    size_t count, capacity, group_count;
    bool graded;
} rp_pairs;

/* Fails: RP_ERR_INVALID "FILE:LINE: ..." (header, fields, label, no pairs at all), and as
 * rp_file_map_open does, but RP_ERR_INVALID for RP_ERR_IO. After a failure `out` holds
 * nothing. */
RP_NODISCARD rp_status rp_pairs_read(const char *path, rp_pairs *out, rp_error *error);
void rp_pairs_fini(rp_pairs *pairs);

/* Cosines of all pairs; `vectors` are those of pairs->texts. */
void rp_pairs_score(const rp_pairs *pairs, const rp_vectors *vectors, double *scores);
/* Take `penalty` off every pair on which a gate of RP_GATES_DEFAULT fires (lib/evidence).
 * *fired: how many. Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_pairs_add_gates(const rp_pairs *pairs, double penalty, double *scores,
                                          size_t *fired);
/* One number a line, `count` of them from line *line (from 0) on, which is moved behind
 * them. Fails: RP_ERR_INVALID "FILE:LINE: ...". */
RP_NODISCARD rp_status rp_scores_read(const char *path, size_t count, size_t *line,
                                      double *scores, rp_error *error);
/* How many lines of scores there are. */
RP_NODISCARD rp_status rp_scores_count(const char *path, size_t *out, rp_error *error);

typedef struct rp_pairs_result {
    rp_str category; /* "*": the whole file; lent from the pairs */
    bool graded;             /* then `correlation` and metrics.n count, else all the rest */
    rp_correlation correlation;
    rp_pair_metrics metrics;
    rp_bootstrap bootstrap;
    bool has_bootstrap;
    /* Anchors (text_a) with pairs of both labels: mean over them of mean positive score
     * minus mean negative score (arXiv:2504.02268 and others call it the margin). */
    size_t triplets;
    double margin;
} rp_pairs_result;

/* The whole file first, then each category in order of appearance (none if there is only
 * one). *out (*count) is the caller's to free(). Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_pairs_measure(const rp_pairs *pairs, const double *scores,
                                        unsigned replicates, uint64_t seed,
                                        rp_pairs_result **out, size_t *count);
/* One object: the members of docs/evaluation.md. */
void rp_pairs_result_write(const rp_pairs_result *result, const char *model, const char *file,
                           rp_buffer *out);

#endif
