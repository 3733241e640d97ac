/* tenant.c - see tenant.h. */
#include "server/tenant.h"
#include "base/bytes.h"
#include "base/hash.h"

#include <openssl/crypto.h>
#include <stdlib.h>

typedef struct known_key {
    uint8_t hash[32];
    const rp_tenant_config *tenant; /* borrowed from the configuration */
} known_key;

struct rp_tenants {
    const rp_config *config; /* borrowed */
    uint8_t secret[32];
    const rp_tenant_config *anonymous; /* NULL: none */
    known_key *keys;                   /* owned, sorted by hash */
    size_t key_count;
};

static int
compare_keys(const void *a, const void *b)
{
    return memcmp(((const known_key *)a)->hash, ((const known_key *)b)->hash, 32);
}

static rp_status
fill_keys(rp_tenants *tenants, rp_error *error)
{
    const rp_config *config = tenants->config;
    size_t total = 0;
    for (size_t t = 0; t < config->tenant_count; t++)
        total += config->tenants[t].key_count;
    tenants->keys = calloc(total ? total : 1, sizeof *tenants->keys);
    if (!tenants->keys)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for %zu tenant keys", total);
    for (size_t t = 0; t < config->tenant_count; t++) {
        const rp_tenant_config *tenant = &config->tenants[t];
        if (tenant->anonymous && !tenants->anonymous)
            tenants->anonymous = tenant;
        for (size_t k = 0; k < tenant->key_count; k++) {
            known_key *key = &tenants->keys[tenants->key_count++];
            rp_credential_hash(tenants->secret, rp_str_of(tenant->keys[k]), key->hash);
            key->tenant = tenant;
        }
    }
    qsort(tenants->keys, tenants->key_count, sizeof *tenants->keys, compare_keys);
    for (size_t i = 1; i < tenants->key_count; i++)
        if (compare_keys(&tenants->keys[i - 1], &tenants->keys[i]) == 0 &&
            tenants->keys[i - 1].tenant != tenants->keys[i].tenant)
            return rp_fail(error, RP_ERR_EXISTS, "tenants '%s' and '%s' have a key in common",
                           tenants->keys[i - 1].tenant->name, tenants->keys[i].tenant->name);
    return RP_OK;
}

rp_status
rp_tenants_new(const rp_config *config, const uint8_t secret[32], rp_tenants **out,
               rp_error *error)
{
    rp_tenants *tenants = calloc(1, sizeof *tenants);
    if (!tenants)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the tenants");
    tenants->config = config;
    memcpy(tenants->secret, secret, sizeof tenants->secret);
    const rp_status status = fill_keys(tenants, error);
    if (status != RP_OK) {
        rp_tenants_free(tenants);
        return status;
    }
    *out = tenants;
    return RP_OK;
}

void
rp_tenants_free(rp_tenants *tenants)
{
    if (!tenants)
        return;
    OPENSSL_cleanse(tenants->secret, sizeof tenants->secret);
    free(tenants->keys);
    free(tenants);
}

void
rp_identity_of(const rp_tenants *tenants, const rp_client_headers *headers, rp_arena *arena,
               rp_identity *out)
{
    memset(out, 0, sizeof *out);
    /* With two different credentials we cannot know which one the upstream looks at: a
     * revoked one could be vouched for by another. Nobody in particular, then. */
    if (headers->has_several)
        return;
    if (headers->place == RP_CREDENTIAL_NONE) {
        out->config = tenants->anonymous;
    } else {
        known_key wanted;
        rp_credential_hash(tenants->secret, headers->credential, wanted.hash);
        memcpy(out->credential_hash, wanted.hash, sizeof wanted.hash);
        const known_key *found = bsearch(&wanted, tenants->keys, tenants->key_count,
                                         sizeof *tenants->keys, compare_keys);
        out->config = found ? found->tenant : NULL;
        if (!found) {
            /* 128 bits of the keyed hash. "key-" keeps it apart from configured names,
             * which the configuration does not let begin so. */
            char name[37] = "key-";
            rp_hex_encode(wanted.hash, 16, name + 4);
            out->name = rp_arena_copy(arena, (rp_str){ name, 36 });
        }
    }
    if (out->config)
        out->name = rp_str_of(out->config->name);
    out->is_known = out->name.len > 0;
    out->forwards_credential = headers->place != RP_CREDENTIAL_NONE &&
                               !(out->config && out->config->upstream_key);
}

/* One credential may be good at one upstream and unknown at another. */
static void
hash_at_upstream(const rp_tenants *tenants, const rp_identity *identity, const char *upstream,
                 uint8_t out[32])
{
    uint8_t text[2 * 32];
    memcpy(text, identity->credential_hash, 32);
    rp_sha256_of(rp_str_of(upstream), text + 32);
    rp_hmac_sha256((rp_str){ (const char *)tenants->secret, 32 },
                   (rp_str){ (const char *)text, sizeof text }, out);
}

bool
rp_identity_may_read(const rp_tenants *tenants, rp_store *store, const rp_identity *identity,
                     const char *upstream, rp_time now)
{
    if (!identity->is_known)
        return false;
    if (!identity->forwards_credential)
        return true;
    uint8_t hash[32];
    hash_at_upstream(tenants, identity, upstream, hash);
    const rp_time accepted = rp_store_credential_accepted(store, hash);
    return accepted != 0 && now - accepted <= tenants->config->credential_ttl_us;
}

bool
rp_identity_learn(const rp_tenants *tenants, rp_store *store, const rp_identity *identity,
                  const char *upstream, int http_status, rp_time now,
                  rp_store_done *done, void *context)
{
    if (!identity->is_known || !identity->forwards_credential)
        return false;
    uint8_t hash[32];
    hash_at_upstream(tenants, identity, upstream, hash);
    if (http_status >= 200 && http_status < 300)
        rp_store_credential_accept(store, hash, now);
    else if (http_status == 401 || http_status == 403)
        return rp_store_credential_revoke(store, hash, done, context);
    return false;
}
