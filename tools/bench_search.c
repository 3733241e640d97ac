/* bench_search.c - `reprise bench search`: the index beside an exact scan of the same
 * vectors, in one run, on one thread.
 *
 * Queries are vectors that the index does not hold. Times are CPU times of this
 * thread, the least of several rounds over all queries; recall is against the exact
 * scan. The limit of a flat search is the time in which the sieve reads the first half of
 * all sign bits when nothing passes: what remains when all else costs nothing. */
#include "tools/bench_vectors.h"
#include "tools/command.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/npy.h"
#include "base/random.h"
#include "json/json.h"
#include "math/scan.h"

#include <getopt.h>
#include <malloc.h>
#include <math.h>
#include <reprise/index.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct bench_options {
    const char *vectors; /* .npy, or NULL: made ones */
    size_t counts[8];
    size_t count_count, query_count, dim, rounds, lists_from;
    bool json, without_originals, all_tiers, scopes;
} bench_options;

typedef struct bench_row {
    size_t count, queries;
    double search_us, search_k8_us, together_us, exact_us, limit_us, recall_1, recall_8, recall_near;
    size_t near_count; /* queries whose nearest has a similarity of .8 or more */
    double adds_per_second, removes_per_second, bytes_per_vector;
} bench_row;

/* Nanoseconds in which the sieve reads the first half of the signs of `count` vectors and
 * lets none pass, at best of several tries. */
static double
measure_sieve_ns(size_t count, size_t dim)
{
    const size_t words = (dim + 127) / 128, blocks = (count + RP_SCAN_GROUP - 1) / RP_SCAN_GROUP;
    const size_t size = blocks * words * RP_SCAN_GROUP * sizeof(uint64_t);
    uint64_t *bits = aligned_alloc(64, size), signs[RP_DIM_MAX / 64] = { 0 };
    if (!bits)
        return NAN;
    memset(bits, 0x55, size);
    const rp_sieve_query none = { signs, words, words, 0, 0 };
    double best = INFINITY;
    for (int round = 0; round < 9; round++) {
        const size_t repeats = RP_MAX((size_t)1, ((size_t)64 << 20) / size);
        const int64_t start = rp_thread_cpu_ns();
        for (size_t r = 0; r < repeats; r++) {
            rp_sieve_hit hits[RP_SCAN_GROUP];
            size_t done;
            rp_scan_best()->sieve(bits, bits, blocks, &none, 0, hits, RP_COUNT(hits), &done);
        }
        best = fmin(best, (double)(rp_thread_cpu_ns() - start) / (double)repeats);
    }
    free(bits);
    return best;
}

static void
search_exactly(const rp_scan_kernels *kernels, const float *vectors, size_t count, size_t dim,
               const float *query, size_t k, rp_neighbor *out)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const rp_neighbor n = { i + 1, kernels->dot(query, vectors + i * dim, dim) };
        if (found == k && n.similarity <= out[k - 1].similarity)
            continue;
        size_t at = found < k ? found++ : k - 1;
        for (; at > 0 && n.similarity > out[at - 1].similarity; at--)
            out[at] = out[at - 1];
        out[at] = n;
    }
}

static double
time_searches(rp_index *index, rp_scope scope, const float *queries, const bench_options *o,
              size_t k, rp_neighbor *out)
{
    double best = INFINITY;
    for (size_t round = 0; round < o->rounds; round++) {
        const int64_t start = rp_thread_cpu_ns();
        for (size_t q = 0; q < o->query_count; q++)
            rp_index_search(index, scope, queries + q * o->dim, k, out + q * 8);
        best = fmin(best, (double)(rp_thread_cpu_ns() - start) / 1e3 / (double)o->query_count);
    }
    return best;
}

/* The same searches in parties of eight; false: one found something else. */
static bool
time_together(rp_index *index, rp_scope scope, const float *queries, const bench_options *o,
              const rp_neighbor *alone, double *us)
{
    enum { PARTY = 8 };
    rp_neighbor found[PARTY];
    rp_index_query party[PARTY];
    *us = INFINITY;
    for (size_t round = 0; round < o->rounds; round++) {
        int64_t spent = 0;
        for (size_t q = 0; q < o->query_count; q += PARTY) {
            const size_t count = RP_MIN((size_t)PARTY, o->query_count - q);
            for (size_t i = 0; i < count; i++)
                party[i] = (rp_index_query){ .scope = scope, .vector = queries + (q + i) * o->dim,
                                             .k = 1, .out = &found[i] };
            const int64_t start = rp_thread_cpu_ns();
            rp_index_search_many(index, party, count);
            spent += rp_thread_cpu_ns() - start;
            for (size_t i = 0; i < count; i++)
                if (found[i].id != alone[(q + i) * 8].id)
                    return false;
        }
        *us = fmin(*us, (double)spent / 1e3 / (double)o->query_count);
    }
    return true;
}

