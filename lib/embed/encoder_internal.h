/* encoder_internal.h - what the batcher wants of an encoder beyond embed.h. */
#ifndef RP_EMBED_ENCODER_INTERNAL_H
#define RP_EMBED_ENCODER_INTERNAL_H

#include <reprise/embed.h>

enum {
    /* Tokens of waiting texts that are taken together. */
    RP_BATCH_TOKENS = 256,
    /* Of these, tokens that go through the layers together: the activations of so many stay
     * in a second-level cache of 1 to 2 MB beside the weights, and beyond about 100 the
     * arithmetic is as dense as it gets. 32 texts of 16 tokens in int8, 2 MB: 18.9 ms by 128,
     * 21.2 by 256 (bench embed, interleaved); f32 and bf16 2 % less, too. */
    RP_PASS_TOKENS = 128,
};

/* Numbers of storage for one text: its mean and its windows. */
static inline size_t
rp_embedding_storage_count(const rp_encoder *encoder)
{
    return (RP_WINDOWS_MAX + 1) * rp_encoder_dim(encoder);
}

#endif
