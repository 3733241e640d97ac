/* entry_record.c - see entry_record.h; byte tables in docs/file-format.md.
 *
 * Decoding believes nothing: the size of the value comes from the database, every
 * number inside is bounded against it before the checksum is computed over it, and
 * strings are cut out only after the checksum agreed. */
#include "store/entry_record.h"
#include "base/bytes.h"
#include "base/hash.h"

#include <zstd.h>

enum {
    AT_CHECKSUM = 0,
    AT_REPLY_CHECKSUM = 8,
    AT_VERSION = 16,
    AT_CODING = 18,
    AT_FLAGS = 20,
    AT_META_SIZE = 24,
    AT_REPLY_STORED = 28,
    AT_REPLY_SIZE = 32,
    AT_DIM = 36,
    AT_SCOPE = 40,
    AT_KEY = 72,
    AT_STRATUM = 104,
    AT_CREATED = 112,
    AT_EXPIRES = 120,
    AT_USER_HASH = 128,
    AT_METADATA_HASH = 144,
    AT_INPUT_TOKENS = 160,
    AT_OUTPUT_TOKENS = 168,
    AT_UPSTREAM_US = 176,
    AT_WINDOW_COUNT = 184,
    AT_TEMPLATE = 188,
    AT_TEXT_SIZES = 192,
    TEXT_COUNT = 8, /* the header ends behind their sizes */

    CODING_PLAIN = 0,
    CODING_ZSTD = 1,
    /* Below this a frame's own 10 or so bytes and the call cost more than they save. A guess. */
    COMPRESS_SIZE_MIN = 128,
    /* Measured with `zstd -b -B2KB` on English text: level 3 is 1 % smaller, no more. */
    COMPRESS_LEVEL = 1,
};

static uint64_t
checksum_of(const char *at, size_t size, uint64_t seed)
{
    return rp_hash64_seeded((rp_str){ at, size }, seed);
}

/* Compress to the end of *out if that makes it smaller, else copy. */
static int
append_packed(rp_str bytes, void *compressor, rp_buffer *out)
{
    if (compressor && bytes.len >= COMPRESS_SIZE_MIN) {
        const size_t bound = ZSTD_compressBound(bytes.len);
        char *room = rp_buffer_reserve(out, bound);
        if (room) {
            const size_t size = ZSTD_compressCCtx(compressor, room, bound, bytes.ptr, bytes.len,
                                                  COMPRESS_LEVEL);
            if (!ZSTD_isError(size) && size < bytes.len) {
                out->len += size;
                return CODING_ZSTD;
            }
        }
    }
    rp_buffer_append(out, bytes);
    return CODING_PLAIN;
}

static rp_status
unpack(int coding, rp_str stored, size_t size, void *decompressor, char *out)
{
    if (coding == CODING_PLAIN) {
        if (stored.len != size)
            return RP_ERR_CORRUPT;
        if (size)
            memcpy(out, stored.ptr, size);
        return RP_OK;
    }
    const size_t got = decompressor
        ? ZSTD_decompressDCtx(decompressor, out, size, stored.ptr, stored.len)
        : ZSTD_decompress(out, size, stored.ptr, stored.len);
    return ZSTD_isError(got) || got != size ? RP_ERR_CORRUPT : RP_OK;
}

/* ---- entry ------------------------------------------------------------------ */

static void
list_texts(const rp_entry *entry, rp_str out[TEXT_COUNT])
{
    const rp_str texts[TEXT_COUNT] = { entry->tenant, entry->namespace_name, entry->route,
                                       entry->model,  entry->category,       entry->prompt,
                                       entry->tags,   entry->turn };
    memcpy(out, texts, sizeof texts);
}

