/* bench_embed.h - what the files of `reprise bench embed` share. */
#ifndef RP_TOOLS_BENCH_EMBED_H
#define RP_TOOLS_BENCH_EMBED_H

#include <reprise/status.h>
#include <stddef.h>
#include <stdint.h>

enum { RP_BENCH_CELLS_MAX = 8 };

/* A batch: so many texts of so many tokens. */
typedef struct rp_bench_cell {
    size_t texts, tokens;
} rp_bench_cell;

/* Print where the time of a forward pass goes, for each class (or the one named) and cell, on
 * the tier that this machine chooses. `folder` is the model's. */
RP_NODISCARD rp_status rp_bench_parts(const char *folder, const char *class,
                                      const rp_bench_cell *cells, size_t count, uint64_t rounds,
                                      rp_error *error);

#endif
