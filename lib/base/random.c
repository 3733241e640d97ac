/* random.c - see random.h. */
#include "base/random.h"

#include <math.h>
#include <sys/random.h>

static uint64_t
next_splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void
rp_random_init(rp_random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        random->state[i] = next_splitmix(&seed);
}

static uint64_t
rotate_left(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

uint64_t
rp_random_next(rp_random *random)
{
    uint64_t *s = random->state;
    const uint64_t result = rotate_left(s[0] + s[3], 23) + s[0];
    const uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double
rp_random_uniform(rp_random *random)
{
    return (double)(rp_random_next(random) >> 11) * 0x1p-53;
}

uint64_t
rp_random_below(rp_random *random, uint64_t bound)
{
    /* Lemire, arXiv:1805.10941: multiply, and draw again in the short biased part. */
    __uint128_t product = (__uint128_t)rp_random_next(random) * bound;
    if ((uint64_t)product < bound) {
        const uint64_t biased = -bound % bound;
        while ((uint64_t)product < biased)
            product = (__uint128_t)rp_random_next(random) * bound;
    }
    return (uint64_t)(product >> 64);
}

double
rp_random_normal(rp_random *random)
{
    const double u = 1.0 - rp_random_uniform(random); /* in (0, 1], so the log is finite */
    const double v = rp_random_uniform(random);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

rp_status
rp_random_secret(void *out, size_t size)
{
    char *at = out;
    while (size) {
        const ssize_t got = getrandom(at, size, 0);
        if (got <= 0)
            return RP_ERR_IO;
        at += got;
        size -= (size_t)got;
    }
    return RP_OK;
}