rp_status
rp_entry_record_encode(const rp_entry *entry, rp_entry_id id, void *compressor, rp_buffer *out)
{
    rp_str texts[TEXT_COUNT];
    list_texts(entry, texts);
    size_t meta_size = RP_ENTRY_RECORD_HEADER_SIZE;
    for (int i = 0; i < TEXT_COUNT; i++) {
        if (texts[i].len > RP_RECORD_TEXT_SIZE_MAX)
            return RP_ERR_LIMIT;
        meta_size += texts[i].len;
    }
    if (entry->reply.len > RP_REPLY_SIZE_MAX)
        return RP_ERR_LIMIT;

    const size_t start = out->len;
    char *header = rp_buffer_reserve(out, RP_ENTRY_RECORD_HEADER_SIZE);
    if (!header)
        return RP_ERR_NOMEM;
    memset(header, 0, RP_ENTRY_RECORD_HEADER_SIZE);
    out->len += RP_ENTRY_RECORD_HEADER_SIZE;
    for (int i = 0; i < TEXT_COUNT; i++)
        rp_buffer_append(out, texts[i]);
    const int coding = append_packed(entry->reply, compressor, out);
    if (rp_buffer_failed(out)) {
        out->len = start;
        return RP_ERR_NOMEM;
    }

    header = out->ptr + start; /* the buffer may have moved */
    const size_t stored_size = out->len - start - meta_size;
    rp_store_le64(header + AT_REPLY_CHECKSUM, checksum_of(header + meta_size, stored_size, id));
    rp_store_le16(header + AT_VERSION, RP_RECORD_VERSION);
    rp_store_le16(header + AT_CODING, (uint16_t)coding);
    rp_store_le32(header + AT_FLAGS, entry->flags);
    rp_store_le32(header + AT_META_SIZE, (uint32_t)meta_size);
    rp_store_le32(header + AT_REPLY_STORED, (uint32_t)stored_size);
    rp_store_le32(header + AT_REPLY_SIZE, (uint32_t)entry->reply.len);
    rp_store_le32(header + AT_DIM, (uint32_t)entry->dim);
    memcpy(header + AT_SCOPE, entry->scope.bytes, 32);
    memcpy(header + AT_KEY, entry->key.bytes, 32);
    rp_store_le64(header + AT_STRATUM, entry->stratum);
    rp_store_le64(header + AT_CREATED, (uint64_t)entry->created);
    rp_store_le64(header + AT_EXPIRES, (uint64_t)entry->expires);
    memcpy(header + AT_USER_HASH, entry->user_hash, 16);
    memcpy(header + AT_METADATA_HASH, entry->metadata_hash, 16);
    rp_store_le64(header + AT_INPUT_TOKENS, (uint64_t)entry->input_tokens);
    rp_store_le64(header + AT_OUTPUT_TOKENS, (uint64_t)entry->output_tokens);
    rp_store_le64(header + AT_UPSTREAM_US, (uint64_t)entry->upstream_us);
    rp_store_le32(header + AT_WINDOW_COUNT, (uint32_t)entry->window_count);
    rp_store_le32(header + AT_TEMPLATE, entry->template_);
    for (int i = 0; i < TEXT_COUNT; i++)
        rp_store_le32(header + AT_TEXT_SIZES + 4 * i, (uint32_t)texts[i].len);
    rp_store_le64(header + AT_CHECKSUM, checksum_of(header + 8, meta_size - 8, id));
    return RP_OK;
}

/* Sizes that agree with each other and with the value's size; then the checksum may
 * be computed without leaving it. */
static rp_status
check_frame(rp_str bytes, rp_entry_id id, size_t *out_meta_size)
{
    if (bytes.len < RP_ENTRY_RECORD_HEADER_SIZE)
        return RP_ERR_TRUNCATED;
    const char *at = bytes.ptr;
    const size_t meta_size = rp_load_le32(at + AT_META_SIZE);
    const size_t stored_size = rp_load_le32(at + AT_REPLY_STORED);
    if (meta_size < RP_ENTRY_RECORD_HEADER_SIZE || meta_size > bytes.len ||
        bytes.len - meta_size != stored_size)
        return RP_ERR_CORRUPT;
    if (checksum_of(at + 8, meta_size - 8, id) != rp_load_le64(at + AT_CHECKSUM))
        return RP_ERR_CORRUPT;
    if (rp_load_le16(at + AT_VERSION) != RP_RECORD_VERSION)
        return RP_ERR_STALE;
    *out_meta_size = meta_size;
    return RP_OK;
}

