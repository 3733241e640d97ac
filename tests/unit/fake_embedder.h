/* fake_embedder.h - a deterministic encoder for tests: words hashed into a vector.
 *
 * Each word adds its own random direction (128 numbers from a generator seeded with the
 * word), so texts that share words are similar: cosine is about the share of common words.
 * Windows are FAKE_WINDOW_WORDS words long. The word "zzunknown" counts as unknown; a text
 * with "zzbroken" fails. Immutable: safe from any thread. */
#ifndef RP_TESTS_FAKE_EMBEDDER_H
#define RP_TESTS_FAKE_EMBEDDER_H

#include "base/bytes.h"
#include "base/hash.h"
#include "base/random.h"
#include "cache/cache_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

enum { FAKE_DIM = 128, FAKE_WINDOW_WORDS = 64 };

static inline void
fake_add_word(rp_str word, float *vector)
{
    char lower[64];
    const size_t len = RP_MIN(word.len, sizeof lower);
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)tolower((unsigned char)word.ptr[i]);
    rp_random random;
    rp_random_init(&random, rp_hash64((rp_str){ lower, len }));
    for (size_t i = 0; i < FAKE_DIM; i++)
        vector[i] += (float)rp_random_normal(&random);
}

static inline void
fake_normalise(float *vector)
{
    double squares = 0;
    for (size_t i = 0; i < FAKE_DIM; i++)
        squares += (double)vector[i] * vector[i];
    if (squares == 0) {
        vector[0] = 1;
        return;
    }
    for (size_t i = 0; i < FAKE_DIM; i++)
        vector[i] = (float)(vector[i] / sqrt(squares));
}

static inline rp_status
fake_embed(void *context, rp_str text, float *storage, rp_embedding *out, rp_error *error)
{
    (void)context;
    size_t words = 0, windows = 1, unknown = 0;
    float *window = storage + FAKE_DIM;
    memset(window, 0, FAKE_DIM * sizeof *window);
    while (text.len) {
        const rp_str word = rp_str_trimmed(rp_str_split(&text, ' '));
        if (word.len == 0)
            continue;
        if (rp_str_equal(word, RP_STR("zzbroken")))
            return rp_fail(error, RP_ERR_CORRUPT, "a broken word");
        if (words && words % FAKE_WINDOW_WORDS == 0) {
            if (windows++ == RP_WINDOWS_MAX)
                return rp_fail(error, RP_ERR_LIMIT, "too many windows");
            window += FAKE_DIM;
            memset(window, 0, FAKE_DIM * sizeof *window);
        }
        unknown += rp_str_equal(word, RP_STR("zzunknown"));
        fake_add_word(word, window);
        words++;
    }
    memset(storage, 0, FAKE_DIM * sizeof *storage);
    for (size_t i = 0; i < windows; i++) {
        fake_normalise(storage + (i + 1) * FAKE_DIM);
        for (size_t j = 0; j < FAKE_DIM; j++)
            storage[j] += storage[(i + 1) * FAKE_DIM + j];
    }
    fake_normalise(storage);
    *out = (rp_embedding){ .window_count = windows,
                           .mean = storage,
                           .windows = storage + FAKE_DIM,
                           .unknown_share = words ? (double)unknown / (double)words : 0 };
    return RP_OK;
}

static inline rp_embedder
fake_embedder(const char *fingerprint)
{
    rp_embedder embedder = { .dim = FAKE_DIM, .embed = fake_embed };
    snprintf(embedder.fingerprint, sizeof embedder.fingerprint, "%s", fingerprint);
    return embedder;
}

/* For an encoder that must not serve (rp_embedder.self_test). */
static inline rp_status
fake_fail_self_test(void *context, rp_error *error)
{
    (void)context;
    return rp_fail(error, RP_ERR_CORRUPT, "all vectors are equal");
}

#define FAKE_FINGERPRINT "0123456789abcdef0123456789abcdef"
#define FAKE_FINGERPRINT_OTHER "fedcba9876543210fedcba9876543210"

#endif
