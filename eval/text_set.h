/* text_set.h - texts with a number each, equal texts with the same one.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_TEXT_SET_H
#define RP_EVAL_TEXT_SET_H

#include "base/arena.h"
#include <reprise/status.h>

typedef struct rp_text_set {
    rp_arena arena;  /* the bytes */
    rp_str *texts;   /* (count) by number; owned */
    uint32_t *slots; /* (slot_count) number + 1, 0: free; owned */
    size_t count, capacity, slot_count;
} rp_text_set;

enum { RP_TEXT_SET_MAX = 100000000 };

void rp_text_set_init(rp_text_set *set);
void rp_text_set_fini(rp_text_set *set);
/* The text's number, 0..count-1; the bytes are copied. Fails: RP_ERR_NOMEM, RP_ERR_LIMIT. */
RP_NODISCARD rp_status rp_text_set_add(rp_text_set *set, rp_str text, uint32_t *out);
/* The number of a text that is there; false if it is not. */
bool rp_text_set_find(const rp_text_set *set, rp_str text, uint32_t *out);

#endif
