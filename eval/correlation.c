/* correlation.c - see correlation.h. */
#include "eval/correlation.h"

#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* Orders and ranks of all rows; orders do not change with weights. */
typedef struct scratch {
    uint32_t *by_score, *by_grade;     /* (count) */
    double *score_ranks, *grade_ranks; /* (count) */
} scratch;

typedef struct keyed {
    double value;
    uint32_t at;
} keyed;

static int
by_rising_value(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static bool
fill_order(const rp_graded *rows, size_t count, bool is_grade, uint32_t *out)
{
    keyed *keys = calloc(count + 1, sizeof *keys);
    if (!keys)
        return false;
    for (size_t i = 0; i < count; i++)
        keys[i] = (keyed){ is_grade ? rows[i].grade : rows[i].score, (uint32_t)i };
    qsort(keys, count, sizeof *keys, by_rising_value);
    for (size_t i = 0; i < count; i++)
        out[i] = keys[i].at;
    free(keys);
    return true;
}

static void
free_scratch(scratch *s)
{
    free(s->by_score);
    free(s->by_grade);
    free(s->score_ranks);
    free(s->grade_ranks);
}

static bool
make_scratch(const rp_graded *rows, size_t count, scratch *s)
{
    *s = (scratch){ calloc(count + 1, sizeof *s->by_score), calloc(count + 1, sizeof *s->by_grade),
                    calloc(count + 1, sizeof *s->score_ranks),
                    calloc(count + 1, sizeof *s->grade_ranks) };
    return s->by_score && s->by_grade && s->score_ranks && s->grade_ranks &&
           fill_order(rows, count, false, s->by_score) && fill_order(rows, count, true, s->by_grade);
}

/* The mean of the ranks that rows of one value share: with W rows below it and w of it,
 * (W + 1 + W + w) / 2. */
static void
fill_ranks(const rp_graded *rows, size_t count, bool is_grade, const uint32_t *order, double *ranks)
{
    double below = 0;
    for (size_t i = 0; i < count;) {
        double weight = 0;
        size_t end = i;
        const double value = is_grade ? rows[order[i]].grade : rows[order[i]].score;
        for (; end < count && (is_grade ? rows[order[end]].grade : rows[order[end]].score) == value;
             end++)
            weight += rows[order[end]].weight;
        for (; i < end; i++)
            ranks[order[i]] = below + (weight + 1) / 2;
        below += weight;
    }
}

/* Values are taken relative to their mean first: a difference of large sums would lose
 * what is looked for. */
static double
pearson_of(const rp_graded *rows, size_t count, const double *x, const double *y)
{
    double n = 0, mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < count; i++) {
        n += rows[i].weight;
        mean_x += rows[i].weight * (x ? x[i] : rows[i].score);
        mean_y += rows[i].weight * (y ? y[i] : rows[i].grade);
    }
    mean_x /= n;
    mean_y /= n;
    for (size_t i = 0; i < count; i++) {
        const double dx = (x ? x[i] : rows[i].score) - mean_x;
        const double dy = (y ? y[i] : rows[i].grade) - mean_y;
        xx += rows[i].weight * dx * dx;
        yy += rows[i].weight * dy * dy;
        xy += rows[i].weight * dx * dy;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

static void
correlate(const rp_graded *rows, size_t count, scratch *s, rp_correlation *out)
{
    fill_ranks(rows, count, false, s->by_score, s->score_ranks);
    fill_ranks(rows, count, true, s->by_grade, s->grade_ranks);
    const rp_interval unknown = { NAN, NAN };
    *out = (rp_correlation){ pearson_of(rows, count, NULL, NULL),
                             pearson_of(rows, count, s->score_ranks, s->grade_ranks), unknown,
                             unknown };
}

rp_status
rp_correlate_weighted(const rp_graded *rows, size_t count, rp_correlation *out)
{
    scratch s;
    const bool good = make_scratch(rows, count, &s);
    if (good)
        correlate(rows, count, &s, out);
    free_scratch(&s);
    return good ? RP_OK : RP_ERR_NOMEM;
}

static int
compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of what could be said. */
static rp_interval
middle_95(double *values, size_t count)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            values[known++] = values[i];
    if (known == 0)
        return (rp_interval){ NAN, NAN };
    qsort(values, known, sizeof *values, compare_doubles);
    return (rp_interval){ values[(size_t)(0.025 * (double)(known - 1) + 0.5)],
                          values[(size_t)(0.975 * (double)(known - 1) + 0.5)] };
}

static void
draw_weights(rp_graded *rows, size_t count, uint32_t *drawn, size_t group_count, rp_random *random)
{
    for (size_t i = 0; i < group_count; i++)
        drawn[i] = 0;
    for (size_t i = 0; i < group_count; i++)
        drawn[rp_random_below(random, group_count)]++;
    for (size_t i = 0; i < count; i++)
        rows[i].weight = drawn[rows[i].group];
}

rp_status
rp_correlate(rp_graded *rows, size_t count, size_t group_count, unsigned replicates, uint64_t seed,
             rp_correlation *out)
{
    scratch s;
    rp_random random;
    uint32_t *drawn = calloc(group_count + 1, sizeof *drawn);
    double *pearsons = calloc((size_t)replicates + 1, sizeof *pearsons);
    double *spearmans = calloc((size_t)replicates + 1, sizeof *spearmans);
    const bool good = make_scratch(rows, count, &s) && drawn && pearsons && spearmans;
    rp_random_init(&random, seed);
    for (unsigned r = 0; good && r < replicates; r++) {
        rp_correlation each;
        draw_weights(rows, count, drawn, group_count, &random);
        correlate(rows, count, &s, &each);
        pearsons[r] = each.pearson;
        spearmans[r] = each.spearman;
    }
    for (size_t i = 0; i < count; i++)
        rows[i].weight = 1;
    if (good) {
        correlate(rows, count, &s, out);
        out->pearson_95 = middle_95(pearsons, replicates);
        out->spearman_95 = middle_95(spearmans, replicates);
    }
    free_scratch(&s);
    free(drawn);
    free(pearsons);
    free(spearmans);
    return good ? RP_OK : RP_ERR_NOMEM;
}