/* The least CPU time of an exact scan, and how often the index found the same. A
 * neighbor that is as similar as the exact one counts: equal texts are equal. */
static void
compare_with_exact(const float *vectors, size_t count, const float *queries, const bench_options *o,
                   const rp_neighbor *nearest, const rp_neighbor *eight, bench_row *row)
{
    const rp_scan_kernels *kernels = rp_scan_best();
    size_t right_1 = 0, right_8 = 0, right_near = 0;
    row->exact_us = INFINITY;
    for (size_t q = 0; q < o->query_count; q++) {
        rp_neighbor exact[8];
        const int64_t start = rp_thread_cpu_ns();
        search_exactly(kernels, vectors, count, o->dim, queries + q * o->dim, 8, exact);
        row->exact_us = fmin(row->exact_us, (double)(rp_thread_cpu_ns() - start) / 1e3);
        const float *query = queries + q * o->dim;
        const bool right = kernels->dot(query, vectors + (nearest[q * 8].id - 1) * o->dim, o->dim) >=
                           exact[0].similarity - 1e-6f;
        const bool is_near = exact[0].similarity >= 0.8f; /* what a cache may answer with */
        right_1 += right;
        right_near += right && is_near;
        row->near_count += is_near;
        for (size_t i = 0; i < 8; i++)
            right_8 += kernels->dot(query, vectors + (eight[q * 8 + i].id - 1) * o->dim, o->dim) >=
                       exact[7].similarity - 1e-6f;
    }
    row->recall_1 = (double)right_1 / (double)o->query_count;
    row->recall_near = row->near_count ? (double)right_near / (double)row->near_count : (double)NAN;
    row->recall_8 = (double)right_8 / (double)(8 * o->query_count);
}

static bool
run_one(const float *vectors, size_t count, const float *queries, const bench_options *o, bench_row *row)
{
    const rp_index_options options = { .dim = o->dim, .count_max = count, .searchers_max = 8,
                                       .without_originals = o->without_originals,
                                       .lists_from = o->lists_from };
    const rp_scope scope = { { 1 } };
    rp_index *index;
    rp_neighbor *nearest = calloc(o->query_count * 8, sizeof *nearest);
    rp_neighbor *eight = calloc(o->query_count * 8, sizeof *eight);
    if (!nearest || !eight || rp_index_new(&options, &index) != RP_OK)
        return false;
    *row = (bench_row){ .count = count, .queries = o->query_count };
    const size_t empty = rp_index_size_bytes(index);
    int64_t start = rp_thread_cpu_ns();
    for (size_t i = 0; i < count; i++)
        if (rp_index_add(index, scope, i + 1, vectors + i * o->dim) != RP_OK)
            return false;
    row->adds_per_second = (double)count / ((double)(rp_thread_cpu_ns() - start) / 1e9);
    const double originals = o->without_originals ? 0 : (double)o->dim * sizeof(float);
    row->bytes_per_vector = (double)(rp_index_size_bytes(index) - empty) / (double)count - originals;
    row->search_us = time_searches(index, scope, queries, o, 1, nearest);
    row->search_k8_us = time_searches(index, scope, queries, o, 8, eight);
    if (!time_together(index, scope, queries, o, nearest, &row->together_us)) {
        fputs("reprise bench search: eight together found something else than one alone\n", stderr);
        return false;
    }
    row->limit_us = measure_sieve_ns(count, o->dim) / 1e3;
    compare_with_exact(vectors, count, queries, o, nearest, eight, row);
    start = rp_thread_cpu_ns();
    for (size_t i = 0; i < count / 2; i++)
        rp_index_remove(index, i * 2 + 1);
    row->removes_per_second = (double)(count / 2) / ((double)(rp_thread_cpu_ns() - start) / 1e9);
    rp_index_free(index);
    free(nearest);
    free(eight);
    return true;
}

