/* fuzz_sse.c - any split of a stream gives the same events as the whole. */
#include "base/bytes.h"
#include "base/hash.h"
#include "net/sse.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct trace {
    rp_sha256 hash;
    size_t count;
} trace;

static void
record(void *context, const rp_sse_event *event)
{
    trace *t = context;
    rp_sha256_update_field(&t->hash, event->type);
    rp_sha256_update_field(&t->hash, event->data);
    t->count++;
}

static bool
read_in_pieces(rp_str bytes, size_t piece, size_t size_max, uint8_t digest[32])
{
    trace t = { .count = 0 };
    rp_sha256_init(&t.hash);
    rp_sse_reader reader;
    rp_sse_init(&reader, size_max);
    bool fine = true;
    while (bytes.len && fine) {
        const size_t n = RP_MIN(piece, bytes.len);
        fine = rp_sse_feed(&reader, (rp_str){ bytes.ptr, n }, record, &t);
        bytes = (rp_str){ bytes.ptr + n, bytes.len - n };
    }
    rp_sse_fini(&reader);
    rp_sha256_final(&t.hash, digest);
    return fine;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const rp_str bytes = { (const char *)data, size };
    const size_t sizes_max[] = { 0, 24 };
    for (size_t i = 0; i < RP_COUNT(sizes_max); i++) {
        uint8_t whole[32], cut[32];
        const bool fine = read_in_pieces(bytes, SIZE_MAX, sizes_max[i], whole);
        for (size_t piece = 1; piece <= 3; piece++) {
            if (read_in_pieces(bytes, piece, sizes_max[i], cut) != fine ||
                memcmp(whole, cut, sizeof whole) != 0)
                abort();
        }
    }
    return 0;
}
