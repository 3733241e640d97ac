/* encoder_internal.h - what the batcher wants of an encoder beyond embed.h. */
#ifndef RP_EMBED_ENCODER_INTERNAL_H
#define RP_EMBED_ENCODER_INTERNAL_H

#include <reprise/embed.h>

enum {
    /* Tokens that are encoded together: the activations of so many stay in a
     * second-level cache of 1 to 2 MB, and beyond about 100 the arithmetic is as
     * dense as it gets. Measured with prototypes on Intel and AMD. */
    RP_BATCH_TOKENS = 256,
};

/* Numbers of storage for one text: its mean and its windows. */
static inline size_t
rp_embedding_storage_count(const rp_encoder *encoder)
{
    return (RP_WINDOWS_MAX + 1) * rp_encoder_dim(encoder);
}

#endif
