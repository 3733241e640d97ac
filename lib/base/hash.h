/* hash.h - one-way hashes for what faces attackers, fast ones for tables.
 *
 * SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104) come from OpenSSL, XXH3
 * from xxHash. Keys, scopes and credentials use the former; hash tables,
 * strata and checksums of our own files the latter.
 *
 * Threads: pure functions; an rp_sha256 is used by one thread at a time. */
#ifndef RP_BASE_HASH_H
#define RP_BASE_HASH_H

#include <openssl/sha.h>
#include <reprise/types.h>

typedef struct rp_sha256 {
    SHA256_CTX context;
} rp_sha256;

void rp_sha256_init(rp_sha256 *hash);
void rp_sha256_update(rp_sha256 *hash, rp_str bytes);
/* The length as 8 little-endian bytes, then the bytes: two different sequences
 * of fields never hash the same stream. */
void rp_sha256_update_field(rp_sha256 *hash, rp_str field);
void rp_sha256_final(rp_sha256 *hash, uint8_t out[32]);
void rp_sha256_of(rp_str bytes, uint8_t out[32]);

void rp_hmac_sha256(rp_str key, rp_str bytes, uint8_t out[32]);
/* True if equal; the time taken does not depend on where they differ. */
bool rp_equal_constant_time(const void *a, const void *b, size_t size);

uint64_t rp_hash64(rp_str bytes);
uint64_t rp_hash64_seeded(rp_str bytes, uint64_t seed);

#endif