rp_status
rp_entry_record_decode(rp_str bytes, rp_entry_id id, rp_entry *out, rp_stored_reply *reply)
{
    size_t meta_size;
    const rp_status status = check_frame(bytes, id, &meta_size);
    if (status != RP_OK)
        return status;
    const char *at = bytes.ptr;
    const uint16_t coding = rp_load_le16(at + AT_CODING);
    const uint32_t reply_size = rp_load_le32(at + AT_REPLY_SIZE);
    const uint32_t dim = rp_load_le32(at + AT_DIM);
    const uint32_t window_count = rp_load_le32(at + AT_WINDOW_COUNT);
    if (coding > CODING_ZSTD || reply_size > RP_REPLY_SIZE_MAX || dim > RP_DIM_MAX ||
        window_count > RP_WINDOWS_MAX)
        return RP_ERR_CORRUPT;

    rp_entry entry = {
        .id = id,
        .stratum = rp_load_le64(at + AT_STRATUM),
        .created = (rp_time)rp_load_le64(at + AT_CREATED),
        .expires = (rp_time)rp_load_le64(at + AT_EXPIRES),
        .flags = rp_load_le32(at + AT_FLAGS),
        .input_tokens = (int64_t)rp_load_le64(at + AT_INPUT_TOKENS),
        .output_tokens = (int64_t)rp_load_le64(at + AT_OUTPUT_TOKENS),
        .upstream_us = (int64_t)rp_load_le64(at + AT_UPSTREAM_US),
        .dim = dim,
        .window_count = window_count,
        .template_ = rp_load_le32(at + AT_TEMPLATE),
    };
    memcpy(entry.scope.bytes, at + AT_SCOPE, 32);
    memcpy(entry.key.bytes, at + AT_KEY, 32);
    memcpy(entry.user_hash, at + AT_USER_HASH, 16);
    memcpy(entry.metadata_hash, at + AT_METADATA_HASH, 16);
    rp_str *const texts[TEXT_COUNT] = { &entry.tenant,   &entry.namespace_name, &entry.route,
                                        &entry.model,    &entry.category,       &entry.prompt,
                                        &entry.tags,     &entry.turn };
    size_t used = RP_ENTRY_RECORD_HEADER_SIZE;
    for (int i = 0; i < TEXT_COUNT; i++) {
        const size_t size = rp_load_le32(at + AT_TEXT_SIZES + 4 * i);
        if (size > meta_size - used)
            return RP_ERR_CORRUPT;
        *texts[i] = (rp_str){ at + used, size };
        used += size;
    }
    if (used != meta_size)
        return RP_ERR_CORRUPT;
    *out = entry;
    *reply = (rp_stored_reply){
        .bytes = { at + meta_size, bytes.len - meta_size },
        .size = reply_size,
        .compressed = coding == CODING_ZSTD,
        .checksum = rp_load_le64(at + AT_REPLY_CHECKSUM),
    };
    return RP_OK;
}

rp_status
rp_stored_reply_unpack(const rp_stored_reply *reply, rp_entry_id id, void *decompressor, char *out)
{
    if (checksum_of(reply->bytes.ptr, reply->bytes.len, id) != reply->checksum)
        return RP_ERR_CORRUPT;
    return unpack(reply->compressed ? CODING_ZSTD : CODING_PLAIN, reply->bytes, reply->size,
                  decompressor, out);
}

