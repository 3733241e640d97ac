/* bench_embed.c - `reprise bench embed`: what a vector costs, by tier, class, batch and length.
 *
 * Texts are made of one-token words, so that each has exactly the wanted number of tokens;
 * tokenizing is part of what is measured, as it is of every request. One thread, CPU time
 * of the least of several rounds, tiers and classes in turn within each round: whatever
 * else runs can only add to it.
 *
 * Beside it stands what the machine could do, measured in the same rounds: how fast a tier's
 * innermost instructions run on registers alone, and how fast one thread reads as many bytes
 * as the weights of a class have. */
#include "base/bytes.h"
#include "base/clock.h"
#include "embed/registry.h"
#include "math/kernels.h"
#include "tools/bench_embed.h"
#include "tools/command.h"

#include <getopt.h>
#include <reprise/embed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PATH_SIZE = 4096, TEXTS_MAX = 32, TOKENS_MAX = 128, WAYS_MAX = 24 };

static const rp_bench_cell grid[] = { { 1, 8 }, { 1, 16 }, { 1, 32 }, { 1, 128 }, { 32, 16 }, { 32, 128 } };
enum { CELLS = RP_COUNT(grid) };
_Static_assert((size_t)CELLS <= (size_t)RP_BENCH_CELLS_MAX, "room for all cells");
/* Some milliseconds of arithmetic on the slowest machine that we know; as often are weights
 * read, the first time to bring them into the caches that they fit. */
enum { PEAK_TIMES = 200000, READ_TIMES = 4 };

static const struct {
    const char *name;
    rp_class class;
    rp_precision precision;
} classes[] = { { "f32", RP_CLASS_F32, RP_PRECISION_F32 },
                { "bf16", RP_CLASS_BF16, RP_PRECISION_BF16 },
                { "int8", RP_CLASS_INT8, RP_PRECISION_INT8 } };

/* A tier and a class. */
typedef struct bench_way {
    const char *tier, *class;
    bool chosen; /* what an encoder of this class uses by default */
    rp_encoder *encoder; /* owned */
    const rp_kernels *kernels;
    rp_class number;
    int64_t least_ns[CELLS];
    double peak, read; /* operations and bytes a nanosecond; 0: unknown */
} bench_way;

/* As many bytes as the largest weights have. */
typedef struct bench_memory {
    float *bytes; /* a mapping */
    size_t size;
} bench_memory;

/* "cat" is one token of every English vocabulary that we have seen; two more are special. */
static rp_status
measure_cell(bench_way *way, size_t cell, float *vectors, rp_error *error)
{
    char text[4 * TOKENS_MAX];
    rp_str texts[TEXTS_MAX];
    size_t len = 0;
    for (size_t i = 0; i + 2 < grid[cell].tokens; i++, len += 4)
        memcpy(text + len, "cat ", 4);
    for (size_t i = 0; i < grid[cell].texts; i++)
        texts[i] = (rp_str){ text, len };
    if (rp_encoder_tokenize(way->encoder, texts[0], NULL, 0) != grid[cell].tokens)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "'cat' is not one token for this model");
    const int64_t start = rp_thread_cpu_ns();
    const rp_status status =
        rp_encoder_embed(way->encoder, texts, grid[cell].texts, vectors, NULL, error);
    way->least_ns[cell] = RP_MIN(way->least_ns[cell], rp_thread_cpu_ns() - start);
    return status;
}

static void
measure_machine(bench_way *way, const bench_memory *memory)
{
    const rp_product *product = &way->kernels->product[way->number];
    int64_t start = rp_thread_cpu_ns();
    if (product->peak) {
        const double operations = (double)product->peak(PEAK_TIMES);
        way->peak = RP_MAX(way->peak, operations / (double)(rp_thread_cpu_ns() - start));
    }
    const size_t count = rp_encoder_count_work(way->encoder, 1, 1).weight_bytes / sizeof(float);
    for (size_t i = 0; i < READ_TIMES; i++) {
        start = rp_thread_cpu_ns();
        volatile float seen = way->kernels->read(memory->bytes, count);
        (void)seen;
        const double bytes = (double)(count * sizeof(float));
        way->read = RP_MAX(way->read, bytes / (double)(rp_thread_cpu_ns() - start));
    }
}

/* Huge pages, as weights have. Every page is written to: those that never were are one. */
static rp_status
map_memory(const bench_way *ways, size_t count, bench_memory *out, rp_error *error)
{
    for (size_t i = 0; i < count; i++)
        out->size = RP_MAX(out->size, rp_encoder_count_work(ways[i].encoder, 1, 1).weight_bytes);
    void *mapping = mmap(NULL, out->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED)
        return rp_fail(error, RP_ERR_NOMEM, "no memory of %zu bytes to read", out->size);
    (void)madvise(mapping, out->size, MADV_HUGEPAGE);
    memset(mapping, 1, out->size);
    out->bytes = mapping;
    return RP_OK;
}

