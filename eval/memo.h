/* memo.h - what models said about pairs of texts, so that many runs ask only once.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_MEMO_H
#define RP_EVAL_MEMO_H

#include <reprise/types.h>

typedef struct rp_memo {
    uint64_t *keys;  /* (capacity) 0: free; owned */
    float *values;   /* (capacity); owned */
    size_t count, capacity;
} rp_memo;

void rp_memo_fini(rp_memo *memo); /* an all-zero one is empty, and fine */
/* The key of two texts below 2^31; `what` in 1..3 tells kinds of questions apart. */
uint64_t rp_memo_key(unsigned what, uint32_t a, uint32_t b);
bool rp_memo_find(const rp_memo *memo, uint64_t key, float *out);
/* Without memory it is not kept, and is asked again. */
void rp_memo_keep(rp_memo *memo, uint64_t key, float value);

#endif