/* Scopes as requests have them: hashes. */
static rp_scope
scope_of(size_t number)
{
    rp_scope scope;
    rp_sha256_of((rp_str){ (const char *)&number, sizeof number }, scope.bytes);
    return scope;
}

/* One vector a scope: what a scope costs beside it, and how long it takes to find one. */
static bool
run_scopes(const float *vectors, size_t count, const bench_options *o)
{
    const rp_index_options options = { .dim = o->dim, .count_max = count, .searchers_max = 1,
                                       .without_originals = o->without_originals };
    rp_index *index;
    rp_scope *scopes = malloc(count * sizeof *scopes);
    if (!scopes || rp_index_new(&options, &index) != RP_OK)
        return false;
    for (size_t i = 0; i < count; i++)
        scopes[i] = scope_of(i);
    const size_t empty = rp_index_size_bytes(index), heap = mallinfo2().uordblks + mallinfo2().hblkhd;
    int64_t start = rp_thread_cpu_ns();
    for (size_t i = 0; i < count; i++)
        if (rp_index_add(index, scopes[i], i + 1, vectors + i * o->dim) != RP_OK)
            return false;
    const double adds = (double)count / ((double)(rp_thread_cpu_ns() - start) / 1e9);
    /* A vector's own: codes, scale and id, and the original. */
    const double own = (double)((o->dim + 15) / 16 * 16 + sizeof(float) + sizeof(rp_entry_id)) +
                       (o->without_originals ? 0 : (double)o->dim * sizeof(float));
    const double bytes = (double)(rp_index_size_bytes(index) - empty) / (double)count - own;
    const double on_heap =
        (double)(mallinfo2().uordblks + mallinfo2().hblkhd - heap) / (double)count - own;
    double found_us = INFINITY, none_us = INFINITY;
    bool good = true;
    for (size_t round = 0; round < o->rounds; round++) {
        rp_random random;
        rp_random_init(&random, round);
        int64_t spent[2] = { 0, 0 };
        for (size_t q = 0; q < o->query_count; q++) {
            const size_t at = rp_random_below(&random, count);
            const rp_scope other = scope_of(count + at);
            rp_neighbor near;
            start = rp_thread_cpu_ns();
            good &= rp_index_search(index, scopes[at], vectors + at * o->dim, 1, &near) == 1 && near.id == at + 1;
            spent[0] += rp_thread_cpu_ns() - start;
            start = rp_thread_cpu_ns();
            good &= rp_index_search(index, other, vectors + at * o->dim, 1, &near) == 0;
            spent[1] += rp_thread_cpu_ns() - start;
        }
        found_us = fmin(found_us, (double)spent[0] / 1e3 / (double)o->query_count);
        none_us = fmin(none_us, (double)spent[1] / 1e3 / (double)o->query_count);
    }
    start = rp_thread_cpu_ns();
    for (size_t i = 0; i < count; i++)
        good &= rp_index_remove(index, i + 1);
    const double removes = (double)count / ((double)(rp_thread_cpu_ns() - start) / 1e9);
    if (o->json)
        printf("{\"scopes\":%zu,\"dim\":%zu,\"bytes_per_scope\":%.1f,\"heap_bytes_per_scope\":%.1f,"
               "\"adds_per_second\":%.0f,\"removes_per_second\":%.0f,\"found_us\":%.3f,\"none_us\":%.3f}\n",
               count, o->dim, bytes, on_heap, adds, removes, found_us, none_us);
    else
        printf("%zu scopes of one vector of %zu numbers: %.1f bytes a scope beside codes, scale, id and original "
               "(%.1f with the allocator's own),\n%.0f adds/s, %.0f removes/s, found in %.2f us, "
               "an unknown scope in %.2f us\n", count, o->dim, bytes, on_heap, adds, removes, found_us, none_us);
    if (!good)
        fputs("reprise bench search: a scope was not found, or one that is not there was\n", stderr);
    rp_index_free(index);
    free(scopes);
    return good;
}

