/* simulate_internal.h - what simulate.c and sweep.c share. */
#ifndef RP_EVAL_SIMULATE_INTERNAL_H
#define RP_EVAL_SIMULATE_INTERNAL_H

#include "eval/simulate.h"

#include <reprise/index.h>

enum { RP_SIMULATION_NEIGHBORS = 8 }; /* as in lib/cache/lookup.c */

static inline size_t
rp_simulation_row(const rp_simulation *s, uint32_t line)
{
    return s->by_text ? s->stream->rows[line].text : line;
}

static inline const float *
rp_simulation_vector(const rp_simulation *s, uint32_t line)
{
    return rp_vector(s->vectors, rp_simulation_row(s, line));
}

static inline rp_str
rp_simulation_text(const rp_stream *stream, uint32_t line)
{
    return stream->texts.texts[stream->rows[line].text];
}

/* An index with room for all lines, and the hashes of all scopes (owned by the caller). */
RP_NODISCARD rp_status rp_simulation_index(const rp_simulation *s, rp_index **index,
                                           rp_scope **scopes);

#endif
