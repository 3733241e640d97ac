/* fuzz_headers.c - any bytes as the headers by which a client controls the cache: each wish
 * lies within its range and its bytes, and what is forwarded has none of ours.
 *
 * A line is a header, its name up to the first colon; what the parser of HTTP would refuse is
 * left out, as no request with it gets here. */
#include "base/bytes.h"
#include "net/http_parse.h"
#include "server/headers.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
require(bool fact)
{
    if (!fact)
        abort();
}

static size_t
read_lines(rp_str text, rp_header *headers, size_t count_max)
{
    size_t count = 0;
    while (text.len && count < count_max) {
        rp_str value = rp_str_split(&text, '\n');
        const rp_str name = rp_str_split(&value, ':');
        value = rp_str_trimmed(value);
        if (rp_http_is_token(name) && rp_http_is_field_value(value))
            headers[count++] = (rp_header){ name, value };
    }
    return count;
}

static void
check_name(rp_str name)
{
    require(name.len <= RP_TAG_SIZE_MAX && rp_utf8_is_valid(name));
    for (size_t i = 0; i < name.len; i++)
        require((unsigned char)name.ptr[i] >= 0x20);
}

static void
check(const rp_client_headers *read)
{
    const rp_controls *controls = &read->controls;
    require(controls->max_age_us >= -1 && controls->min_fresh_us >= -1 && controls->ttl_us >= -1);
    require(controls->min_similarity >= -1 && controls->min_similarity <= 1);
    require(controls->error_max >= 0 && controls->error_max <= 1);
    require(read->attribute_count <= RP_ATTRIBUTES_MAX);
    if (read->problem)
        return; /* 400: the rest is not looked at */
    check_name(read->namespace_name);
    check_name(read->category);
    require((read->place == RP_CREDENTIAL_NONE) == (read->credential.len == 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const rp_str ours = { "x-reprise-", 10 };
    rp_header headers[100];
    rp_str text = { (const char *)bytes, size };
    const rp_str query = rp_str_split(&text, '\n');
    const rp_http_request request = { .method = RP_STR("POST"), .path = RP_STR("/v1/chat/completions"),
                                      .query = query, .headers = headers,
                                      .header_count = read_lines(text, headers, RP_COUNT(headers)) };
    rp_arena arena;
    rp_arena_init(&arena, 0);
    rp_client_headers read;
    rp_client_headers_read(&request, &arena, &read);
    check(&read);
    size_t count = 0;
    const rp_forward_options options = { .identity = true, .key = size % 2 ? "key" : NULL };
    const rp_header *forwarded = rp_headers_forward(&request, &options, &arena, &count);
    for (size_t i = 0; forwarded && i < count; i++)
        require(forwarded[i].name.len < ours.len ||
                !rp_str_equal_ignoring_case((rp_str){ forwarded[i].name.ptr, ours.len }, ours));
    rp_arena_fini(&arena);
    return 0;
}
