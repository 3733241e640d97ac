/* main.c - `reprise COMMAND [options]`: finds the command and hands over. */
#include "tools/command.h"

#include <reprise/reprise.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct command_row {
    const char *name;
    rp_command *run;
    const char *summary;
} command_row;

/* The order is that of the help text. */
static const command_row commands[] = {
    { "serve", rp_command_serve, "the caching proxy" },
    { "bench", rp_command_bench, "measure: search, embed, policy, serve" },
    { "embed", rp_command_embed, "texts in, vectors out" },
    { "tokenize", rp_command_tokenize, "texts in, token ids out" },
    { "model", rp_command_model, "get and check encoders: pull, list, info, verify" },
    { "eval", rp_command_eval, "measure encoders and policies: pairs, stream, make-stream, attack, report" },
    { "mock-llm", rp_command_mock_llm, "a deterministic stand-in for an LLM service" },
    { "lookup", rp_command_client, "ask the cache without asking the service" },
    { "store", rp_command_client, "put an answer into the cache" },
    { "explain", rp_command_client, "tell why a request hits or misses" },
    { "feedback", rp_command_client, "say whether an answer was right" },
    { "invalidate", rp_command_client, "remove entries; a dry run unless confirmed" },
    { "flush", rp_command_client, "remove everything" },
    { "stats", rp_command_client, "figures of the cache" },
    { "export", rp_command_client, "entries as JSON lines" },
    { "import", rp_command_client, "take entries from JSON lines" },
    { "reembed", rp_command_client, "make a store's vectors again with another encoder" },
    { "demo", rp_command_demo, "watch real questions being answered" },
    { NULL, NULL, NULL },
};

static void
print_help(FILE *out)
{
    fputs("Usage: reprise COMMAND [options]\n\n"
          "A semantic cache for LLM prompts. Commands:\n\n",
          out);
    for (const command_row *row = commands; row->name; row++)
        fprintf(out, "  %-14s %s\n", row->name, row->summary);
    fputs("\n`reprise COMMAND --help` tells more about one of them.\n", out);
}

static int
print_version(void)
{
    printf("reprise %s\n", RP_VERSION);
    return RP_EXIT_DONE;
}

/* `reprise serve --version`, `reprise eval pairs --version`: behind the words that name the
 * command. Further on it may be the value of an option. */
static bool
asks_for_version(int argc, char **argv)
{
    int at = 2;
    if (argc > 3 && argv[2][0] != '-')
        at = 3;
    return argc > at && strcmp(argv[at], "--version") == 0;
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return RP_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return RP_EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0)
        return print_version();
    for (const command_row *row = commands; row->name; row++)
        if (strcmp(argv[1], row->name) == 0)
            return asks_for_version(argc, argv) ? print_version() : row->run(argc - 1, argv + 1);
    fprintf(stderr, "reprise: no command '%s'; `reprise --help` lists them\n", argv[1]);
    return RP_EXIT_USAGE;
}
