/* config.h - the configuration file: YAML in, checked values out.
 *
 * Every key has a default that is safe. A wrong key, type or range is refused
 * with file, line, column, what was found and what was expected. Anchors,
 * aliases, tags and duplicate keys are refused. "${NAME}" in a value is replaced
 * by the environment variable; an unset one is an error. Durations are written
 * "50ms", "10s", "5m", "24h", "7d"; sizes "64KiB", "2GiB", or plain bytes.
 * docs/configuration.md lists every key.
 *
 * Memory:  an rp_config owns its strings (zero-terminated where a const char *).
 * Threads: immutable after loading; share it by reference (rp_config_ref). */
#ifndef RP_SERVER_CONFIG_H
#define RP_SERVER_CONFIG_H

#include "base/buffer.h"
#include <reprise/embed.h>
#include <reprise/status.h>
#include <reprise/types.h>

typedef enum rp_mode {
    RP_MODE_SERVE,  /* answer from the store */
    RP_MODE_SHADOW, /* decide and report, always forward */
    RP_MODE_OFF,    /* forward only */
} rp_mode;

enum { RP_PROTOCOL_OPENAI = 1, RP_PROTOCOL_ANTHROPIC = 2 };

typedef struct rp_upstream_config {
    const char *name;
    const char *url;    /* without a trailing slash or "/v1" */
    bool version_dropped; /* a trailing "/v1" was there: said at start */
    unsigned protocols; /* RP_PROTOCOL_* */
    int64_t connect_timeout_us, first_byte_timeout_us, idle_timeout_us;
    const char *proxy;                   /* URL or NULL */
    const char *certificate_authorities; /* PEM file or NULL */
    size_t connections_max;
} rp_upstream_config;

typedef struct rp_tenant_config {
    const char *name;
    const char **keys; /* credentials that mean this tenant */
    size_t key_count;
    bool anonymous;           /* requests without a credential are this tenant */
    int upstream;             /* index into upstreams, -1: by route or the first */
    const char *upstream_key; /* sent instead of the caller's credential, or NULL */
    bool share_namespaces;    /* its callers share entries (always true for a configured tenant) */
    bool hide_similarity;     /* X-Reprise-Similarity is not sent: it is an oracle for probing */
    double share_max;         /* of disk_max; 0: the global one */
} rp_tenant_config;

typedef struct rp_route_config {
    /* What it matches; NULL matches all. Globs except header and namespace names. */
    const char *match_path, *match_model, *match_namespace, *match_tenant;
    const char *match_header, *match_header_value;
    bool match_header_secret; /* the value came from the environment */
    /* What then holds. */
    const char *name;     /* label in metrics and logs; "default" for the last */
    int upstream;         /* -1: the tenant's or the first */
    rp_mode mode;
    bool exact, semantic; /* tiers that are on */
    const char *policy;   /* SPEC (reprise/policy.h) */
    double error_max;     /* NaN: the policy's default */
    double min_similarity;/* NaN: the policy's default; else a floor for this route */
    int64_t ttl_us;       /* 0: never expires */
    int64_t ttl_max_us;   /* a caller's X-Reprise-TTL is clamped to it; 0: no clamp */
    const char *category; /* or NULL */
    bool isolate_user;    /* isolate: user */
    bool share_wires;     /* protocol families share entries */
    bool strict_gates;    /* gates: strict */
    int collision_check;  /* rp_collision_check */
    bool templates;
    bool keep_length, keep_filtered; /* keep_finish: length, content_filter */
    double temperature_max;
    int64_t volatile_ttl_us;
} rp_route_config;

/* What a model's tokens cost. */
typedef struct rp_price_config {
    const char *model;                  /* glob */
    double input_usd, output_usd;       /* a million tokens */
} rp_price_config;

typedef struct rp_config {
    const char *listen, *admin_listen;
    const char *tls_certificate, *tls_key;             /* or NULL */
    const char *admin_tls_certificate, *admin_tls_key; /* or NULL */
    const char *admin_token;                           /* or NULL: DATA/admin.token */
    const char *data;
    uint64_t memory_max, disk_max;
    bool vectors_on_disk;      /* vectors: disk */
    int64_t lookup_deadline_us, judge_deadline_us;
    bool finish_on_disconnect;
    bool usage_zero;           /* usage_on_hit: zero */
    uint64_t cacheable_max, body_max;
    int64_t credential_ttl_us;
    unsigned loop_threads, pool_threads; /* 0: by the number of cores */
    size_t connections_max;
    int64_t head_timeout_us, body_timeout_us, idle_timeout_us, drain_timeout_us;
    bool cors;                 /* answer OPTIONS for browsers */
    const char *cors_origin;
    bool emit_aliases;         /* also send other products' status headers */
    uint64_t seed;             /* of decisions; 0: from the system */
    const char *access_log;    /* "stdout", "off", or a file */
    const char *log_level;
    bool log_json;

    const char *encoder_model, *encoder_adapter; /* adapter NULL: none */
    rp_precision encoder_precision;
    const char *encoder_tier;                    /* NULL: best here */
    bool encoder_off;                            /* model: none -> exact tier only */
    unsigned encoder_dim, encoder_window;        /* 0: the model's own */
    const char *verifier_model, *verifier_adapter; /* NULL: none */
    rp_precision verifier_precision;

    const rp_price_config *prices;
    size_t price_count;
    const rp_upstream_config *upstreams;
    size_t upstream_count; /* at least 1 to serve */
    const rp_tenant_config *tenants;
    size_t tenant_count;
    const rp_route_config *routes; /* at least one; the last matches everything */
    size_t route_count;
} rp_config;

/* Flags of `reprise serve` that stand for the common cases; NULL: not given. They
 * beat the file. */
typedef struct rp_config_flags {
    const char *listen, *admin, *upstream, *data, *model, *policy, *mode;
    const char *seed;
} rp_config_flags;

/* Load `path` (NULL: defaults and flags only). Fails: RP_ERR_NOT_FOUND, RP_ERR_IO,
 * RP_ERR_INVALID with "FILE:LINE:COLUMN: ..." as the sentence. */
RP_NODISCARD rp_status rp_config_load(const char *path, const rp_config_flags *flags,
                                      const rp_config **out, rp_error *error);
/* The same from bytes; `name` stands for the file in sentences. */
RP_NODISCARD rp_status rp_config_parse(rp_str yaml, const char *name, const rp_config_flags *flags,
                                       const rp_config **out, rp_error *error);
const rp_config *rp_config_ref(const rp_config *config);
void rp_config_unref(const rp_config *config); /* NULL is fine */

/* The effective values as YAML, secrets masked: what `serve --check` prints. */
void rp_config_print(const rp_config *config, rp_buffer *out);

/* The first price that matches; NULL: none does. */
const rp_price_config *rp_config_price(const rp_config *config, rp_str model);

/* The first route that matches. Never NULL. `header_of` looks up a request header. */
typedef rp_str rp_config_header_of(void *context, const char *name);
const rp_route_config *rp_config_route(const rp_config *config, rp_str path, rp_str model,
                                       rp_str tenant, rp_str namespace_name,
                                       rp_config_header_of *header_of, void *context);

#endif
