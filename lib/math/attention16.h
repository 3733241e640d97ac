/* attention16.h - attention in whole numbers of 16 bits, written once for all tiers that have
 * DOT_INT16. Included after tile.h.
 *
 * What the classes bf16 and int8 compute. Queries, keys and values of a head are steps of the
 * largest of each in the sequence, their scores and the sums of values exact integers:
 *
 *   q = round(Q / a), k = round(K / b), v = round(V / c)     |q|, |k|, |v| <= STEPS
 *   s[j] = sum over d of q[d] * k[j][d]                       exact
 *   p[j] = round(4096 * 2^((s[j] - max s) * a * b * scale / ln 2))
 *   out = c * sum over j of p[j] * v[j] / sum of p
 *
 * Twelve bits are finer than bf16's eight, and two products of 16 bits are one instruction of
 * the same rate as one f32 product (AVX-512 VNNI: measured; vdpbf16ps has half of that rate on
 * Intel). Since all sums are of integers and the rest is done number by number, every tier
 * gives the same bits, in whichever order it adds. Sums of values are exact for a chunk of keys,
 * and chunks begin at the same keys for all tiers and tokens. */

/* STEPS: sums must stay below 2^31. CHUNK * (4096 and rounding) * STEPS does, and STEPS^2 * D up to
 * 128 numbers of a head; beyond that there are fewer steps. */
enum { CHUNK = 128, STEPS = 4080, SHARE_BITS = 12 };

typedef uint32_t word_vec __attribute__((vector_size(4 * LANES)));

/* The head's numbers as steps, in the task's scratch. */
typedef struct head16 {
    int16_t *queries; /* (T, D) */
    int32_t *keys;    /* (D / 2, padded): numbers 2d (low) and 2d + 1 of each key */
    int32_t *values;  /* (T / 2, D): keys 2j (low) and 2j + 1 */
    int32_t *scores;  /* (rows of a tile, padded) */
    size_t padded;
    float exponent; /* of one step of a score, to base 2 */
    float lowest;   /* score below the largest with a share of nothing */
    float value;    /* of a step of values; NaN if something was not finite */
} head16;

/* Largest absolute value of D numbers of every token, as the bits of a float: those order
 * like integers, with infinity and NaN above all others. */
INLINE int32_t
find_largest_bits(const float *from, size_t stride, size_t tokens, size_t D)
{
    ivec largest = { 0 };
    for (size_t t = 0; t < tokens; t++)
        for (size_t d = 0; d < D; d += LANES) {
            const ivec bits = (ivec)load(from + t * stride + d) & 0x7fffffff;
            largest = IVECTOR_MAX(bits, largest);
        }
    FOLD(largest, IVECTOR_MAX);
    return largest[0];
}

/* Steps that a number of this size takes, and how much one is. */
INLINE float
measure_step(int32_t bits, float steps, float *inverse, bool *bad)
{
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    *bad = *bad || bits >= 0x7f800000;
    *inverse = largest > RP_NOTHING && bits < 0x7f800000 ? steps / largest : 0;
    return bits < 0x7f800000 ? largest / steps : 0;
}

INLINE float
count_steps(size_t D)
{
    return D <= 128 ? (float)STEPS : floorf(sqrtf((float)(INT32_MAX / (int32_t)D))) - 1;
}

typedef struct head16_steps {
    float query, key, value; /* steps to 1 */
} head16_steps;

INLINE head16_steps
measure_head(const rp_attention *task, const int32_t largest[3], head16 *out)
{
    head16_steps steps;
    bool bad = false;
    const float most = count_steps(task->head_dim);
    const float a = measure_step(largest[0], most, &steps.query, &bad);
    const float b = measure_step(largest[1], most, &steps.key, &bad);
    const float c = measure_step(largest[2], STEPS, &steps.value, &bad);
    out->exponent = a * b * (task->scale * 1.44269504F);
    out->lowest = out->exponent > 0 ? (-SHARE_BITS - 2.0F) / out->exponent : 0;
    out->value = bad ? NAN : c;
    return steps;
}

/* The step stands in the low 16 bits of each number. */
INLINE ivec
step_of(vec x, float steps)
{
    return (ivec)fused(x, all(steps), all(RP_ROUNDING));
}

INLINE void
store_half(int16_t *to, ivec steps)
{
    const half_vec narrow = (half_vec)NARROW_TO_16(steps);
    memcpy(to, &narrow, sizeof narrow);
}

