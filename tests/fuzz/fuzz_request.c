/* fuzz_request.c - any bytes as a body of any protocol: understood or refused, never worse.
 * What goes upstream stays JSON; the fields are sorted; and reading the canonical form of
 * the body again gives the same fields. */
#include "base/bytes.h"
#include "wire/wire.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
check(bool holds)
{
    if (!holds)
        abort();
}

static bool
understand(rp_json_reader *reader, rp_wire wire, rp_str body, rp_arena *arena, rp_request *out,
           const rp_json **json)
{
    return rp_json_parse(reader, arena, body, json, NULL) == RP_OK &&
           rp_request_parse(wire, body, *json, arena, out, NULL) == RP_OK;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static rp_json_reader *reader;
    if (!reader)
        check(rp_json_reader_new(&reader) == RP_OK);
    if (size == 0)
        return 0;
    const rp_wire wire = (rp_wire)(bytes[0] % RP_WIRE_COUNT);
    const rp_str body = { (const char *)bytes + 1, size - 1 };
    rp_arena arena;
    rp_buffer canonical;
    rp_arena_init(&arena, 0);
    rp_buffer_init(&canonical, 0);
    rp_request request, again;
    const rp_json *json, *other;
    if (!understand(reader, wire, body, &arena, &request, &json))
        goto out;
    for (size_t i = 1; i < request.field_count; i++)
        check(rp_str_compare(request.fields[i - 1].name, request.fields[i].name) < 0);
    check(rp_utf8_is_valid(request.prompt));
    check((request.prompt.len > 0) == (request.tier == RP_TIER_SEMANTIC));
    check(rp_json_parse(reader, &arena, request.forward_body, &other, NULL) == RP_OK);
    rp_json_write_canonical(json, &canonical);
    check(understand(reader, wire, rp_buffer_str(&canonical), &arena, &again, &other));
    check(again.tier == request.tier && again.field_count == request.field_count);
    check(rp_str_equal(again.last_turn, request.last_turn));
    check(rp_str_equal(again.prompt, request.prompt));
    for (size_t i = 0; i < request.field_count; i++)
        check(rp_str_equal(again.fields[i].value, request.fields[i].value));
out:
    rp_buffer_fini(&canonical);
    rp_arena_fini(&arena);
    return 0;
}
