/* types.h - the plain values that every part of Reprise passes around, and
 * every limit of the system as a named constant.
 *
 * Threads: plain values. */
#ifndef REPRISE_TYPES_H
#define REPRISE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that somebody else owns. No code assumes a terminating zero, nor that
 * they are UTF-8. An empty string may have any pointer, NULL included. */
typedef struct rp_str {
    const char *ptr; /* borrowed */
    size_t len;
} rp_str;

/* A string literal as rp_str. */
#define RP_STR(literal) ((rp_str){ (literal), sizeof(literal) - 1 })

/* An entry of the store. Numbers grow and are never used again; 0 is no entry. */
typedef uint64_t rp_entry_id;

/* Who may share an answer, and under which conditions it was produced: SHA-256
 * over all that separates two requests except the last user turn (design:
 * docs/architecture.md, "Scope, key and stratum"). */
typedef struct rp_scope {
    uint8_t bytes[32];
} rp_scope;

/* What was asked, exactly: SHA-256 over the scope and the last user turn. */
typedef struct rp_key {
    uint8_t bytes[32];
} rp_key;

/* Where outcomes are pooled: XXH3-64 over tenant, route, model, category and
 * encoder fingerprint. A scope isolates, a stratum learns. */
typedef uint64_t rp_stratum;

/* Wall-clock time in microseconds since 1970-01-01 UTC; 0 means "never" where
 * a field says so. Durations carry their unit in their name. */
typedef int64_t rp_time;

enum {
    /* Encoders. */
    RP_DIM_MAX = 4096,        /* numbers in a vector; a larger model is refused */
    RP_WINDOWS_MAX = 8,       /* windows of one long text; longer: exact tier only */
    RP_TEXT_SIZE_MAX = 1 << 20, /* bytes of a text to embed; longer: exact tier only */

    /* Decisions. */
    RP_CANDIDATES_MAX = 16,   /* neighbors that a decision may look at */
    RP_DRIVER_ROUNDS_MAX = 3, /* times a policy may ask for more evidence */

    /* Requests. */
    RP_JSON_DEPTH_MAX = 64,   /* nesting of a body; deeper: forwarded uncached */
    RP_TAGS_MAX = 16,         /* tags of one entry */
    RP_TAG_SIZE_MAX = 256,    /* bytes of one tag, namespace or category */
    RP_TENANT_SIZE_MAX = 128, /* bytes of a tenant's name */
};

/* Default size of a body that may be cached; a larger one is streamed through. */
#define RP_CACHEABLE_SIZE_MAX ((size_t)4 << 20)

#ifdef __cplusplus
}
#endif
#endif