/* 4096 * 2^(below * exponent) for below <= 0, plus RP_ROUNDING, so that it stands as an integer in
 * the low bits; less than a half is 0. x = n + r with |r| <= .5; a polynomial of degree 3,
 * fitted so that its largest relative error is least, leaves 8e-5, a third of a step. */
INLINE ivec
share_of(vec below, vec exponent, vec lowest)
{
    const vec rounding = all(RP_ROUNDING);
    below = VECTOR_MAX(lowest, below);
    const vec shifted = fused(below, exponent, rounding);
    const vec r = fused(below, exponent, rounding - shifted);
    vec y = all(4096 * 5.517166853e-02F);
    y = fused(y, r, all(4096 * 2.426111400e-01F));
    y = fused(y, r, all(4096 * 6.932609677e-01F));
    y = fused(y, r, all(4096 * 9.999280572e-01F));
    return (ivec)((vec)((ivec)y + ((ivec)shifted << 23)) + rounding);
}

/* Queries and values of token t, or of t and t + 1. */
INLINE void
convert_queries(const rp_attention *task, const size_t D, size_t head, float steps, int16_t *out)
{
    for (size_t t = 0; t < task->tokens; t++) {
        const float *from = task->qkv + t * task->qkv_stride + head * D;
        for (size_t d = 0; d < D; d += LANES)
            store_half(out + t * D + d, step_of(load(from + d), steps));
    }
}

INLINE void
convert_values(const rp_attention *task, const size_t D, size_t head, float steps, int32_t *out)
{
    for (size_t t = 0; t < task->tokens; t += 2, out += D) {
        const float *low = task->qkv + t * task->qkv_stride + (2 * task->heads + head) * D;
        const float *high = low + (t + 1 < task->tokens ? task->qkv_stride : 0);
        for (size_t d = 0; d < D; d += LANES) {
            const ivec first = step_of(load(low + d), steps) & 0xffff;
            const ivec second = step_of(load(high + d), steps) << 16;
            store((float *)(void *)(out + d), (vec)(first | second));
        }
    }
}

/* Keys j..j+LANES-1 as columns. Those behind the last are those of the last: their scores
 * are not looked at. */
INLINE void
convert_keys(const rp_attention *task, const size_t D, size_t head, float steps, size_t j,
             size_t padded, int32_t *out)
{
    const size_t last = task->tokens - 1;
    const float *from = task->qkv + (task->heads + head) * D;
    for (size_t d = 0; d < D; d += 2 * LANES) {
        vec rows[LANES];
        UNROLL for (size_t i = 0; i < LANES; i++) {
            const float *key = from + (j + i < last ? j + i : last) * task->qkv_stride + d;
            half_vec halves[2];
            halves[0] = (half_vec)NARROW_TO_16(step_of(load(key), steps));
            halves[1] = (half_vec)NARROW_TO_16(step_of(load(key + LANES), steps));
            memcpy(&rows[i], halves, sizeof halves);
        }
        transpose(rows);
        UNROLL for (size_t i = 0; i < LANES; i++)
            store((float *)(void *)(out + (d / 2 + i) * padded), rows[i]);
    }
}

/* sums (rows, vectors) = a (rows, 2 * steps) * b (steps, vectors * LANES), of pairs. */
INLINE void
multiply_pairs(const int16_t *a, size_t a_stride, const int32_t *b, size_t b_stride, size_t steps,
               vec sums[ROWS_MAX][VECTORS_MAX], const size_t rows, const size_t vectors)
{
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < vectors; v++)
            sums[r][v] = (vec){ 0 };
    for (const int16_t *end = a + 2 * steps; a < end; a += 2, b += b_stride) {
        vec columns[VECTORS_MAX];
        UNROLL for (size_t v = 0; v < vectors; v++)
            columns[v] = load((const float *)(const void *)b + v * LANES);
        UNROLL for (size_t r = 0; r < rows; r++) {
            const vec x = all_bits((const char *)(a + r * a_stride));
            UNROLL for (size_t v = 0; v < vectors; v++)
                DOT_INT16(sums[r][v], x, columns[v]);
        }
    }
}

INLINE void
score_keys(const head16 *head, const int16_t *queries, size_t D, size_t from, int32_t *out,
           size_t stride, const size_t rows, const size_t vectors)
{
    vec sums[ROWS_MAX][VECTORS_MAX];
    multiply_pairs(queries, D, head->keys + from, head->padded, D / 2, sums, rows, vectors);
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < vectors; v++)
            store((float *)(void *)(out + r * stride) + v * LANES, sums[r][v]);
}

