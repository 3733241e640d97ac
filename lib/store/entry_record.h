/* entry_record.h - the bytes of every value in the database.
 *
 * Little-endian, each with a version and a checksum; byte tables and invariants are
 * in docs/file-format.md. Checksums are XXH3-64 seeded with the id (or with a hash
 * of the key) under which the value lies, so that a value in the wrong place is
 * noticed too.
 *
 * Errors:  RP_ERR_TRUNCATED, RP_ERR_CORRUPT (contradicts itself or its checksum),
 *          RP_ERR_STALE (a newer version).
 * Memory:  views point into the bytes.
 * Threads: pure functions. */
#ifndef RP_STORE_ENTRY_RECORD_H
#define RP_STORE_ENTRY_RECORD_H

#include "store/store.h"

enum {
    RP_ENTRY_RECORD_HEADER_SIZE = 224,
    RP_VECTOR_RECORD_HEADER_SIZE = 56,
    RP_EXACT_ROW_SIZE = 48,
    RP_VALUE_HEADER_SIZE = 16,
    RP_RECORD_VERSION = 1,
    /* Texts of one entry, each; longer ones are refused by rp_store_put. */
    RP_RECORD_TEXT_SIZE_MAX = 4 << 20,
};

/* ---- entry ------------------------------------------------------------------ */

/* A reply as it lies in the record. */
typedef struct rp_stored_reply {
    rp_str bytes;
    uint32_t size;    /* of the reply itself */
    bool compressed;
    uint64_t checksum; /* of bytes */
} rp_stored_reply;

/* Append the record of `entry` under `id`; `compressor` is a ZSTD_CCtx. Fails:
 * RP_ERR_LIMIT (a text too long), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_entry_record_encode(const rp_entry *entry, rp_entry_id id,
                                              void *compressor, rp_buffer *out);
/* Everything but the reply and the vectors: *out is a view. The reply's own checksum is
 * not looked at. */
RP_NODISCARD rp_status rp_entry_record_decode(rp_str bytes, rp_entry_id id, rp_entry *out,
                                              rp_stored_reply *reply);
/* Check and unpack into `out` (reply->size bytes); `decompressor` is a ZSTD_DCtx. */
RP_NODISCARD rp_status rp_stored_reply_unpack(const rp_stored_reply *reply, rp_entry_id id,
                                              void *decompressor, char *out);
/* The same record with other vector counts (reembed). */
RP_NODISCARD rp_status rp_entry_record_set_windows(char *bytes, size_t size, rp_entry_id id,
                                                   uint32_t dim, uint32_t window_count);

/* ---- vectors ---------------------------------------------------------------- */

typedef struct rp_vector_view {
    uint64_t encoder; /* hash of its fingerprint */
    rp_scope scope;
    size_t dim, window_count;
    const float *mean, *windows; /* as aligned as the bytes are; windows: NULL for one window */
} rp_vector_view;

size_t rp_vector_record_size(size_t dim, size_t window_count);
/* Write the record to `out`, which has room for it. */
void rp_vector_record_encode(rp_entry_id id, uint64_t encoder, rp_scope scope, size_t dim,
                             size_t window_count, const float *mean, const float *windows,
                             char *out);
RP_NODISCARD rp_status rp_vector_record_decode(rp_str bytes, rp_entry_id id, rp_vector_view *out);

/* ---- rows of the exact database --------------------------------------------- */

typedef struct rp_exact_row {
    rp_entry_id id;
    rp_time expires;
    uint64_t tenant; /* hash of its name */
    uint32_t size;   /* bytes the entry takes on disk, about */
    uint32_t flags;  /* rp_entry_flag */
} rp_exact_row;

void rp_exact_row_encode(rp_key key, const rp_exact_row *row, char out[RP_EXACT_ROW_SIZE]);
RP_NODISCARD rp_status rp_exact_row_decode(rp_str key, rp_str bytes, rp_exact_row *out);

/* ---- plain values (meta, scope, outcome) ------------------------------------ */

/* Append the value `payload` under a key whose hash is `seed`. Long payloads are
 * compressed with `compressor` (ZSTD_CCtx, or NULL). */
void rp_value_encode(uint64_t seed, rp_str payload, void *compressor, rp_buffer *out);
/* Append the payload to *out. Fails also RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_value_decode(uint64_t seed, rp_str bytes, size_t size_max,
                                       rp_buffer *out);

#endif
