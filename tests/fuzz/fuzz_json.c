/* fuzz_json.c - any bytes as JSON: what is accepted is written canonically, read again,
 * and must then be written as the same bytes. */
#include "base/bytes.h"
#include "json/json.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static rp_json_reader *reader;
    if (!reader && rp_json_reader_new(&reader) != RP_OK)
        abort();
    rp_arena arena;
    rp_arena_init(&arena, (size_t)64 << 20);
    rp_buffer once, again;
    rp_buffer_init(&once, 0);
    rp_buffer_init(&again, 0);
    const rp_json *value;
    if (rp_json_parse(reader, &arena, (rp_str){ (const char *)bytes, size }, &value, NULL) ==
        RP_OK) {
        rp_json_write_canonical(value, &once);
        if (rp_json_parse(reader, &arena, rp_buffer_str(&once), &value, NULL) != RP_OK)
            abort();
        rp_json_write_canonical(value, &again);
        if (!rp_str_equal(rp_buffer_str(&once), rp_buffer_str(&again)))
            abort();
    }
    rp_buffer_fini(&once);
    rp_buffer_fini(&again);
    rp_arena_fini(&arena);
    return 0;
}
