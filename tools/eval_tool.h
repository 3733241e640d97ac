/* eval_tool.h - what the commands `reprise eval ...` share.
 *
 * Threads: the main thread. */
#ifndef RP_TOOLS_EVAL_TOOL_H
#define RP_TOOLS_EVAL_TOOL_H

#include "eval/vectors.h"
#include <getopt.h>
#include <reprise/embed.h>

typedef struct rp_eval_cache {
    const char *folder; /* --cache; NULL: the user's own */
    bool off;           /* --no-cache */
} rp_eval_cache;

/* The command line of one evaluation. */
typedef struct rp_eval_parser {
    const char *command;          /* "eval stream" */
    const struct option *options; /* for getopt_long; a zero row ends them */
    int help;                     /* the code of --help */
    void (*print_help)(void);
    /* optarg is the value; false: it is none that this option takes. */
    bool (*take)(int option, void *context);
    void *context;
} rp_eval_parser;
/* Read all options; what is no option begins at optind. False: the exit status is in
 * *exit_status, and what was wrong has been said. */
bool rp_eval_parse(const rp_eval_parser *parser, int argc, char **argv, int *exit_status);

/* 2 for what the input or the command line did wrong, 1 for the rest. */
int rp_eval_exit_status(rp_status status);
bool rp_eval_precision_of(const char *name, rp_precision *out);
RP_NODISCARD rp_status rp_eval_open_encoder(const char *model, rp_precision precision,
                                            rp_encoder **out, rp_error *error);
/* rp_vectors_make with the cache folder found and progress shown on a terminal. */
RP_NODISCARD rp_status rp_eval_vectors(const rp_encoder *encoder, const rp_str *texts,
                                       size_t count, const rp_eval_cache *cache, rp_vectors *out,
                                       rp_error *error);
/* The same, texts in windows as the server embeds them. */
RP_NODISCARD rp_status rp_eval_windows(const rp_encoder *encoder, const rp_str *texts,
                                       size_t count, const rp_eval_cache *cache, rp_vectors *out,
                                       rp_error *error);

#endif