rp_status
rp_entry_record_set_windows(char *bytes, size_t size, rp_entry_id id, uint32_t dim,
                            uint32_t window_count)
{
    size_t meta_size;
    const rp_status status = check_frame((rp_str){ bytes, size }, id, &meta_size);
    if (status != RP_OK)
        return status;
    if (dim)
        rp_store_le32(bytes + AT_FLAGS,
                      rp_load_le32(bytes + AT_FLAGS) & ~(uint32_t)RP_ENTRY_EXACT_ONLY);
    rp_store_le32(bytes + AT_DIM, dim);
    rp_store_le32(bytes + AT_WINDOW_COUNT, window_count);
    rp_store_le64(bytes + AT_CHECKSUM, checksum_of(bytes + 8, meta_size - 8, id));
    return RP_OK;
}

/* ---- vectors ---------------------------------------------------------------- */

enum { VECTOR_AT_VERSION = 8, VECTOR_AT_WINDOWS = 10, VECTOR_AT_DIM = 12, VECTOR_AT_ENCODER = 16,
       VECTOR_AT_SCOPE = 24 };

/* How many vectors lie in the record: of one window, the mean is the window. */
static size_t
stored_vector_count(size_t window_count)
{
    return window_count > 1 ? window_count + 1 : 1;
}

size_t
rp_vector_record_size(size_t dim, size_t window_count)
{
    const size_t size =
        RP_VECTOR_RECORD_HEADER_SIZE + stored_vector_count(window_count) * dim * sizeof(float);
    return (size + 7) / 8 * 8; /* keeps floats aligned inside LMDB's leaves */
}

static void
store_floats(char *at, const float *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &numbers[i], 4);
        rp_store_le32(at + 4 * i, bits);
    }
}

void
rp_vector_record_encode(rp_entry_id id, uint64_t encoder, rp_scope scope, size_t dim,
                        size_t window_count, const float *mean, const float *windows, char *out)
{
    const size_t size = rp_vector_record_size(dim, window_count);
    memset(out + size - 8, 0, 8);
    rp_store_le16(out + VECTOR_AT_VERSION, RP_RECORD_VERSION);
    rp_store_le16(out + VECTOR_AT_WINDOWS, (uint16_t)window_count);
    rp_store_le32(out + VECTOR_AT_DIM, (uint32_t)dim);
    rp_store_le64(out + VECTOR_AT_ENCODER, encoder);
    memcpy(out + VECTOR_AT_SCOPE, scope.bytes, 32);
    store_floats(out + RP_VECTOR_RECORD_HEADER_SIZE, mean, dim);
    if (window_count > 1)
        store_floats(out + RP_VECTOR_RECORD_HEADER_SIZE + dim * sizeof(float), windows,
                     window_count * dim);
    rp_store_le64(out, checksum_of(out + 8, size - 8, id));
}

rp_status
rp_vector_record_decode(rp_str bytes, rp_entry_id id, rp_vector_view *out)
{
    if (bytes.len < RP_VECTOR_RECORD_HEADER_SIZE)
        return RP_ERR_TRUNCATED;
    const char *at = bytes.ptr;
    const size_t dim = rp_load_le32(at + VECTOR_AT_DIM);
    const size_t window_count = rp_load_le16(at + VECTOR_AT_WINDOWS);
    if (dim == 0 || dim > RP_DIM_MAX || window_count == 0 || window_count > RP_WINDOWS_MAX ||
        bytes.len != rp_vector_record_size(dim, window_count))
        return RP_ERR_CORRUPT;
    if (checksum_of(at + 8, bytes.len - 8, id) != rp_load_le64(at))
        return RP_ERR_CORRUPT;
    if (rp_load_le16(at + VECTOR_AT_VERSION) != RP_RECORD_VERSION)
        return RP_ERR_STALE;
    out->encoder = rp_load_le64(at + VECTOR_AT_ENCODER);
    memcpy(out->scope.bytes, at + VECTOR_AT_SCOPE, 32);
    out->dim = dim;
    out->window_count = window_count;
    out->mean = (const void *)(at + RP_VECTOR_RECORD_HEADER_SIZE);
    out->windows = window_count > 1
        ? (const void *)(at + RP_VECTOR_RECORD_HEADER_SIZE + dim * sizeof(float))
        : NULL;
    return RP_OK;
}

