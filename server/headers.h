/* headers.h - request headers that steer the cache, and headers of replies.
 *
 * What a client may ask is docs/protocol.md, "Headers and controls": standards
 * first (Cache-Control), our own X-Reprise-* second, other products' names third.
 * Ours must be well-formed (400 otherwise); other products' are ignored if they are
 * not; standard ones are read as RFC 9111 says.
 *
 * Threads: pure functions; objects are used by one thread at a time. */
#ifndef RP_SERVER_HEADERS_H
#define RP_SERVER_HEADERS_H

#include "base/arena.h"
#include "cache/lookup.h"
#include "net/http_server.h"
#include "server/metrics.h"

/* Where a client put its credential. */
typedef enum rp_credential_place {
    RP_CREDENTIAL_NONE,
    RP_CREDENTIAL_AUTHORIZATION, /* Authorization: Bearer X, or another scheme, whole */
    RP_CREDENTIAL_X_API_KEY,     /* x-api-key: X (Anthropic) */
    RP_CREDENTIAL_API_KEY,       /* api-key: X (Azure) */
} rp_credential_place;

typedef struct rp_client_headers {
    rp_credential_place place;
    rp_str credential;     /* the token alone; never logged. Borrowed from the request. */
    bool has_several;      /* and another one that differs: which counts is the upstream's choice */
    rp_controls controls;  /* cache/lookup.h */
    bool only_if_cached;
    rp_str namespace_name, category, traceparent;
    rp_attribute attributes[RP_ATTRIBUTES_MAX]; /* headers that may change the answer */
    size_t attribute_count;
    const char *problem;   /* static sentence: 400. NULL: all is well */
} rp_client_headers;

/* Read all of them in one pass. Strings are borrowed from the request or in `arena`. */
void rp_client_headers_read(const rp_http_request *request, rp_arena *arena,
                            rp_client_headers *out);

/* What replaces or joins the client's headers on the way to the upstream. */
typedef struct rp_forward_options {
    bool identity;        /* ask for no content coding: a reply may be kept */
    const char *key;      /* sent instead of the client's credential, or NULL */
    bool anthropic;       /* `key` goes into x-api-key instead of Authorization */
} rp_forward_options;

/* The client's headers without hop-by-hop fields, X-Reprise-* and what the HTTP client
 * writes itself. The table lies in `arena`, the strings are those of the request and of
 * `options`; NULL if there is no memory. */
const rp_header *rp_headers_forward(const rp_http_request *request,
                                    const rp_forward_options *options, rp_arena *arena,
                                    size_t *count);

/* True for a header of an upstream's reply that must not reach the client: hop-by-hop,
 * framing, and our own names. */
bool rp_header_is_dropped_from_reply(rp_str name);

/* ---- the head of a reply ------------------------------------------------------- */

enum { RP_HEAD_HEADERS_MAX = 160, RP_HEAD_TEXT_SIZE = 3072 };
/* Headers under construction; values that are made lie in `text`. About 8 KiB, for the
 * stack. Too many headers, or too much text: the rest is left out (never a short write). */
typedef struct rp_reply_head {
    rp_header headers[RP_HEAD_HEADERS_MAX];
    size_t count;
    size_t text_size;
    char text[RP_HEAD_TEXT_SIZE];
} rp_reply_head;

void rp_reply_head_init(rp_reply_head *head);
/* `value` is borrowed until the head was sent. */
void rp_reply_head_add(rp_reply_head *head, rp_str name, rp_str value);
/* A copy of `value`. */
void rp_reply_head_add_copy(rp_reply_head *head, rp_str name, rp_str value);
void rp_reply_head_add_uint(rp_reply_head *head, rp_str name, uint64_t value);
void rp_reply_head_printf(rp_reply_head *head, rp_str name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What the cache did, as headers tell it. */
typedef struct rp_cache_report {
    rp_outcome_kind kind;
    rp_tier tier;             /* of a hit */
    const char *reason;       /* static label; a token of RFC 9110 */
    bool collapsed;           /* waited for an identical request */
    bool only_if_cached;      /* and so nothing was forwarded */
    bool hide_similarity;
    double similarity;        /* NaN: none. Sent with hits only. */
    double risk;              /* NaN: none */
    rp_str policy;            /* SPEC in use, empty: none */
    char entry[33];           /* outside id of a hit; "" */
    int64_t age_us, ttl_us;   /* of a hit; ttl -1: never expires */
    rp_usage saved;           /* of a hit; -1 unknown */
    int64_t overhead_us;      /* spent here until now */
    int64_t embed_us, search_us, policy_us; /* 0: stage did not run */
    const char *request_id;
    bool aliases;             /* also other products' names */
} rp_cache_report;

void rp_reply_head_add_report(rp_reply_head *head, const rp_cache_report *report);

#endif
