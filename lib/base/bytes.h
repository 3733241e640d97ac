/* bytes.h - byte strings, little-endian numbers, hexadecimal, UTF-8.
 *
 * Threads: pure functions. */
#ifndef RP_BASE_BYTES_H
#define RP_BASE_BYTES_H

#include <reprise/status.h>
#include <reprise/types.h>
#include <string.h>

/* "%.*s" with RP_FMT(str). */
#define RP_FMT(str) (int)(str).len, (str).ptr

#define RP_COUNT(array) (sizeof(array) / sizeof(array)[0])
#define RP_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RP_MAX(a, b) ((a) > (b) ? (a) : (b))

static inline rp_str
rp_str_of(const char *zero_terminated)
{
    return (rp_str){ zero_terminated, zero_terminated ? strlen(zero_terminated) : 0 };
}

static inline bool
rp_str_equal(rp_str a, rp_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Bytewise order: negative, 0 or positive, as memcmp; a prefix comes first. */
int rp_str_compare(rp_str a, rp_str b);

/* ASCII letters only; other bytes compare as they are. */
bool rp_str_equal_ignoring_case(rp_str a, rp_str b);
bool rp_str_starts_with(rp_str text, rp_str prefix);
bool rp_str_ends_with(rp_str text, rp_str suffix);

/* Without ASCII white space (space, tab, CR, LF, FF, VT) at both ends. */
rp_str rp_str_trimmed(rp_str text);

/* Take the part before the first `separator` off the front of *rest and return
 * it; without a separator take all. Loop while rest->len, or once more for a
 * trailing empty field if that matters to the caller. */
rp_str rp_str_split(rp_str *rest, char separator);

/* Shell-style match of a whole text: '*' any run, '?' one byte. Linear memory,
 * no recursion; used for route patterns such as "gpt-4o*". */
bool rp_str_matches_glob(rp_str text, rp_str pattern);

/* Decimal digits only, no sign, no space; false if empty, foreign or too big. */
bool rp_str_to_u64(rp_str text, uint64_t *out);
/* A finite number as strtod in the C locale reads it, the whole text. */
bool rp_str_to_double(rp_str text, double *out);

bool rp_utf8_is_valid(rp_str text);

static inline uint16_t
rp_load_le16(const void *at)
{
    const uint8_t *p = at;
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t
rp_load_le32(const void *at)
{
    const uint8_t *p = at;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t
rp_load_le64(const void *at)
{
    return (uint64_t)rp_load_le32(at) | (uint64_t)rp_load_le32((const char *)at + 4) << 32;
}
static inline void
rp_store_le16(void *at, uint16_t value)
{
    uint8_t *p = at;
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}
static inline void
rp_store_le32(void *at, uint32_t value)
{
    rp_store_le16(at, (uint16_t)value);
    rp_store_le16((char *)at + 2, (uint16_t)(value >> 16));
}
static inline void
rp_store_le64(void *at, uint64_t value)
{
    rp_store_le32(at, (uint32_t)value);
    rp_store_le32((char *)at + 4, (uint32_t)(value >> 32));
}

/* Lower-case hexadecimal: 2 * size characters and a terminating zero. */
void rp_hex_encode(const void *bytes, size_t size, char *out);
/* Exactly 2 * size digits, either case; false otherwise, `out` then undefined. */
bool rp_hex_decode(rp_str digits, void *out, size_t size);

#endif
