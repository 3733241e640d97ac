/* eval_tool.h - what the commands `reprise eval ...` share.
 *
 * Threads: the main thread. */
#ifndef RP_TOOLS_EVAL_TOOL_H
#define RP_TOOLS_EVAL_TOOL_H

#include "eval/vectors.h"
#include <reprise/embed.h>

typedef struct rp_eval_cache {
    const char *folder; /* --cache; NULL: the user's own */
    bool off;           /* --no-cache */
} rp_eval_cache;

/* 2 for what the input or the command line did wrong, 1 for the rest. */
int rp_eval_exit_status(rp_status status);
bool rp_eval_precision_of(const char *name, rp_precision *out);
RP_NODISCARD rp_status rp_eval_open_encoder(const char *model, rp_precision precision,
                                            rp_encoder **out, rp_error *error);
/* rp_vectors_make with the cache folder found and progress shown on a terminal. */
RP_NODISCARD rp_status rp_eval_vectors(const rp_encoder *encoder, const rp_str *texts,
                                       size_t count, const rp_eval_cache *cache, rp_vectors *out,
                                       rp_error *error);

#endif
