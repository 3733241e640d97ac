/* checkpoint.h - results of finished runs in a file, so that hours of them can be cut short.
 *
 * Format, one record after the other (little-endian, written by the program that reads it):
 *
 *      0  u32  magic "RPEC"
 *      4  u32  size of the payload
 *      8       key, 32 bytes: SHA-256 of all that decides what the result is
 *     40  u64  XXH3-64 of the payload
 *     48       payload
 *
 * A record that is cut short or damaged ends the file: what follows is written over it.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_CHECKPOINT_H
#define RP_EVAL_CHECKPOINT_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_checkpoint rp_checkpoint;

/* `resume`: read what is there; a missing file is an empty one. Without it the file must be
 * missing or empty, for nobody's hours are written over. Fails: RP_ERR_EXISTS,
 * RP_ERR_INVALID (cannot be opened, or is no checkpoint; then it is left as it is), RP_ERR_IO,
 * RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_checkpoint_open(const char *path, bool resume, rp_checkpoint **out,
                                          rp_error *error);
void rp_checkpoint_close(rp_checkpoint *checkpoint); /* NULL is fine */
/* The payload under this key, lent until the next call; false: there is none. */
bool rp_checkpoint_find(const rp_checkpoint *checkpoint, const uint8_t key[32], rp_str *out);
/* On disk when it returns. Fails: RP_ERR_IO, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_checkpoint_add(rp_checkpoint *checkpoint, const uint8_t key[32],
                                         rp_str payload, rp_error *error);
size_t rp_checkpoint_count(const rp_checkpoint *checkpoint);

#endif
