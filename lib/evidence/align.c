/* align.c - which words of two prompts match in order.
 *
 * The longest common subsequence of stems. Prompts that a gate may judge are nearly
 * equal, so the common beginning and end go first; what is left is solved with the
 * bit-parallel recurrence of Hyyro (2004) on rows of 64-bit words, keeping every row
 * to walk back through. For prompts of 15 words that is one 64-bit word a row. */
#include "comparison.h"

#include <string.h>

enum { ROW_WORDS = RP_ALIGN_WORDS_MAX / 64 };

static bool
words_match(const rp_word *a, const rp_word *b)
{
    /* Code is compared as written but for case: a flag is no plural. */
    if ((a->flags | b->flags) & (RP_WORD_CODE | RP_WORD_DIGITS))
        return a->hash == b->hash;
    return a->stem == b->stem;
}

/* Add with carry over a row. */
static void
step_row(const uint64_t *before, const uint64_t *match, size_t row_words, uint64_t *out)
{
    uint64_t carry = 0;
    for (size_t w = 0; w < row_words; w++) {
        const uint64_t v = before[w], u = v & match[w];
        const uint64_t sum = v + u;
        const uint64_t with_carry = sum + carry;
        carry = (uint64_t)(sum < v) | (uint64_t)(with_carry < sum);
        out[w] = with_carry | (v & ~match[w]);
    }
}

/* Align a[0..n) with b[0..m), both at most RP_ALIGN_WORDS_MAX, writing partners with
 * the offset `from`. Row j has a zero bit at i where the subsequence of a[0..i] and
 * b[0..j) is longer than that of a[0..i) and b[0..j). */
static size_t
align_middle(const rp_word *a, size_t n, const rp_word *b, size_t m, size_t from,
             rp_alignment *out)
{
    static const uint64_t ones[ROW_WORDS] = { ~0ull, ~0ull, ~0ull, ~0ull,
                                              ~0ull, ~0ull, ~0ull, ~0ull };
    uint64_t rows[RP_ALIGN_WORDS_MAX][ROW_WORDS];
    const size_t row_words = (n + 63) / 64;
    for (size_t j = 0; j < m; j++) {
        uint64_t match[ROW_WORDS] = { 0 };
        for (size_t i = 0; i < n; i++)
            match[i / 64] |= (uint64_t)words_match(&a[i], &b[j]) << (i % 64);
        step_row(j ? rows[j - 1] : ones, match, row_words, rows[j]);
    }
    size_t matches = 0, i = n, j = m;
    while (i > 0 && j > 0) {
        const bool here = !(rows[j - 1][(i - 1) / 64] >> ((i - 1) % 64) & 1);
        const bool above = j > 1 && !(rows[j - 2][(i - 1) / 64] >> ((i - 1) % 64) & 1);
        if (!here) {
            i--; /* a[i-1] adds nothing to any prefix of b[0..j) */
        } else if (above) {
            j--; /* the same length without b[j-1] */
        } else {
            i--, j--;
            out->a_to_b[from + i] = (int16_t)(from + j);
            out->b_to_a[from + j] = (int16_t)(from + i);
            matches++;
        }
    }
    return matches;
}

void
rp_align(const rp_features *a, const rp_features *b, rp_alignment *out)
{
    size_t n = a->words_count < RP_ALIGN_WORDS_MAX ? a->words_count : RP_ALIGN_WORDS_MAX;
    size_t m = b->words_count < RP_ALIGN_WORDS_MAX ? b->words_count : RP_ALIGN_WORDS_MAX;
    out->a_count = n;
    out->b_count = m;
    memset(out->a_to_b, 0xff, n * sizeof out->a_to_b[0]);
    memset(out->b_to_a, 0xff, m * sizeof out->b_to_a[0]);
    out->matches = 0;
    const size_t total = n + m;

    size_t front = 0;
    while (front < n && front < m && words_match(&a->words[front], &b->words[front])) {
        out->a_to_b[front] = out->b_to_a[front] = (int16_t)front;
        front++;
    }
    while (n > front && m > front && words_match(&a->words[n - 1], &b->words[m - 1])) {
        n--, m--;
        out->a_to_b[n] = (int16_t)m;
        out->b_to_a[m] = (int16_t)n;
        out->matches++;
    }
    out->matches += front;
    if (n > front && m > front)
        out->matches += align_middle(a->words + front, n - front, b->words + front, m - front,
                                     front, out);
    out->ratio = total ? 2.0f * (float)out->matches / (float)total : 1.0f;
}
