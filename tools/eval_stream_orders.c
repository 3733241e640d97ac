/* eval_stream_orders.c - several orders of one policy, and whether it kept its bound.
 *
 * A bound is promised for the mean over orders of the share of all requests that get a
 * wrong answer. One order may pass it by chance; it may not pass it by more than chance:
 * its lower limit (Clopper and Pearson, one-sided, 99.9 %) must not lie above the bound.
 * All orders of a stream have equally many requests, so that the worst order has the
 * highest lower limit. */
#include "tools/eval_stream.h"

#include "base/bytes.h"

#include <math.h>
#include <stdio.h>

static double
share_of(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

void
rp_stream_summary_add(rp_stream_summary *summary, const rp_stream_run *run,
                      const rp_counts *counts, const rp_frontiers *frontiers)
{
    const double frontier = rp_stream_frontier_of(frontiers, run);
    const double error = share_of(counts->wrong_hits, counts->requests);
    summary->frontier += frontier;
    summary->kept += rp_stream_kept_of(counts, frontier);
    summary->orders++;
    summary->hits += share_of(counts->hits, counts->requests);
    summary->error += error;
    summary->hit_error += share_of(counts->wrong_hits, counts->hits);
    if (error >= summary->error_worst) {
        summary->error_worst = error;
        summary->worst = *counts;
    }
}

typedef struct findings {
    double error, worst_low; /* mean; lower limit of the worst order */
    bool mean_holds, orders_hold;
} findings;

static findings
find(const rp_stream_run *run, const rp_stream_summary *summary)
{
    const rp_interval worst =
        rp_clopper_pearson(summary->worst.wrong_hits, summary->worst.requests, 0.998);
    const double error = summary->error / (double)summary->orders;
    /* A mean of equal errors may differ from them in the last digit. */
    return (findings){ error, worst.low, error <= run->error_max + 1e-12,
                       worst.low <= run->error_max };
}

void
rp_stream_summary_print(const rp_stream_options *o, const rp_stream_run *run,
                        const rp_stream_summary *summary)
{
    char name[RP_STREAM_SPEC_SIZE + 80];
    const double n = (double)summary->orders;
    const findings found = find(run, summary);
    rp_stream_name_run(run, name, sizeof name);
    printf("%-36s mean of %llu orders: hits %.2f %%, error %.3f %%, wrong of hits %.2f %%; worst "
           "order: error %.3f %% (99.9 %% lower limit %.3f %%)", name,
           (unsigned long long)summary->orders, 100 * summary->hits / n, 100 * found.error,
           100 * summary->hit_error / n, 100 * summary->error_worst, 100 * found.worst_low);
    if (o->sum_orders && !isnan(run->error_max))
        fputs(!found.mean_holds    ? ": FAIL, the mean is above the bound"
              : !found.orders_hold ? ": FAIL, an order is above the bound"
                                   : ": pass", stdout);
    putchar('\n');
    if (!isnan(summary->frontier))
        printf("    in hindsight, cut on the risk: hits %.2f %%; kept %.0f %%\n",
               100 * summary->frontier / n, 100 * summary->kept / n);
    fflush(stdout);
}

static void
put_double(rp_json_writer *writer, const char *name, double value)
{
    rp_json_key(writer, name);
    rp_json_put_double(writer, value);
}

static void
put_verdict(rp_json_writer *writer, const char *name, bool known, bool value)
{
    rp_json_key(writer, name);
    if (known)
        rp_json_put_bool(writer, value);
    else
        rp_json_put_null(writer);
}

void
rp_stream_summary_print_json(const rp_stream_options *o, const rp_stream_run *run,
                             const rp_stream_summary *summary)
{
    const double n = (double)summary->orders;
    const findings found = find(run, summary);
    const bool bounded = !isnan(run->error_max);
    rp_stream_run first = *run;
    rp_buffer line;
    rp_json_writer writer;
    first.seed = o->seed;
    rp_buffer_init(&line, 0);
    rp_json_writer_init(&writer, &line);
    rp_json_open(&writer, '{');
    rp_stream_put_head(&writer, o, &first, RP_STR("*"));
    rp_json_key(&writer, "orders");
    rp_json_put_uint(&writer, summary->orders);
    rp_json_key(&writer, "requests");
    rp_json_put_uint(&writer, summary->worst.requests);
    put_double(&writer, "hit_rate_mean", summary->hits / n);
    put_double(&writer, "error_mean", found.error);
    put_double(&writer, "hit_error_mean", summary->hit_error / n);
    put_double(&writer, "error_worst", summary->error_worst);
    put_double(&writer, "error_worst_low_999", found.worst_low);
    put_double(&writer, "frontier_hit_rate_mean", summary->frontier / n);
    put_double(&writer, "kept_mean", summary->kept / n);
    put_verdict(&writer, "mean_holds", bounded, found.mean_holds);
    put_verdict(&writer, "orders_hold", bounded, found.orders_hold);
    rp_json_close(&writer, '}');
    rp_buffer_append_char(&line, '\n');
    fwrite(line.ptr, 1, line.len, stdout);
    rp_buffer_fini(&line);
    fflush(stdout);
}
