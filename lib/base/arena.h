/* arena.h - memory that goes all at once.
 *
 * What belongs to one request comes from the request's arena and goes with it.
 * The first block may live in the caller's storage, so that a small request
 * never asks the heap.
 *
 * Memory:  blocks grow from 4 KiB, doubling to 256 KiB; larger pieces get a
 *          block of their own. `size_max` bounds the sum.
 * Errors:  NULL when the bound is passed or the heap is empty. A caller that
 *          wants to check once at the end asks rp_arena_failed.
 * Threads: used by one thread at a time. */
#ifndef RP_BASE_ARENA_H
#define RP_BASE_ARENA_H

#include <reprise/types.h>

typedef struct rp_arena_block rp_arena_block;
typedef struct rp_arena {
    rp_arena_block *blocks; /* owned, newest first */
    char *at, *end;         /* what is left of the newest block */
    size_t size_bytes;      /* heap held */
    size_t size_max;        /* 0: no bound */
    bool failed;
} rp_arena;

void rp_arena_init(rp_arena *arena, size_t size_max);
void rp_arena_fini(rp_arena *arena);
/* Forget everything but keep one block for reuse. */
void rp_arena_reset(rp_arena *arena);
static inline bool
rp_arena_failed(const rp_arena *arena)
{
    return arena->failed;
}

/* 16-byte aligned, not cleared. */
void *rp_arena_alloc(rp_arena *arena, size_t size);
/* count * size bytes, cleared; NULL also when the product overflows. */
void *rp_arena_calloc(rp_arena *arena, size_t count, size_t size);
/* A copy with a terminating zero that does not count; .ptr NULL on failure. */
rp_str rp_arena_copy(rp_arena *arena, rp_str text);
rp_str rp_arena_printf(rp_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
