/* observations.h - what is known about each entry's similarity and rightness.
 *
 * A table from entry to (similarity, label) pairs. Similarities are kept in thousandths
 * (vCache rounds to three decimals when deciding and when storing, arXiv:2502.03771) and
 * equal pairs are counted, so that most entries need few bytes. An entry holds at most
 * RP_OBSERVATIONS_MAX different pairs; beyond that the two nearest of one label become
 * one at their weighted mean, which keeps the counts exact and moves a similarity by
 * less than the noise of the label. Together at most 100 bytes an entry.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_POLICY_OBSERVATIONS_H
#define RP_POLICY_OBSERVATIONS_H

#include "base/buffer.h"
#include "policy/id_table.h"
#include <reprise/status.h>
#include <reprise/types.h>

enum { RP_OBSERVATIONS_MAX = 10, RP_OBSERVATION_COUNT_MAX = (1 << 19) - 1 };

typedef struct rp_observation {
    int thousandths; /* similarity * 1000, -1000..1000 */
    bool right;
    unsigned count;
} rp_observation;

typedef struct rp_observation_table {
    rp_id_table slots; /* see observations.c */
    size_t packed_bytes;
} rp_observation_table;

void rp_observations_init(rp_observation_table *table);
void rp_observations_fini(rp_observation_table *table);
/* Add one; false: no memory, then nothing was added. */
bool rp_observations_add(rp_observation_table *table, rp_entry_id id, double similarity,
                         bool right);
/* Copy those of `id` to out (RP_OBSERVATIONS_MAX); returns how many. */
size_t rp_observations_get(const rp_observation_table *table, rp_entry_id id,
                           rp_observation *out);
void rp_observations_forget(rp_observation_table *table, rp_entry_id id);
size_t rp_observations_size_bytes(const rp_observation_table *table);
void rp_observations_save(const rp_observation_table *table, rp_buffer *out);
/* Take a table off the front of *bytes; false: damaged or no memory, and *table is as
 * it was. */
bool rp_observations_restore(rp_observation_table *table, rp_str *bytes);

#endif
