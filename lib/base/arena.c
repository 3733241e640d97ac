/* arena.c - see arena.h. A list of blocks and a bump pointer into the newest. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_SIZE_MIN = 4 << 10, BLOCK_SIZE_MAX = 256 << 10, ALIGNMENT = 16 };

struct rp_arena_block {
    rp_arena_block *older;
    size_t size; /* of the whole block, this header included */
};
_Static_assert(sizeof(rp_arena_block) % ALIGNMENT == 0, "what follows the header is aligned");

void
rp_arena_init(rp_arena *arena, size_t size_max)
{
    *arena = (rp_arena){ .size_max = size_max };
}

void
rp_arena_fini(rp_arena *arena)
{
    while (arena->blocks) {
        rp_arena_block *older = arena->blocks->older;
        free(arena->blocks);
        arena->blocks = older;
    }
    *arena = (rp_arena){ .size_max = arena->size_max };
}

void
rp_arena_reset(rp_arena *arena)
{
    rp_arena_block *keep = arena->blocks;
    if (keep && keep->size <= BLOCK_SIZE_MAX) {
        arena->blocks = keep->older;
        rp_arena_fini(arena);
        keep->older = NULL;
        arena->blocks = keep;
        arena->size_bytes = keep->size;
        arena->at = (char *)(keep + 1);
        arena->end = (char *)keep + keep->size;
    } else {
        rp_arena_fini(arena);
    }
    arena->failed = false;
}

static bool
add_block(rp_arena *arena, size_t wanted)
{
    size_t size = arena->blocks ? arena->blocks->size * 2 : BLOCK_SIZE_MIN;
    size = size > BLOCK_SIZE_MAX ? BLOCK_SIZE_MAX : size;
    if (wanted > size - sizeof(rp_arena_block))
        size = wanted + sizeof(rp_arena_block);
    if (arena->size_max && (size > arena->size_max || arena->size_bytes > arena->size_max - size))
        return false;
    rp_arena_block *block = malloc(size);
    if (!block)
        return false;
    block->older = arena->blocks;
    block->size = size;
    arena->blocks = block;
    arena->size_bytes += size;
    arena->at = (char *)(block + 1);
    arena->end = (char *)block + size;
    return true;
}

void *
rp_arena_alloc(rp_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        goto fail;
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if ((size_t)(arena->end - arena->at) < size && !add_block(arena, size))
        goto fail;
    void *piece = arena->at;
    arena->at += size;
    return piece;
fail:
    arena->failed = true;
    return NULL;
}

void *
rp_arena_calloc(rp_arena *arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        arena->failed = true;
        return NULL;
    }
    void *piece = rp_arena_alloc(arena, total);
    return piece ? memset(piece, 0, total) : NULL;
}

rp_str
rp_arena_copy(rp_arena *arena, rp_str text)
{
    char *copy = text.len < SIZE_MAX ? rp_arena_alloc(arena, text.len + 1) : NULL;
    if (!copy)
        return (rp_str){ NULL, 0 };
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return (rp_str){ copy, text.len };
}

rp_str
rp_arena_printf(rp_arena *arena, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    va_list again;
    va_copy(again, values);
    const int len = vsnprintf(NULL, 0, format, values);
    char *out = len < 0 ? NULL : rp_arena_alloc(arena, (size_t)len + 1);
    if (out)
        vsnprintf(out, (size_t)len + 1, format, again);
    va_end(again);
    va_end(values);
    return out ? (rp_str){ out, (size_t)len } : (rp_str){ NULL, 0 };
}