/* ---- exact ------------------------------------------------------------------ */

void
rp_exact_row_encode(rp_key key, const rp_exact_row *row, char out[RP_EXACT_ROW_SIZE])
{
    memset(out, 0, RP_EXACT_ROW_SIZE);
    rp_store_le64(out + 8, row->id);
    rp_store_le64(out + 16, (uint64_t)row->expires);
    rp_store_le64(out + 24, row->tenant);
    rp_store_le32(out + 32, row->size);
    rp_store_le32(out + 36, row->flags);
    rp_store_le16(out + 40, RP_RECORD_VERSION);
    rp_store_le64(out, checksum_of(out + 8, RP_EXACT_ROW_SIZE - 8,
                                   rp_load_le64(key.bytes + 8)));
}

rp_status
rp_exact_row_decode(rp_str key, rp_str bytes, rp_exact_row *out)
{
    if (key.len != sizeof(rp_key) || bytes.len != RP_EXACT_ROW_SIZE)
        return RP_ERR_TRUNCATED;
    const char *at = bytes.ptr;
    if (checksum_of(at + 8, RP_EXACT_ROW_SIZE - 8, rp_load_le64(key.ptr + 8)) != rp_load_le64(at))
        return RP_ERR_CORRUPT;
    if (rp_load_le16(at + 40) != RP_RECORD_VERSION)
        return RP_ERR_STALE;
    out->id = rp_load_le64(at + 8);
    out->expires = (rp_time)rp_load_le64(at + 16);
    out->tenant = rp_load_le64(at + 24);
    out->size = rp_load_le32(at + 32);
    out->flags = rp_load_le32(at + 36);
    return RP_OK;
}

/* ---- plain values ----------------------------------------------------------- */

void
rp_value_encode(uint64_t seed, rp_str payload, void *compressor, rp_buffer *out)
{
    const size_t start = out->len;
    char *header = rp_buffer_reserve(out, RP_VALUE_HEADER_SIZE);
    if (!header)
        return;
    out->len += RP_VALUE_HEADER_SIZE;
    const int coding = append_packed(payload, compressor, out);
    if (rp_buffer_failed(out))
        return;
    header = out->ptr + start;
    rp_store_le16(header + 8, RP_RECORD_VERSION);
    rp_store_le16(header + 10, (uint16_t)coding);
    rp_store_le32(header + 12, (uint32_t)payload.len);
    rp_store_le64(header, checksum_of(header + 8, out->len - start - 8, seed));
}

rp_status
rp_value_decode(uint64_t seed, rp_str bytes, size_t size_max, rp_buffer *out)
{
    if (bytes.len < RP_VALUE_HEADER_SIZE)
        return RP_ERR_TRUNCATED;
    if (checksum_of(bytes.ptr + 8, bytes.len - 8, seed) != rp_load_le64(bytes.ptr))
        return RP_ERR_CORRUPT;
    if (rp_load_le16(bytes.ptr + 8) != RP_RECORD_VERSION)
        return RP_ERR_STALE;
    const uint16_t coding = rp_load_le16(bytes.ptr + 10);
    const size_t size = rp_load_le32(bytes.ptr + 12);
    if (coding > CODING_ZSTD || size > size_max)
        return RP_ERR_CORRUPT;
    char *room = rp_buffer_reserve(out, size ? size : 1);
    if (!room)
        return RP_ERR_NOMEM;
    const rp_str stored = { bytes.ptr + RP_VALUE_HEADER_SIZE, bytes.len - RP_VALUE_HEADER_SIZE };
    const rp_status status = unpack(coding, stored, size, NULL, room);
    if (status == RP_OK)
        out->len += size;
    return status;
}