static void
print_json(const bench_row *row, const bench_options *o)
{
    rp_buffer out;
    rp_json_writer w;
    rp_buffer_init(&out, 0);
    rp_json_writer_init(&w, &out);
    rp_json_open(&w, '{');
    const struct {
        const char *name;
        double value;
    } members[] = {
        { "count", (double)row->count },       { "queries", (double)row->queries },
        { "dim", (double)o->dim },             { "search_us", row->search_us },
        { "search_k8_us", row->search_k8_us }, { "together_us", row->together_us }, { "exact_us", row->exact_us },
        { "limit_us", row->limit_us },         { "recall_at_1", row->recall_1 },
        { "recall_at_1_near", row->recall_near }, { "near_queries", (double)row->near_count },
        { "recall_at_8", row->recall_8 },      { "adds_per_second", row->adds_per_second },
        { "removes_per_second", row->removes_per_second },
        { "bytes_per_vector", row->bytes_per_vector },
    };
    rp_json_key(&w, "kernels");
    rp_json_put_cstring(&w, rp_scan_best()->name);
    rp_json_key(&w, "vectors");
    rp_json_put_cstring(&w, o->vectors ? "file" : "made");
    for (size_t i = 0; i < RP_COUNT(members); i++) {
        rp_json_key(&w, members[i].name);
        rp_json_put_double(&w, members[i].value);
    }
    rp_json_close(&w, '}');
    printf("%.*s\n", RP_FMT(rp_buffer_str(&out)));
    rp_buffer_fini(&out);
}

static void
print_row(const bench_row *row)
{
    printf("%9zu %10.1f %10.1f %10.1f %9.1f %9.1f %10.4f %10.4f %10.4f %10.0f %10.0f %8.0f\n", row->count,
           row->search_us, row->search_k8_us, row->together_us, row->exact_us, row->limit_us, row->recall_1,
           row->recall_near, row->recall_8, row->adds_per_second, row->removes_per_second, row->bytes_per_vector);
    fflush(stdout);
}

static bool
parse_counts(const char *text, bench_options *o)
{
    rp_str rest = rp_str_of(text);
    for (o->count_count = 0; rest.len && o->count_count < RP_COUNT(o->counts); o->count_count++) {
        uint64_t count;
        if (!rp_str_to_u64(rp_str_split(&rest, ','), &count) || count < 8 || count > 50000000)
            return false;
        o->counts[o->count_count] = count;
    }
    return o->count_count > 0 && rest.len == 0;
}

static bool
parse_arguments(int argc, char **argv, bench_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "vectors", required_argument, NULL, 'v' }, { "count", required_argument, NULL, 'c' },
        { "queries", required_argument, NULL, 'q' }, { "rounds", required_argument, NULL, 'r' },
        { "without-originals", no_argument, NULL, 'o' }, { "json", no_argument, NULL, 'j' },
        { "lists-from", required_argument, NULL, 'l' }, { "all-tiers", no_argument, NULL, 't' },
        { "scopes", no_argument, NULL, 's' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    uint64_t number;
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool good = true;
        switch (option) {
        case 'v': o->vectors = optarg; break;
        case 'c': good = parse_counts(optarg, o); break;
        case 'q':
            good = rp_str_to_u64(rp_str_of(optarg), &number) && number > 0 && number <= 100000;
            o->query_count = number;
            break;
        case 'r':
            good = rp_str_to_u64(rp_str_of(optarg), &number) && number > 0 && number <= 1000;
            o->rounds = number;
            break;
        case 'o': o->without_originals = true; break;
        case 'l':
            good = rp_str_to_u64(rp_str_of(optarg), &number);
            o->lists_from = good && number == 0 ? SIZE_MAX : number;
            break;
        case 's': o->scopes = true; break;
        case 't': o->all_tiers = true; break;
        case 'j': o->json = true; break;
        case 'h':
            puts("Usage: reprise bench search [options]\n\n"
                 "  --vectors FILE.npy    unit vectors (reprise embed --format npy); else made ones\n"
                 "  --count N,...         vectors in the index (10000,100000); beyond those of the file\n"
                 "                        they are made of its own (turned to a cosine of .80 to .98)\n"
                 "  --queries N           further vectors that are looked for (1000)\n"
                 "  --rounds N            the least time of so many counts (5)\n"
                 "  --without-originals   keep 8-bit codes only\n"
                 "  --lists-from N        make inverted lists from N vectors on; 0: never\n"
                 "  --scopes              one vector a scope instead of one scope\n"
                 "  --all-tiers           with every set of kernels that this machine runs\n"
                 "  --json                one object a line");
            *exit_status = RP_EXIT_DONE;
            return false;
        default: fputs("Try `reprise bench search --help`.\n", stderr); return false;
        }
        if (!good) {
            fprintf(stderr, "reprise bench search: '%s' is no value for that option; see --help\n", optarg);
            return false;
        }
    }
    return true;
}

