/* tenant.h - who asks, and whether the store may answer them.
 *
 * The caller's own credential is the tenant unless the configuration says
 * otherwise, so that nobody shares anything by accident. Credentials are hashed
 * with the store's secret as they arrive; only the hash is kept or compared.
 *
 * A credential that is forwarded upstream gets hits only if that upstream has
 * accepted it within credential_ttl, so that a revoked key stops working here
 * too. A tenant with an upstream_key is answered for by the configuration.
 *
 * Threads: an rp_tenants is immutable after it was made. */
#ifndef RP_SERVER_TENANT_H
#define RP_SERVER_TENANT_H

#include "base/arena.h"
#include "server/config.h"
#include "server/headers.h"
#include "store/store.h"

typedef struct rp_tenants rp_tenants;

/* `config` must outlive the result; `secret` (32 bytes) is copied. Fails: RP_ERR_NOMEM,
 * RP_ERR_EXISTS (one key means two tenants) with a sentence that names the tenants. */
RP_NODISCARD rp_status rp_tenants_new(const rp_config *config, const uint8_t secret[32],
                                      rp_tenants **out, rp_error *error);
void rp_tenants_free(rp_tenants *tenants);

typedef struct rp_identity {
    const rp_tenant_config *config; /* NULL: the caller's own credential, or nobody */
    rp_str name;                    /* "support", "key-0f3a..."; empty: nobody */
    uint8_t credential_hash[32];    /* keyed; zero without a credential */
    bool is_known;                  /* false: no credential, and no anonymous tenant */
    bool forwards_credential;       /* the upstream sees the caller's own */
} rp_identity;

/* The name lies in `arena` or in the configuration. */
void rp_identity_of(const rp_tenants *tenants, const rp_client_headers *headers, rp_arena *arena,
                    rp_identity *out);

/* May the store answer this caller for `upstream` (its name)? */
bool rp_identity_may_read(const rp_tenants *tenants, rp_store *store, const rp_identity *identity,
                          const char *upstream, rp_time now);
/* What the upstream's status says about the credential: 2xx accepts it, 401 and 403
 * revoke it. True: what had been accepted is taken back, and `done` (may be NULL) is called on
 * the store's writer thread when that is on the disk, or with the failure. */
bool rp_identity_learn(const rp_tenants *tenants, rp_store *store, const rp_identity *identity,
                       const char *upstream, int http_status, rp_time now, rp_store_done *done,
                       void *context);

#endif
