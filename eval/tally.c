/* tally.c - see tally.h. */
#include "eval/tally.h"

#include "base/bytes.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

static int
by_rising_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double
quantile(const float *sorted, size_t count, double share)
{
    return (double)sorted[(size_t)(share * (double)(count - 1) + 0.5)];
}

rp_spread
rp_spread_of(float *values, size_t count)
{
    double sum = 0;
    if (count == 0)
        return (rp_spread){ NAN, NAN, NAN };
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i];
    qsort(values, count, sizeof *values, by_rising_value);
    return (rp_spread){ sum / (double)count, quantile(values, count, 0.50),
                        quantile(values, count, 0.99) };
}

double
rp_upstream_ms(const rp_tally_options *options, uint32_t line)
{
    rp_random random;
    if (!(options->upstream_spread > 0))
        return options->upstream_ms;
    rp_random_init(&random, 0x757073747265616du ^ line); /* "upstream" */
    return options->upstream_ms * exp(options->upstream_spread * rp_random_normal(&random));
}

rp_status
rp_tally_init(rp_tally *tally, size_t category_count, size_t requests,
              const rp_tally_options *options)
{
    *tally = (rp_tally){ .category_count = category_count };
    tally->curve_count = RP_MIN(options->windows, requests);
    tally->categories = calloc(category_count + 1, sizeof *tally->categories);
    tally->curve = calloc(tally->curve_count + 1, sizeof *tally->curve);
    if (!tally->categories || !tally->curve) {
        rp_tally_fini(tally);
        return RP_ERR_NOMEM;
    }
    for (size_t i = 0; i < tally->curve_count; i++)
        tally->curve[i].end = (uint64_t)requests * (i + 1) / tally->curve_count;
    return RP_OK;
}

void
rp_tally_fini(rp_tally *tally)
{
    free(tally->categories);
    free(tally->curve);
    *tally = (rp_tally){ 0 };
}

static void
count(rp_counts *counts, const rp_tallied *request)
{
    counts->requests++;
    if (request->served == RP_SERVED_EXACT) {
        counts->exact_hits++;
        counts->exact_wrong += !request->right;
    } else if (request->served == RP_SERVED_SEMANTIC) {
        counts->hits++;
        counts->wrong_hits += !request->right;
    }
}

void
rp_tally_add(rp_tally *tally, const rp_tallied *request, uint64_t entries_now)
{
    const bool is_hit = request->served != RP_SERVED_UPSTREAM;
    tally->cost_all += request->cost;
    tally->cost_upstream += is_hit ? 0 : request->cost;
    tally->cost_audits += request->audited ? request->cost : 0;
    tally->cost_saved_right += is_hit && request->right ? request->cost : 0;
    tally->upstream_calls += !is_hit + request->audited;
    tally->audits += request->audited;
    count(&tally->all, request);
    if (request->category < tally->category_count)
        count(&tally->categories[request->category], request);
    /* The window that ends after this request; the last one ends with the last request. */
    size_t low = 0, high = tally->curve_count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (tally->curve[middle].end < tally->all.requests)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == tally->curve_count)
        return;
    rp_window *window = &tally->curve[low];
    count(&window->counts, request);
    window->upstream_calls += !is_hit + request->audited;
    window->audits += request->audited;
    window->entries = entries_now;
}

/* Finer where bounds are set. */
const double rp_risk_ends[RP_RISK_BINS] = { .005, .01, .02, .05, .1, .2, .3, .4, .5, .6, .8, 1 };

void
rp_tally_add_risk(rp_tally *tally, double risk, bool wrong)
{
    size_t bin = 0;
    if (!(risk >= 0 && risk <= 1))
        return;
    while (bin < RP_RISK_BINS - 1 && risk >= rp_risk_ends[bin])
        bin++;
    tally->risks[bin].count++;
    tally->risks[bin].wrong += wrong;
    tally->risks[bin].risk_sum += risk;
}

void
rp_tally_finish(rp_tally *tally, const rp_tally_options *options, double compute_us)
{
    tally->cost_judge = options->judge_cost * (double)tally->judge_calls;
    tally->cost_compute = options->core_hour_cost * compute_us / 3.6e9;
    const double beside = tally->cost_audits + tally->cost_judge + tally->cost_compute;
    tally->cost_saved = tally->cost_all - tally->cost_upstream - beside;
    tally->cost_saved_right -= beside;
    tally->reduction = tally->cost_all > 0 ? tally->cost_saved / tally->cost_all : NAN;
}

/* ---- as bytes ------------------------------------------------------------------------------- */

/* The structs hold numbers only, apart from the two pointers, which are written as NULL. */
static void
append_bytes(rp_buffer *out, const void *bytes, size_t size)
{
    rp_buffer_append(out, (rp_str){ bytes, size });
}

void
rp_tally_encode(const rp_tally *tally, rp_buffer *out)
{
    rp_tally plain = *tally;
    plain.categories = NULL;
    plain.curve = NULL;
    append_bytes(out, &plain, sizeof plain);
    append_bytes(out, tally->categories, tally->category_count * sizeof *tally->categories);
    append_bytes(out, tally->curve, tally->curve_count * sizeof *tally->curve);
}

rp_status
rp_tally_decode(rp_str bytes, size_t category_count, rp_tally *out)
{
    rp_tally read;
    if (bytes.len < sizeof read)
        return RP_ERR_TRUNCATED;
    memcpy(&read, bytes.ptr, sizeof read);
    bytes.ptr += sizeof read;
    bytes.len -= sizeof read;
    const size_t categories_size = category_count * sizeof *read.categories;
    if (read.category_count != category_count || bytes.len < categories_size ||
        read.curve_count != (bytes.len - categories_size) / sizeof *read.curve ||
        (bytes.len - categories_size) % sizeof *read.curve)
        return RP_ERR_CORRUPT;
    read.categories = calloc(category_count + 1, sizeof *read.categories);
    read.curve = calloc(read.curve_count + 1, sizeof *read.curve);
    if (!read.categories || !read.curve) {
        free(read.categories);
        free(read.curve);
        return RP_ERR_NOMEM;
    }
    if (categories_size)
        memcpy(read.categories, bytes.ptr, categories_size);
    if (bytes.len > categories_size)
        memcpy(read.curve, bytes.ptr + categories_size, bytes.len - categories_size);
    *out = read;
    return RP_OK;
}