static int
run_counts(const float *vectors, size_t most, const bench_options *o)
{
    for (size_t i = 0; o->scopes && i < o->count_count; i++)
        if (!run_scopes(vectors, o->counts[i], o))
            return RP_EXIT_FAILED;
    if (o->scopes)
        return RP_EXIT_DONE;
    if (!o->json)
        printf("kernels %s, %s vectors of %zu numbers, %zu queries; CPU us a query on one thread\n"
               "%9s %10s %10s %10s %9s %9s %10s %10s %10s %10s %10s %8s\n", rp_scan_best()->name,
               o->vectors ? "given" : "made", o->dim, o->query_count, "vectors", "nearest",
               "nearest 8", "in eights", "exact", "limit", "recall@1", "near @1", "recall@8", "adds/s",
               "removes/s", "bytes");
    for (size_t i = 0; i < o->count_count; i++) {
        bench_row row;
        /* Queries are taken behind the vectors, so every size is asked the same. */
        if (!run_one(vectors, o->counts[i], vectors + most * o->dim, o, &row))
            return RP_EXIT_FAILED;
        if (o->json)
            print_json(&row, o);
        else
            print_row(&row);
    }
    return RP_EXIT_DONE;
}

static int
run_tiers(const float *vectors, size_t most, const bench_options *o)
{
    const rp_scan_kernels *kernels;
    int status = RP_EXIT_DONE;
    if (!o->all_tiers)
        return run_counts(vectors, most, o);
    for (size_t at = 0; (kernels = rp_scan_at(at)) && status == RP_EXIT_DONE; at++)
        status = setenv("REPRISE_TIER", kernels->name, 1) == 0 ? run_counts(vectors, most, o)
                                                                : RP_EXIT_FAILED;
    return status;
}

/* `most` vectors, then the last `query_count` of the file, which nothing is made of. */
static float *
fill_up(const rp_npy *file, size_t most, size_t query_count)
{
    const size_t dim = file->columns, real_count = file->rows - query_count;
    float *out = malloc((most + query_count) * dim * sizeof *out);
    for (size_t i = 0; out && i < most; i++)
        rp_bench_vector(file, real_count, i, out + i * dim);
    if (out)
        memcpy(out + most * dim, file->values + real_count * dim, query_count * dim * sizeof *out);
    if (out)
        fprintf(stderr, "%zu vectors of the file, %zu made of them\n", real_count, most - real_count);
    return out;
}

int
rp_command_bench_search(int argc, char **argv)
{
    bench_options o = { .counts = { 10000, 100000 }, .count_count = 2, .query_count = 1000,
                        .dim = 384, .rounds = 5 };
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    size_t most = 0;
    for (size_t i = 0; i < o.count_count; i++)
        most = RP_MAX(most, o.counts[i]);
    rp_npy npy = { 0 };
    rp_error error = { { 0 } };
    float *made = NULL;
    if (o.vectors && rp_npy_open(o.vectors, &npy, &error) != RP_OK) {
        fprintf(stderr, "reprise bench search: %s\n", error.text);
        return RP_EXIT_USAGE;
    }
    const size_t all = most + o.query_count;
    if (o.vectors && npy.rows <= o.query_count) {
        fprintf(stderr, "reprise bench search: %s has %zu vectors, no more than there are queries\n",
                o.vectors, npy.rows);
        rp_npy_close(&npy);
        return RP_EXIT_USAGE;
    }
    if (o.vectors)
        o.dim = npy.columns;
    if (o.vectors && npy.rows < all)
        made = fill_up(&npy, most, o.query_count);
    else if (!o.vectors)
        made = rp_bench_vectors_make(all, o.dim);
    const float *vectors = o.vectors && npy.rows >= all ? npy.values : made;
    exit_status = vectors ? run_tiers(vectors, most, &o) : RP_EXIT_FAILED;
    free(made);
    rp_npy_close(&npy);
    return exit_status;
}