/* Every tier that computes a class in its own way; the plain one only if asked for. */
typedef struct bench_choice {
    bool plain, chosen;
    const char *class; /* NULL: all */
} bench_choice;

static bool
is_wanted(size_t at, rp_class class, bool chosen)
{
    const rp_kernels *tier = rp_kernels_at(at);
    if (chosen)
        return rp_kernels_best(class) == tier;
    return !at || tier->product[class].matmul != rp_kernels_at(at - 1)->product[class].matmul;
}

static rp_status
open_ways(const char *path, const bench_choice *choice, bench_way *ways, size_t *count,
          rp_error *error)
{
    const size_t first = choice->plain || choice->chosen ? 0 : 1;
    for (size_t c = 0; c < RP_COUNT(classes); c++)
        for (size_t at = first; rp_kernels_at(at) && *count < WAYS_MAX; at++) {
            const rp_kernels *tier = rp_kernels_at(at);
            if (!is_wanted(at, classes[c].class, choice->chosen) ||
                (choice->class && strcmp(choice->class, classes[c].name) != 0))
                continue;
            bench_way *way = &ways[*count];
            const rp_encoder_options options = { .precision = classes[c].precision,
                                                 .tier = tier->name };
            const rp_status status = rp_encoder_open(path, &options, &way->encoder, error);
            if (status)
                return status;
            way->tier = tier->name;
            way->kernels = tier;
            way->class = classes[c].name;
            way->number = classes[c].class;
            way->chosen = rp_kernels_best(classes[c].class) == tier;
            for (size_t cell = 0; cell < CELLS; cell++)
                way->least_ns[cell] = INT64_MAX;
            ++*count;
        }
    return RP_OK;
}

/* Small cells are over soon and may be tried more often. */
static rp_status
measure_all(bench_way *ways, size_t count, uint64_t rounds, float *vectors, rp_error *error)
{
    bench_memory memory = { 0 };
    rp_status status = map_memory(ways, count, &memory, error);
    for (uint64_t round = 0; !status && round < rounds; round++) {
        for (size_t i = 0; i < count; i++)
            measure_machine(&ways[i], &memory);
        for (size_t cell = 0; cell < CELLS; cell++) {
            const size_t tokens = grid[cell].texts * grid[cell].tokens;
            for (size_t i = 0; i < count; i++)
                for (size_t n = 0; !status && n < (tokens < 100 ? 8 : 1); n++)
                    status = measure_cell(&ways[i], cell, vectors, error);
        }
    }
    if (memory.bytes)
        munmap(memory.bytes, memory.size);
    return status;
}

/* Operations and bytes a nanosecond, and which share of what the machine can do that is. */
typedef struct bench_rate {
    double operations, bytes, of_peak, of_read;
} bench_rate;

static bench_rate
rate_cell(const bench_way *way, size_t cell)
{
    const rp_encoder_work work =
        rp_encoder_count_work(way->encoder, grid[cell].texts, grid[cell].tokens);
    const double ns = (double)way->least_ns[cell];
    bench_rate rate = { .operations = (double)work.operations / ns,
                        .bytes = (double)work.weight_bytes / ns };
    rate.of_peak = way->peak > 0 ? rate.operations / way->peak : 0;
    rate.of_read = way->read > 0 ? rate.bytes / way->read : 0;
    return rate;
}

static void
print_json(const bench_way *way)
{
    for (size_t cell = 0; cell < CELLS; cell++) {
        const double ms = (double)way->least_ns[cell] / 1e6;
        const bench_rate rate = rate_cell(way, cell);
        printf("{\"class\":\"%s\",\"tier\":\"%s\",\"chosen\":%s,\"batch\":%zu,\"tokens\":%zu,"
               "\"ms\":%.4f,\"texts_per_second\":%.0f,\"gops\":%.1f,\"peak_gops\":%.1f,"
               "\"of_peak\":%.3f,\"weights_gbs\":%.2f,\"read_gbs\":%.2f,\"of_read\":%.3f}\n",
               way->class, way->tier, way->chosen ? "true" : "false", grid[cell].texts,
               grid[cell].tokens, ms, (double)grid[cell].texts / ms * 1e3, rate.operations,
               way->peak, rate.of_peak, rate.bytes, way->read, rate.of_read);
    }
}

static void
print_heading(const char *title, const char *measured)
{
    printf("%s\n%-6s %-12s", title, "class", "tier");
    for (size_t cell = 0; cell < CELLS; cell++)
        printf("   %3zux%-4zu", grid[cell].texts, grid[cell].tokens);
    printf("%s\n", measured);
}

