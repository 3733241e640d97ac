/* fuzz_store_record.c - values of the store as a damaged disk may give them.
 *
 * The first byte chooses the kind. A checksum would keep the fuzzer out of everything
 * behind it, so half of the inputs get a right one first. */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/entry_record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ID = 7 };

static void
read_entry(char *bytes, size_t size, bool sign)
{
    const size_t meta_size = size >= RP_ENTRY_RECORD_HEADER_SIZE ? rp_load_le32(bytes + 24) : 0;
    if (sign && meta_size >= RP_ENTRY_RECORD_HEADER_SIZE && meta_size <= size) {
        rp_store_le32(bytes + 28, (uint32_t)(size - meta_size));
        rp_store_le64(bytes + 8,
                      rp_hash64_seeded((rp_str){ bytes + meta_size, size - meta_size }, ID));
        rp_store_le64(bytes, rp_hash64_seeded((rp_str){ bytes + 8, meta_size - 8 }, ID));
    }
    rp_entry entry;
    rp_stored_reply reply;
    if (rp_entry_record_decode((rp_str){ bytes, size }, ID, &entry, &reply) != RP_OK)
        return;
    char *room = malloc(reply.size + 1u);
    if (room && rp_stored_reply_unpack(&reply, ID, NULL, room) == RP_OK && reply.size)
        room[0] ^= room[reply.size - 1]; /* all of it must be there */
    free(room);
    (void)!rp_hash64(entry.tags);
    (void)!rp_hash64(entry.prompt);
}

static void
read_vector(char *bytes, size_t size, bool sign)
{
    if (sign && size >= 8)
        rp_store_le64(bytes, rp_hash64_seeded((rp_str){ bytes + 8, size - 8 }, ID));
    rp_vector_view view;
    if (rp_vector_record_decode((rp_str){ bytes, size }, ID, &view) == RP_OK) {
        const size_t count = view.window_count > 1 ? view.window_count + 1 : 1;
        (void)!rp_hash64((rp_str){ (const char *)view.mean, view.dim * count * sizeof(float) });
    }
}

static void
read_value(char *bytes, size_t size, bool sign)
{
    if (sign && size >= 8)
        rp_store_le64(bytes, rp_hash64_seeded((rp_str){ bytes + 8, size - 8 }, ID));
    rp_buffer out;
    rp_buffer_init(&out, 1 << 20);
    (void)!rp_value_decode(ID, (rp_str){ bytes, size }, 1 << 20, &out);
    rp_buffer_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const bool sign = data[0] & 0x80;
    char *copy = malloc(size - 1 ? size - 1 : 1); /* one byte too far is seen */
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    switch (data[0] & 3) {
    case 0: read_entry(copy, size - 1, sign); break;
    case 1: read_vector(copy, size - 1, sign); break;
    case 2: read_value(copy, size - 1, sign); break;
    default: {
        rp_exact_row row;
        const size_t key = size - 1 < 32 ? size - 1 : 32;
        (void)!rp_exact_row_decode((rp_str){ copy, key }, (rp_str){ copy + key, size - 1 - key },
                                   &row);
    }
    }
    free(copy);
    return 0;
}