/* Which of the keys j..j+LANES-1 are among first..last-1: all bits of those. */
INLINE ivec
mask_keys(size_t j, size_t first, size_t last)
{
    ivec at;
    for (size_t lane = 0; lane < LANES; lane++)
        at[lane] = (int32_t)lane;
    const int32_t low = (int32_t)first - (int32_t)j, high = (int32_t)last - (int32_t)j;
    return (at >= low) & (at < high);
}

/* The keys that token t sees are first..last-1. */
typedef struct reach16 {
    size_t first, last;
} reach16;

INLINE reach16
find_reach(const rp_attention *task, size_t t)
{
    const size_t first = t > task->reach ? t - task->reach : 0;
    const size_t last = task->tokens - t - 1 > task->reach ? t + task->reach + 1 : task->tokens;
    return (reach16){ first, last };
}

INLINE ivec
find_top(reach16 seen, const int32_t *score, size_t from, size_t to)
{
    ivec largest = (ivec){ 0 } + INT32_MIN;
    for (size_t j = from; j < to; j += LANES) {
        ivec own = (ivec)load((const float *)(const void *)(score + (j - from)));
        if (j < seen.first || j + LANES > seen.last) {
            const ivec mask = mask_keys(j, seen.first, seen.last);
            own = (own & mask) | (~mask & INT32_MIN);
        }
        largest = IVECTOR_MAX(own, largest);
    }
    return largest;
}

/* Scores become shares of 16 bits in the same place; those out of reach and of the padding get
 * none. Returns their sum in lanes. */
INLINE ivec
share_scores(reach16 seen, float exponent, float lowest, int32_t top, int32_t *score, size_t from,
             size_t to)
{
    const ivec none = (ivec)all(RP_ROUNDING);
    int16_t *shares = (int16_t *)(void *)score; /* a number is read before its place is used */
    /* Of the bits of whole numbers, which run over and come back. */
    word_vec sum = (word_vec)none * -(uint32_t)((to - from) / LANES);
    for (size_t j = from; j < to; j += LANES) {
        const ivec own = (ivec)load((const float *)(const void *)(score + (j - from)));
        const vec below = __builtin_convertvector(own, vec) - (float)top;
        ivec share = share_of(below, all(exponent), all(lowest));
        if (j < seen.first || j + LANES > seen.last) {
            const ivec mask = mask_keys(j, seen.first, seen.last);
            share = (share & mask) | (none & ~mask);
        }
        sum += (word_vec)share;
        store_half(shares + (j - from), share);
    }
    return (ivec)sum;
}

/* The rows of a tile, side by side: each waits for itself only. */
INLINE void
share_rows(const rp_attention *task, const head16 *head, size_t t, size_t from, size_t to,
           int32_t sums[ROWS_MAX], const size_t rows)
{
    const size_t stride = to - from;
    ivec vectors[ROWS_MAX];
    int32_t tops[ROWS_MAX];
    UNROLL for (size_t r = 0; r < rows; r++)
        vectors[r] = find_top(find_reach(task, t + r), head->scores + r * stride, from, to);
    UNROLL for (size_t r = 0; r < rows; r++) {
        FOLD(vectors[r], IVECTOR_MAX);
        tops[r] = vectors[r][0];
    }
    UNROLL for (size_t r = 0; r < rows; r++)
        vectors[r] = share_scores(find_reach(task, t + r), head->exponent, head->lowest, tops[r],
                                  head->scores + r * stride, from, to);
    UNROLL for (size_t r = 0; r < rows; r++) {
        FOLD(vectors[r], IVECTOR_ADD);
        sums[r] = vectors[r][0];
    }
}

/* out (rows, D) of one chunk, from column d on. */
INLINE void
sum_values(const head16 *head, const int16_t *shares, size_t stride, size_t from, size_t to, size_t D,
           size_t d, float *out, size_t out_stride, bool add, const size_t rows, const size_t vectors)
{
    vec sums[ROWS_MAX][VECTORS_MAX];
    multiply_pairs(shares, stride, head->values + from / 2 * D + d, D, (to - from + 1) / 2, sums,
                   rows, vectors);
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < vectors; v++) {
            float *to_row = out + r * out_stride + d + v * LANES;
            const vec sum = __builtin_convertvector((ivec)sums[r][v], vec);
            store(to_row, add ? load(to_row) + sum : sum);
        }
}

