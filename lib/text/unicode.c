/* unicode.c - UTF-8 by hand, canonical decomposition and composition.
 *
 * Decompositions and compositions are found by bisection: they are rare, and the
 * flags say beforehand whether to look. Hangul is computed (Unicode 15, 3.12). */
#include "text/unicode.h"

enum {
    HANGUL_S = 0xac00, HANGUL_L = 0x1100, HANGUL_V = 0x1161, HANGUL_T = 0x11a7,
    HANGUL_L_COUNT = 19, HANGUL_V_COUNT = 21, HANGUL_T_COUNT = 28,
    HANGUL_S_COUNT = HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT,
};

uint32_t
rp_utf8_next(const char **at, const char *end)
{
    const uint8_t *p = (const uint8_t *)*at;
    const size_t left = (size_t)(end - *at);
    const uint8_t lead = p[0];
    uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
    size_t more;
    uint32_t point;

    *at += 1;
    if (lead < 0x80)
        return lead;
    if (lead >= 0xc2 && lead <= 0xdf) {
        more = 1;
        point = lead & 0x1f;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        more = 2;
        point = lead & 0x0f;
        low = lead == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
        high = lead == 0xed ? 0x9f : 0xbf; /* no surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        more = 3;
        point = lead & 0x07;
        low = lead == 0xf0 ? 0x90 : 0x80;
        high = lead == 0xf4 ? 0x8f : 0xbf; /* nothing above U+10FFFF */
    } else {
        return RP_UNICODE_REPLACEMENT;
    }
    for (size_t i = 1; i <= more; i++) {
        if (i >= left || p[i] < low || p[i] > high)
            return RP_UNICODE_REPLACEMENT;
        point = point << 6 | (p[i] & 0x3f);
        *at += 1;
        low = 0x80;
        high = 0xbf;
    }
    return point;
}

uint32_t
rp_utf8_last(const char *start, const char *at)
{
    const char *p = at - 1;
    while (p > start && ((uint8_t)*p & 0xc0) == 0x80)
        p--;
    return rp_utf8_next(&p, at);
}

size_t
rp_utf8_put(uint32_t point, char *out)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xc0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xe0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (point & 0x3f));
    return 4;
}

static size_t
decompose_hangul(uint32_t point, uint32_t *out)
{
    const uint32_t s = point - HANGUL_S;
    out[0] = HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT);
    out[1] = HANGUL_V + s % (HANGUL_V_COUNT * HANGUL_T_COUNT) / HANGUL_T_COUNT;
    out[2] = HANGUL_T + s % HANGUL_T_COUNT;
    return out[2] == HANGUL_T ? 2 : 3;
}

size_t
rp_unicode_decompose(uint32_t point, uint32_t *out)
{
    out[0] = point;
    if (!(rp_unicode_of(point)->flags & RP_UNICODE_DECOMPOSES))
        return 1;
    if (point >= HANGUL_S && point < HANGUL_S + HANGUL_S_COUNT)
        return decompose_hangul(point, out);
    size_t low = 0, high = rp_unicode_decomposition_count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (rp_unicode_decompositions[middle].point < point)
            low = middle + 1;
        else
            high = middle;
    }
    const rp_unicode_decomposition *found = &rp_unicode_decompositions[low];
    for (size_t i = 0; i < found->count; i++)
        out[i] = rp_unicode_parts[found->at + i];
    return found->count;
}

uint32_t
rp_unicode_compose(uint32_t first, uint32_t second)
{
    if (first >= HANGUL_L && first < HANGUL_L + HANGUL_L_COUNT)
        return second >= HANGUL_V && second < HANGUL_V + HANGUL_V_COUNT
                   ? HANGUL_S + ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) *
                                    HANGUL_T_COUNT
                   : 0;
    if (first >= HANGUL_S && first < HANGUL_S + HANGUL_S_COUNT)
        return (first - HANGUL_S) % HANGUL_T_COUNT == 0 && second > HANGUL_T &&
                       second < HANGUL_T + HANGUL_T_COUNT
                   ? first + (second - HANGUL_T)
                   : 0;
    size_t low = 0, high = rp_unicode_composition_count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const rp_unicode_composition *row = &rp_unicode_compositions[middle];
        if (row->first < first || (row->first == first && row->second < second))
            low = middle + 1;
        else
            high = middle;
    }
    if (low < rp_unicode_composition_count && rp_unicode_compositions[low].first == first &&
        rp_unicode_compositions[low].second == second)
        return rp_unicode_compositions[low].composed;
    return 0;
}
