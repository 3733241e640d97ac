/* side_tables.h - the two small tables that every request asks: credentials and epochs.
 *
 * Both are copies of rows of the meta database (docs/file-format.md).
 *
 * Threads: the caller holds the store's lock. */
#ifndef RP_STORE_SIDE_TABLES_H
#define RP_STORE_SIDE_TABLES_H

#include <reprise/types.h>

/* ---- credentials: keyed hash -> when the upstream last accepted it ---------- */

typedef struct rp_credential {
    uint8_t hash[32];
    rp_time accepted;  /* 0: place is free */
    rp_time persisted; /* what the database has */
} rp_credential;

typedef struct rp_credentials {
    rp_credential *places; /* owned (mask + 1), or NULL */
    size_t mask, count;
} rp_credentials;

void rp_credentials_fini(rp_credentials *table);
/* NULL: unknown. */
rp_credential *rp_credentials_find(const rp_credentials *table, const uint8_t hash[32]);
/* Find or make. At RP_CREDENTIALS_MAX one of the oldest goes: its hash is copied to
 * `dropped` and *has_dropped set. NULL: no memory. */
rp_credential *rp_credentials_make(rp_credentials *table, const uint8_t hash[32],
                                   uint8_t dropped[32], bool *has_dropped);
bool rp_credentials_remove(rp_credentials *table, const uint8_t hash[32]);
size_t rp_credentials_size_bytes(const rp_credentials *table);

/* ---- epochs: name -> number ------------------------------------------------- */

typedef struct rp_epoch_row {
    rp_str name; /* owned; ptr NULL: place is free */
    uint64_t value;
} rp_epoch_row;

typedef struct rp_epochs {
    rp_epoch_row *places; /* owned (mask + 1), or NULL */
    size_t mask, count;
} rp_epochs;

void rp_epochs_fini(rp_epochs *table);
uint64_t rp_epochs_get(const rp_epochs *table, rp_str name); /* 0: never bumped */
/* Make room for one more name, so that the next set cannot fail. False: no memory. */
bool rp_epochs_reserve(rp_epochs *table);
/* False: no memory for a new name. */
bool rp_epochs_set(rp_epochs *table, rp_str name, uint64_t value);
size_t rp_epochs_size_bytes(const rp_epochs *table);

#endif
