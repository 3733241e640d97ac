/* fuzz_cache.c - scope fields of an import, and outcomes of a store, from any bytes.
 *
 * Fields that are read must be written in a form that makes the same scope again; an
 * outcome that is read must be written as the same bytes, or, if its format is an older
 * one, as bytes that are read and written as themselves. */
#include "base/bytes.h"
#include "cache/admit.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { OUTCOME_OLD = 1, OUTCOME_NOW = 2 }; /* first byte of a record */

static bool
write_again(rp_str bytes, rp_buffer *again)
{
    rp_outcome outcome;
    rp_str policy;
    if (rp_outcome_decode(bytes, &outcome, &policy) != RP_OK)
        return false;
    rp_outcome_encode(&outcome, policy, again);
    return true;
}

static void
check_outcome(rp_str bytes)
{
    rp_buffer once, again;
    rp_buffer_init(&once, 0);
    rp_buffer_init(&again, 0);
    if (write_again(bytes, &once)) {
        if (bytes.ptr[0] == OUTCOME_NOW && !rp_str_equal(bytes, rp_buffer_str(&once)))
            abort();
        if (!write_again(rp_buffer_str(&once), &again) ||
            !rp_str_equal(rp_buffer_str(&once), rp_buffer_str(&again)))
            abort();
    }
    rp_buffer_fini(&once);
    rp_buffer_fini(&again);
}

static bool
scope_of_text(rp_json_reader *reader, rp_str text, rp_arena *arena, rp_scope *scope, rp_buffer *out)
{
    const rp_json *json;
    rp_request request;
    rp_caller caller;
    if (rp_json_parse(reader, arena, text, &json, NULL) != RP_OK ||
        rp_scope_fields_read(json, NULL, arena, &request, &caller) != RP_OK ||
        rp_scope_of(&request, &caller, scope) != RP_OK)
        return false;
    rp_scope_fields_write(&request, &caller, out);
    return true;
}

static void
check_fields(rp_str text)
{
    static rp_json_reader *reader;
    if (!reader && rp_json_reader_new(&reader) != RP_OK)
        abort();
    rp_arena arena;
    rp_buffer once, again;
    rp_scope first, second;
    rp_arena_init(&arena, (size_t)64 << 20);
    rp_buffer_init(&once, 0);
    rp_buffer_init(&again, 0);
    if (scope_of_text(reader, text, &arena, &first, &once) &&
        (!scope_of_text(reader, rp_buffer_str(&once), &arena, &second, &again) ||
         memcmp(&first, &second, sizeof first) != 0 ||
         !rp_str_equal(rp_buffer_str(&once), rp_buffer_str(&again))))
        abort();
    rp_buffer_fini(&once);
    rp_buffer_fini(&again);
    rp_arena_fini(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const rp_str input = { (const char *)bytes, size };
    if (size && (bytes[0] == OUTCOME_OLD || bytes[0] == OUTCOME_NOW))
        check_outcome(input);
    else
        check_fields(input);
    return 0;
}
