/* adapters.h - one encoder and its LoRA adapters by name, exchanged while others embed.
 *
 * Each adapter is an rp_encoder of its own that shares tokenizer and unchanged weights with
 * the base. Getting one takes a reference: loading another under the same name lets those
 * who embed finish with what they hold.
 *
 * Threads: safe because it locks inside; loading merges outside of the lock. */
#ifndef RP_EMBED_ADAPTERS_H
#define RP_EMBED_ADAPTERS_H

#include <reprise/embed.h>

typedef struct rp_adapters rp_adapters;

enum { RP_ADAPTERS_MAX = 256 };

/* `base` is referenced. Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_adapters_new(rp_encoder *base, rp_adapters **out, rp_error *error);
void rp_adapters_free(rp_adapters *set); /* NULL is fine; encoders that were got live on */

/* Merge the adapter of `folder` and keep it under `name`, in the place of one that may be
 * there. Fails as rp_encoder_adapt does, RP_ERR_LIMIT (too many); then nothing has changed. */
RP_NODISCARD rp_status rp_adapters_load(rp_adapters *set, const char *name, const char *folder,
                                        rp_error *error);
bool rp_adapters_remove(rp_adapters *set, const char *name); /* false: there is none */
/* A reference, to be closed; name NULL: the base. NULL: there is none of that name. */
rp_encoder *rp_adapters_get(rp_adapters *set, const char *name);
size_t rp_adapters_count(rp_adapters *set);

#endif
