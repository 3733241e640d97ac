/* hash.c - see hash.h.
 *
 * The SHA256_* functions are deprecated in OpenSSL 3 in favour of EVP, which
 * allocates and looks up a provider for every hash (about 0.5 us more). A key
 * is computed for every request, so we stay with the plain ones. */
#define OPENSSL_SUPPRESS_DEPRECATED
#define XXH_INLINE_ALL
#include "base/hash.h"
#include "base/bytes.h"

#include <openssl/crypto.h>
#include <xxhash.h>

void
rp_sha256_init(rp_sha256 *hash)
{
    SHA256_Init(&hash->context);
}

void
rp_sha256_update(rp_sha256 *hash, rp_str bytes)
{
    if (bytes.len)
        SHA256_Update(&hash->context, bytes.ptr, bytes.len);
}

void
rp_sha256_update_field(rp_sha256 *hash, rp_str field)
{
    char size[8];
    rp_store_le64(size, field.len);
    SHA256_Update(&hash->context, size, sizeof size);
    rp_sha256_update(hash, field);
}

void
rp_sha256_final(rp_sha256 *hash, uint8_t out[32])
{
    SHA256_Final(out, &hash->context);
}

void
rp_sha256_of(rp_str bytes, uint8_t out[32])
{
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update(&hash, bytes);
    rp_sha256_final(&hash, out);
}

void
rp_hmac_sha256(rp_str key, rp_str bytes, uint8_t out[32])
{
    uint8_t block[64] = { 0 };
    if (key.len > sizeof block)
        rp_sha256_of(key, block);
    else if (key.len)
        memcpy(block, key.ptr, key.len);

    rp_sha256 hash;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36;
    rp_sha256_init(&hash);
    rp_sha256_update(&hash, (rp_str){ (char *)block, sizeof block });
    rp_sha256_update(&hash, bytes);
    rp_sha256_final(&hash, out);

    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    rp_sha256_init(&hash);
    rp_sha256_update(&hash, (rp_str){ (char *)block, sizeof block });
    rp_sha256_update(&hash, (rp_str){ (char *)out, 32 });
    rp_sha256_final(&hash, out);
    OPENSSL_cleanse(block, sizeof block);
}

bool
rp_equal_constant_time(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}

uint64_t
rp_hash64(rp_str bytes)
{
    return XXH3_64bits(bytes.len ? bytes.ptr : "", bytes.len);
}

uint64_t
rp_hash64_seeded(rp_str bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.len ? bytes.ptr : "", bytes.len, seed);
}
