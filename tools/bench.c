/* bench.c - `reprise bench WHAT`: finds the benchmark and hands over. Benchmarks
 * print numbers that the documents quote with their command; none ever fails for
 * being slow. */
#include "tools/command.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    rp_command *run;
    const char *summary;
} benches[] = {
    { "embed", rp_command_bench_embed, "the encoder: every tier, precision class, batch, length" },
    { "policy", rp_command_bench_policy, "what gates, decisions and learning cost" },
    { "search", rp_command_bench_search, "the vector index against exact search" },
    { "serve", rp_command_bench_serve, "the whole server over loopback, beside nginx" },
    { "start", rp_command_bench_start, "a start with many entries: when what is ready" },
    { "tokenize", rp_command_bench_tokenize, "a tokenizer on texts of yours" },
};

static void
print_help(FILE *out)
{
    fputs("Usage: reprise bench WHAT [options]\n\n", out);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++)
        fprintf(out, "  %-9s %s\n", benches[i].name, benches[i].summary);
    fputs("\nEach takes --json and --help.\n", out);
}

int
rp_command_bench(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        print_help(stdout);
        return RP_EXIT_DONE;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof benches / sizeof benches[0]; i++)
        if (strcmp(argv[1], benches[i].name) == 0)
            return benches[i].run(argc - 1, argv + 1);
    print_help(stderr);
    return RP_EXIT_USAGE;
}