/* Rows t..t+rows-1; keys as attend_rows chooses them. */
INLINE void
attend_rows16(const rp_attention *task, const head16 *head, const size_t D, size_t at, size_t t,
              const size_t rows)
{
    const size_t nearest = t > task->reach ? t - task->reach : 0, end = t + rows;
    const size_t from = nearest / RP_ATTENTION_PAD * RP_ATTENTION_PAD;
    const size_t seen = task->tokens - end > task->reach ? end + task->reach : task->tokens;
    const size_t to = rp_attention_padded(seen), stride = to - from;
    const int16_t *queries = head->queries + t * D;
    size_t j = from;
    for (; j + PANEL <= to; j += PANEL)
        score_keys(head, queries, D, j, head->scores + (j - from), stride, rows, VECTORS_MAX);
    for (; VECTORS_MAX > 2 && j + 2 * LANES <= to; j += 2 * LANES)
        score_keys(head, queries, D, j, head->scores + (j - from), stride, rows,
                   VECTORS_MAX > 1 ? 2 : 1);
    for (; j < to; j += LANES)
        score_keys(head, queries, D, j, head->scores + (j - from), stride, rows, 1);
    int32_t sums[ROWS_MAX];
    share_rows(task, head, t, from, to, sums, rows);
    const int16_t *shares = (const int16_t *)(const void *)head->scores;
    float *out = task->out + t * task->out_stride + at * D;
    const size_t known = to < task->tokens ? to : task->tokens;
    for (size_t chunk = from; chunk < known;) {
        const size_t border = (chunk / CHUNK + 1) * CHUNK, next = border < known ? border : known;
        size_t d = 0;
        for (; d + PANEL <= D; d += PANEL)
            sum_values(head, shares + (chunk - from), 2 * stride, chunk, next, D, d, out,
                       task->out_stride, chunk > from, rows, VECTORS_MAX);
        for (; VECTORS_MAX > 2 && d + 2 * LANES <= D; d += 2 * LANES)
            sum_values(head, shares + (chunk - from), 2 * stride, chunk, next, D, d, out,
                       task->out_stride, chunk > from, rows, VECTORS_MAX > 1 ? 2 : 1);
        for (; d < D; d += LANES)
            sum_values(head, shares + (chunk - from), 2 * stride, chunk, next, D, d, out,
                       task->out_stride, chunk > from, rows, 1);
        chunk = next;
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        const float share = head->value / (float)sums[r];
        for (size_t d = 0; d < D; d += LANES)
            store(out + r * task->out_stride + d, load(out + r * task->out_stride + d) * share);
    }
}

INLINE void
attend_heads16(const rp_attention *task, const size_t D)
{
    const size_t T = task->tokens, padded = rp_attention_padded(T);
    head16 head = { .padded = padded, .keys = (int32_t *)(void *)task->scratch };
    head.values = head.keys + D / 2 * padded;
    head.scores = head.values + D / 2 * padded;
    head.queries = (int16_t *)(void *)(head.scores + ROWS_MAX * padded);
    for (size_t at = 0; at < task->heads; at++) {
        int32_t largest[3];
        for (size_t part = 0; part < 3; part++)
            largest[part] = find_largest_bits(task->qkv + (part * task->heads + at) * D,
                                              task->qkv_stride, T, D);
        const head16_steps steps = measure_head(task, largest, &head);
        convert_queries(task, D, at, steps.query, head.queries);
        convert_values(task, D, at, steps.value, head.values);
        for (size_t j = 0; j < padded; j += LANES)
            convert_keys(task, D, at, steps.key, j, padded, head.keys + j);
        const size_t blocks = (T + ROWS_MAX - 1) / ROWS_MAX;
        size_t t = 0;
        for (size_t block = 0; block < blocks; block++) {
            const size_t rows = (T - t + blocks - block - 1) / (blocks - block);
            switch (rows) {
#define CASE(n) case n: attend_rows16(task, &head, D, at, t, n); break;
            CASES
#undef CASE
            default:
                break;
            }
            t += rows;
        }
    }
}

/* The width of MiniLM's heads as a constant: a sixth less time for short texts. Sanitizers do
 * without it: it would double what their compilers work at longest. */
KERNEL void
attention16(const rp_attention *task)
{
    if (task->head_dim % (2 * LANES))
        FALLBACK_ATTENTION16(task);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    else if (task->head_dim == 32)
        attend_heads16(task, 32);
#endif
    else
        attend_heads16(task, task->head_dim);
}
