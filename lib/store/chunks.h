/* chunks.h - an array that grows without moving, so that growing it never copies
 * under a lock and a pointer into it stays good.
 *
 * The directory is made once for the largest count; chunks come as they are needed.
 *
 * Threads: the caller holds the lock of what it keeps here. */
#ifndef RP_STORE_CHUNKS_H
#define RP_STORE_CHUNKS_H

#include <assert.h>
#include <reprise/types.h>
#include <stdlib.h>

enum { RP_CHUNK_COUNT = 4096 }; /* a guess: 256 KiB of slots at a time */

typedef struct rp_chunks {
    char **chunks; /* owned (directory_count) owned */
    size_t directory_count, chunk_count, item_size;
} rp_chunks;

/* False: no memory. Items 0..count_max-1 can exist later. */
static inline bool
rp_chunks_init(rp_chunks *chunks, size_t item_size, size_t count_max)
{
    const size_t directory_count = count_max / RP_CHUNK_COUNT + 1;
    *chunks = (rp_chunks){ calloc(directory_count, sizeof(char *)), directory_count, 0, item_size };
    return chunks->chunks != NULL;
}

static inline void
rp_chunks_fini(rp_chunks *chunks)
{
    for (size_t i = 0; i < chunks->chunk_count; i++)
        free(chunks->chunks[i]);
    free(chunks->chunks);
    *chunks = (rp_chunks){ 0 };
}

/* Make items 0..count-1 exist, cleared. False: no memory, or beyond count_max. */
static inline bool
rp_chunks_reserve(rp_chunks *chunks, size_t count)
{
    while (chunks->chunk_count * RP_CHUNK_COUNT < count) {
        if (chunks->chunk_count == chunks->directory_count)
            return false;
        char *chunk = calloc(RP_CHUNK_COUNT, chunks->item_size);
        if (!chunk)
            return false;
        chunks->chunks[chunks->chunk_count++] = chunk;
    }
    return true;
}

static inline void *
rp_chunks_at(const rp_chunks *chunks, size_t at)
{
    assert(at / RP_CHUNK_COUNT < chunks->chunk_count);
    return chunks->chunks[at / RP_CHUNK_COUNT] + at % RP_CHUNK_COUNT * chunks->item_size;
}

static inline size_t
rp_chunks_size_bytes(const rp_chunks *chunks)
{
    return chunks->directory_count * sizeof(char *) +
           chunks->chunk_count * RP_CHUNK_COUNT * chunks->item_size;
}

#endif
