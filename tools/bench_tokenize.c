/* bench_tokenize.c - `reprise bench tokenize`: how long a tokenizer takes for a text.
 *
 * Texts are read first; then each round encodes all of them, one after another, in one
 * thread. CPU time of the least round: whatever else runs can only add to it. */
#include "base/arena.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "text/tokenizer.h"
#include "tools/command.h"
#include "tools/input.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { IDS_MAX = 1 << 16, TEXTS_MAX = 1 << 22 };

typedef struct texts {
    rp_str *rows; /* owned array; the bytes are in the arena */
    size_t count, capacity, bytes;
    rp_arena arena;
} texts;

static bool
texts_add(texts *all, rp_str text)
{
    if (all->count == all->capacity) {
        const size_t capacity = all->capacity ? all->capacity * 2 : 1024;
        rp_str *grown = capacity > TEXTS_MAX ? NULL : realloc(all->rows, capacity * sizeof *grown);
        if (!grown)
            return false;
        all->rows = grown;
        all->capacity = capacity;
    }
    const rp_str copy = rp_arena_copy(&all->arena, text);
    all->rows[all->count++] = copy;
    all->bytes += copy.len;
    return copy.ptr != NULL;
}

static bool
texts_read(const char *path, texts *all, rp_error *error)
{
    rp_input *input = NULL;
    bool more = false;
    rp_str text;
    rp_status status = rp_input_open(path, RP_INPUT_AUTO, &input, error);
    while (status == RP_OK && (status = rp_input_next(input, &text, &more, error)) == RP_OK && more)
        if (!texts_add(all, text)) {
            status = rp_fail(error, RP_ERR_LIMIT, "%s: too many texts for this benchmark", path);
            break;
        }
    if (status == RP_OK && all->count == 0)
        status = rp_fail(error, RP_ERR_INVALID, "no texts");
    rp_input_close(input);
    return status == RP_OK;
}

/* Nanoseconds of the fastest round. */
static int64_t
measure(const rp_tokenizer *tokenizer, const texts *all, uint64_t rounds, size_t *tokens)
{
    static int32_t ids[IDS_MAX];
    int64_t least = INT64_MAX;
    for (uint64_t round = 0; round < rounds; round++) {
        const int64_t start = rp_thread_cpu_ns();
        *tokens = 0;
        for (size_t i = 0; i < all->count; i++)
            *tokens += rp_tokenizer_encode(tokenizer, all->rows[i], true, ids, IDS_MAX);
        least = RP_MIN(least, rp_thread_cpu_ns() - start);
    }
    return least;
}

static void
print_result(const texts *all, size_t tokens, int64_t ns, int64_t open_ns, bool json)
{
    const double per_text = (double)ns / (double)all->count;
    const double bytes = (double)all->bytes / (double)all->count;
    printf(json ? "{\"texts\":%zu,\"bytes_per_text\":%.1f,\"tokens_per_text\":%.1f,"
                  "\"ns_per_text\":%.0f,\"ns_per_token\":%.1f,\"mb_per_s\":%.0f,\"open_ms\":%.1f}\n"
                : "texts            %zu\nbytes a text     %.1f\ntokens a text    %.1f\n"
                  "ns a text        %.0f\nns a token       %.1f\nMB a second      %.0f\n"
                  "ms to open       %.1f\n",
           all->count, bytes, (double)tokens / (double)all->count, per_text,
           (double)ns / (double)tokens, bytes / per_text * 1e3, (double)open_ns / 1e6);
}

int
rp_command_bench_tokenize(int argc, char **argv)
{
    static const struct option options[] = {
        { "tokenizer", required_argument, NULL, 't' }, { "rounds", required_argument, NULL, 'r' },
        { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    const char *path = NULL;
    uint64_t rounds = 5;
    bool json = false, good = true;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 't': path = optarg; break;
        case 'r': good &= rp_str_to_u64(rp_str_of(optarg), &rounds) && rounds - 1 < 10000; break;
        case 'j': json = true; break;
        case 'h':
            puts("Usage: reprise bench tokenize --tokenizer FILE [--rounds N] [--json] [TEXTS]\n\n"
                 "TEXTS as `reprise tokenize` reads them; standard input without.");
            return RP_EXIT_DONE;
        default: good = false;
        }
    }
    if (!good || !path || optind + 1 < argc) {
        fputs("Try `reprise bench tokenize --help`.\n", stderr);
        return RP_EXIT_USAGE;
    }
    rp_error error = { { 0 } };
    rp_tokenizer *tokenizer = NULL;
    texts all = { 0 };
    rp_arena_init(&all.arena, 0);
    int exit_status = RP_EXIT_USAGE;
    const int64_t start = rp_thread_cpu_ns();
    if (rp_tokenizer_open(path, &tokenizer, &error) == RP_OK) {
        const int64_t open_ns = rp_thread_cpu_ns() - start;
        if (texts_read(optind < argc ? argv[optind] : NULL, &all, &error)) {
            size_t tokens = 0;
            const int64_t ns = measure(tokenizer, &all, rounds, &tokens);
            print_result(&all, tokens, ns, open_ns, json);
            exit_status = RP_EXIT_DONE;
        }
    }
    if (exit_status != RP_EXIT_DONE)
        fprintf(stderr, "reprise bench tokenize: %s\n", error.text);
    rp_tokenizer_close(tokenizer);
    rp_arena_fini(&all.arena);
    free(all.rows);
    return exit_status;
}
