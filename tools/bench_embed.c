/* bench_embed.c - `reprise bench embed`: what a vector costs, by tier, class, batch and length.
 *
 * Texts are made of one-token words, so that each has exactly the wanted number of tokens;
 * tokenizing is part of what is measured, as it is of every request. One thread, CPU time
 * of the least of several rounds, tiers and classes in turn within each round: whatever
 * else runs can only add to it. */
#include "base/bytes.h"
#include "base/clock.h"
#include "embed/registry.h"
#include "math/kernels.h"
#include "tools/command.h"

#include <getopt.h>
#include <reprise/embed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096, TEXTS_MAX = 32, TOKENS_MAX = 128, WAYS_MAX = 24 };

static const struct {
    size_t texts, tokens;
} grid[] = { { 1, 8 }, { 1, 16 }, { 1, 32 }, { 1, 128 }, { 32, 16 }, { 32, 128 } };
enum { CELLS = RP_COUNT(grid) };

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
    int64_t least_ns[CELLS];
} bench_way;

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

/* Every tier that computes a class in its own way; the plain one only if asked for. */
static rp_status
open_ways(const char *path, bool plain, bench_way *ways, size_t *count, rp_error *error)
{
    for (size_t c = 0; c < RP_COUNT(classes); c++)
        for (size_t at = plain ? 0 : 1; rp_kernels_at(at) && *count < WAYS_MAX; at++) {
            const rp_kernels *tier = rp_kernels_at(at);
            if (at && tier->product[classes[c].class].matmul ==
                          rp_kernels_at(at - 1)->product[classes[c].class].matmul)
                continue;
            bench_way *way = &ways[*count];
            const rp_encoder_options options = { .precision = classes[c].precision,
                                                 .tier = tier->name };
            const rp_status status = rp_encoder_open(path, &options, &way->encoder, error);
            if (status)
                return status;
            way->tier = tier->name;
            way->class = classes[c].name;
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
    rp_status status = RP_OK;
    for (uint64_t round = 0; round < rounds; round++)
        for (size_t cell = 0; cell < CELLS; cell++) {
            const size_t tokens = grid[cell].texts * grid[cell].tokens;
            for (size_t i = 0; i < count; i++)
                for (size_t n = 0; !status && n < (tokens < 100 ? 8 : 1); n++)
                    status = measure_cell(&ways[i], cell, vectors, error);
        }
    return status;
}

static void
print_ways(const bench_way *ways, size_t count, bool json)
{
    if (!json) {
        printf("CPU ms, one thread; * is what this machine chooses\n%-6s %-12s", "class", "tier");
        for (size_t cell = 0; cell < CELLS; cell++)
            printf("   %3zux%-4zu", grid[cell].texts, grid[cell].tokens);
        puts("");
    }
    for (size_t i = 0; i < count; i++) {
        if (!json)
            printf("%-6s %-10s %c ", ways[i].class, ways[i].tier, ways[i].chosen ? '*' : ' ');
        for (size_t cell = 0; cell < CELLS; cell++) {
            const double ms = (double)ways[i].least_ns[cell] / 1e6;
            if (json)
                printf("{\"class\":\"%s\",\"tier\":\"%s\",\"chosen\":%s,\"batch\":%zu,"
                       "\"tokens\":%zu,\"ms\":%.4f,\"texts_per_second\":%.0f}\n",
                       ways[i].class, ways[i].tier, ways[i].chosen ? "true" : "false",
                       grid[cell].texts, grid[cell].tokens, ms,
                       (double)grid[cell].texts / ms * 1e3);
            else
                printf("%11.3f", ms);
        }
        if (!json)
            puts("");
    }
}

static void
print_help(void)
{
    puts("Usage: reprise bench embed [options]\n\n"
         "Milliseconds for a batch of texts, for each tier and precision class of this machine.\n\n"
         "  --model NAME|DIR   the encoder (all-MiniLM-L6-v2)\n"
         "  --rounds N         the least of so many is printed (5)\n"
         "  --plain            the plain C kernels too (slow)\n"
         "  --json             one object a line\n"
         "  --help");
}

int
rp_command_bench_embed(int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' }, { "rounds", required_argument, NULL, 'r' },
        { "plain", no_argument, NULL, 'p' },       { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },        { 0 },
    };
    const char *model = "all-MiniLM-L6-v2";
    uint64_t rounds = 5;
    bool json = false, plain = false, good = true;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm': model = optarg; break;
        case 'r': good &= rp_str_to_u64(rp_str_of(optarg), &rounds) && rounds - 1 < 10000; break;
        case 'p': plain = true; break;
        case 'j': json = true; break;
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
    if (!status)
        status = open_ways(path, plain, ways, &count, &error);
    float *vectors = count ? calloc(TEXTS_MAX * rp_encoder_dim(ways[0].encoder), sizeof *vectors)
                           : NULL;
    if (!status && !vectors)
        status = rp_fail(&error, RP_ERR_NOMEM, "no memory for vectors");
    if (!status)
        status = measure_all(ways, count, rounds, vectors, &error);
    if (!status)
        print_ways(ways, count, json);
    else
        fprintf(stderr, "reprise bench embed: %s\n", error.text);
    for (size_t i = 0; i < WAYS_MAX; i++)
        rp_encoder_close(ways[i].encoder);
    free(vectors);
    return status ? RP_EXIT_USAGE : RP_EXIT_DONE;
}
