/* scope.h - who may share an answer, and what exactly was asked.
 *
 * The scope is SHA-256 over a tag of this format and then, each with its length
 * in front, every field that separates two requests: facts about the caller,
 * attributes of the call, and all of the body except the last user turn. The key
 * continues with the last user turn. Fields are hashed in a fixed order (kind,
 * then name), so that their order on the wire does not matter, and no byte can
 * move from one field into its neighbor (tests/unit/test_scope.c).
 *
 * Memory:  results are plain values, or appended to the caller's buffer.
 * Threads: pure functions. */
#ifndef RP_CACHE_SCOPE_H
#define RP_CACHE_SCOPE_H

#include "base/buffer.h"
#include "wire/wire.h"
#include <reprise/types.h>

/* A fact about the call that can change the answer but is not in the body, for
 * instance the header "anthropic-version". Names are lower case. */
typedef struct rp_attribute {
    rp_str name, value; /* any bytes */
} rp_attribute;

/* What the server (or a library user) knows about who asks, besides the body.
 * Empty strings mean: not given. */
typedef struct rp_caller {
    rp_str tenant;         /* a configured name, or the keyed hash of a credential; never empty */
    rp_str upstream;       /* name of the service that would answer */
    rp_str endpoint;       /* path, "/v1/chat/completions" */
    bool share_wires;      /* protocol families share entries: endpoint and wire do not separate */
    bool isolate_user;     /* route says `isolate: user`: the body's `user` separates */
    rp_str user_digits;    /* its keyed hash in hex; filled in by rp_query_prepare */
    rp_str namespace_name; /* subdivides the tenant */
    uint64_t epoch[3];     /* of all, of the tenant, of the namespace (rp_caller_epochs) */
    const rp_attribute *attributes; /* in any order; equal names are hashed in order of value */
    size_t attribute_count;         /* at most RP_ATTRIBUTES_MAX */
    rp_str route, category;         /* for the stratum only */
} rp_caller;

enum { RP_ATTRIBUTES_MAX = 32 };

/* The scope. Fails: RP_ERR_INVALID (no tenant), RP_ERR_LIMIT (too many attributes). */
RP_NODISCARD rp_status rp_scope_of(const rp_request *request, const rp_caller *caller,
                                   rp_scope *out);
/* What was asked, exactly. */
rp_key rp_key_of(rp_scope scope, const rp_request *request);
/* Where outcomes are pooled. `fingerprint` is the encoder's, empty without one. */
rp_stratum rp_stratum_of(const rp_caller *caller, rp_str model, rp_str fingerprint);

/* What the scope hashed, as one canonical JSON object, for explain and export:
 * {"attributes":[[name,value]...],"body":{name:value...},"caller":{name:value...}}. Equal
 * for all requests of a scope, so that the store keeps it once; what the key adds is
 * request->last_turn. Bytes that are not UTF-8 are written as {"hex":"..."}. */
void rp_scope_fields_write(const rp_request *request, const rp_caller *caller, rp_buffer *out);
/* Read such an object back (import), with the turn (NULL or null: none): as much of a
 * request and a caller as rp_scope_of and rp_key_of look at; the rest is zero. Epochs are
 * those of the exporting cache: an importer puts in its own. Results lie in the arena and
 * point into `fields`. Fails: RP_ERR_INVALID (not of that shape), RP_ERR_LIMIT,
 * RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_scope_fields_read(const rp_json *fields, const rp_json *turn,
                                            rp_arena *arena, rp_request *request,
                                            rp_caller *caller);
/* The key of an entry of that scope whose last turn has this canonical JSON. */
rp_key rp_key_of_turn(rp_scope scope, rp_str last_turn);

/* Keyed hash of a value that is compared but never kept (user, metadata). Zero for
 * an empty value, never zero for another. */
void rp_private_hash(const uint8_t secret[32], const char *purpose, rp_str value, uint8_t out[16]);
/* Keyed hash of a credential: what a tenant without configuration is called, and
 * the key of credential_accepted. */
void rp_credential_hash(const uint8_t secret[32], rp_str credential, uint8_t out[32]);

#endif