static void
print_name(const bench_way *way)
{
    printf("%-6s %-10s %c ", way->class, way->tier, way->chosen ? '*' : ' ');
}

static void
print_ways(const bench_way *ways, size_t count)
{
    print_heading("CPU ms, one thread; * is what this machine chooses", "");
    for (size_t i = 0; i < count; i++) {
        print_name(&ways[i]);
        for (size_t cell = 0; cell < CELLS; cell++)
            printf("%11.3f", (double)ways[i].least_ns[cell] / 1e6);
        puts("");
    }
    print_heading("\n% of what the tier's innermost instructions do on registers alone",
                  "     100 % are");
    for (size_t i = 0; i < count; i++) {
        print_name(&ways[i]);
        for (size_t cell = 0; cell < CELLS; cell++)
            printf("%11.0f", rate_cell(&ways[i], cell).of_peak * 100);
        printf("%9.0f G/s\n", ways[i].peak);
    }
    print_heading("\n% of the rate at which one thread reads as many bytes as the weights have",
                  "     100 % are");
    for (size_t i = 0; i < count; i++) {
        print_name(&ways[i]);
        for (size_t cell = 0; cell < CELLS; cell++)
            printf("%11.0f", rate_cell(&ways[i], cell).of_read * 100);
        printf("%8.1f GB/s\n", ways[i].read);
    }
}

static void
print_help(void)
{
    puts("Usage: reprise bench embed [options]\n\n"
         "Milliseconds for a batch of texts, for each tier and precision class of this machine, and\n"
         "the shares of what it can compute and read, measured in the same run.\n\n"
         "  --model NAME|DIR   the encoder (all-MiniLM-L6-v2)\n"
         "  --rounds N         the least of so many is printed (5)\n"
         "  --plain            the plain C kernels too (slow)\n"
         "  --chosen           only the tier that this machine chooses for a class\n"
         "  --class CLASS      f32, bf16 or int8 only\n"
         "  --parts            where the time goes instead: products, attention, norms\n"
         "  --json             one object a line\n"
         "  --help");
}

int
rp_command_bench_embed(int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' }, { "rounds", required_argument, NULL, 'r' },
        { "plain", no_argument, NULL, 'p' },       { "json", no_argument, NULL, 'j' },
        { "chosen", no_argument, NULL, 'c' },      { "parts", no_argument, NULL, 'P' },
        { "class", required_argument, NULL, 'k' }, { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *model = "all-MiniLM-L6-v2";
    uint64_t rounds = 5;
    bench_choice choice = { 0 };
    bool json = false, parts = false, good = true;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm': model = optarg; break;
        case 'r': good &= rp_str_to_u64(rp_str_of(optarg), &rounds) && rounds - 1 < 10000; break;
        case 'p': choice.plain = true; break;
        case 'j': json = true; break;
        case 'c': choice.chosen = true; break;
        case 'k': choice.class = optarg; break;
        case 'P': parts = true; break;
        case 'h': print_help(); return RP_EXIT_DONE;
        default: good = false;
        }
    }
    if (!good || optind != argc) {
        fputs("Try `reprise bench embed --help`.\n", stderr);
        return RP_EXIT_USAGE;
    }
    char path[PATH_SIZE];
    rp_error error = { { 0 } };
    static bench_way ways[WAYS_MAX];
    size_t count = 0;
    rp_status status = rp_model_resolve(model, path, sizeof path, &error);
    if (!status && parts)
        status = rp_bench_parts(path, choice.class, grid, CELLS, rounds, &error);
    else if (!status)
        status = open_ways(path, &choice, ways, &count, &error);
    float *vectors = count ? calloc(TEXTS_MAX * rp_encoder_dim(ways[0].encoder), sizeof *vectors)
                           : NULL;
    if (!status && !parts && !count)
        status = rp_fail(&error, RP_ERR_INVALID, "there is no class %s", choice.class);
    if (!status && !parts && !vectors)
        status = rp_fail(&error, RP_ERR_NOMEM, "no memory for vectors");
    if (!status && !parts)
        status = measure_all(ways, count, rounds, vectors, &error);
    for (size_t i = 0; !status && json && i < count; i++)
        print_json(&ways[i]);
    if (!status && !json && !parts)
        print_ways(ways, count);
    if (status)
        fprintf(stderr, "reprise bench embed: %s\n", error.text);
    for (size_t i = 0; i < WAYS_MAX; i++)
        rp_encoder_close(ways[i].encoder);
    free(vectors);
    return status ? RP_EXIT_USAGE : RP_EXIT_DONE;
}
