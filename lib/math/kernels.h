/* kernels.h - one table of number kernels per instruction set, chosen at start.
 *
 * The plain C table is the oracle of all others. A tier implements what it is good
 * at and takes the rest from the tier below. Tiers are chosen by CPU feature bits,
 * never by model number, and can be overridden by name (setting, REPRISE_TIER).
 *
 * Shapes are row-major unless said otherwise. Nothing allocates.
 *
 * Packed weights: a matrix W (N, K), as a Linear layer stores it, becomes panels of
 * `panel` output columns: [N/panel][K][panel], the last panel filled up with zeros.
 * A panel is read from front to back once for every block of rows.
 *
 * Threads: tables are immutable; kernels are pure functions. */
#ifndef RP_MATH_KERNELS_H
#define RP_MATH_KERNELS_H

#include <reprise/status.h>
#include <reprise/types.h>

enum {
    RP_PANEL_MAX = 64, /* columns of the widest panel of any tier */
};

/* How numbers are held in a product; sums are always f32 (int8: exact integers first).
 *   f32   as they are
 *   bf16  a and W rounded to bfloat16 (8 bits of precision), to nearest, ties to even; or, in
 *         tiers that multiply whole numbers of 16 bits faster (`whole`), to steps: of W's
 *         column 2047 either way, of a's row as many as its sum of sizes allows (4,000 to
 *         32,767), which is finer for all but the smallest numbers
 *   int8  W symmetric with a scale for each output column; a asymmetric with a scale and
 *         a zero point for each row. A few columns of a that are much larger than the
 *         others (`outliers`) stay out of it and are multiplied in f32. */
typedef enum rp_class { RP_CLASS_F32, RP_CLASS_BF16, RP_CLASS_INT8 } rp_class;
enum { RP_CLASSES = 3, RP_OUTLIERS_MAX = 8 };

/* Rows of `a` in the form that a class's product reads; made by rp_kernels.prepare.
 * For f32 that is the rows themselves. */
typedef struct rp_rows {
    const void *values; /* 64-byte aligned unless f32 */
    size_t stride;      /* bytes from row to row */
    const float *scales;    /* int8 and whole: of one step, for each row */
    /* int8 only; for each row: */
    const int32_t *zeros;   /* the step that means 0 */
    const float *outliers;  /* (rows, outlier_count): what was left out */
} rp_rows;

/* Packed weights of one product. */
typedef struct rp_weights {
    size_t columns, depth; /* N, K */
    const void *values;    /* packed for the class and tier; 64-byte aligned */
    const float *bias;     /* N rounded up to whole panels, as all below; 64-byte aligned */
    const float *scales;   /* int8 and whole: of each column */
    /* int8 only; for each column: */
    const float *sums;     /* of its weights */
    size_t outlier_count;
    const uint16_t *outlier_at; /* (outlier_count): which of a's K numbers */
    const float *outliers;      /* (outlier_count, N): their weights, which are 0 in values */
} rp_weights;

/* out = epilogue(a * W^T + bias). */
typedef struct rp_matmul {
    size_t rows; /* M */
    rp_rows a;   /* (M, K) */
    const rp_weights *by;
    const float *residual; /* (M, N), added last, or NULL; may be out itself */
    size_t residual_stride; /* numbers from row to row */
    bool gelu;  /* x * (1 + erf(x / sqrt(2))) / 2, before the residual */
    float *out; /* (M, N); may not overlap a */
    size_t out_stride;
} rp_matmul;

/* Self-attention of one sequence, all heads. Vaswani et al., arXiv:1706.03762, eq. 1.
 * Row t of qkv holds H*D queries, then as many keys, then as many values. */
typedef struct rp_attention {
    size_t tokens, heads, head_dim; /* T, H, D */
    const float *qkv;               /* (T, 3, H, D) */
    size_t qkv_stride;              /* numbers from token to token */
    float scale;                    /* 1 / sqrt(D) */
    size_t reach;   /* keys further away than this are not seen; SIZE_MAX: all are */
    float *out;     /* (T, H*D); may not overlap qkv */
    size_t out_stride;
    float *scratch; /* rp_attention_scratch_count numbers, 64-byte aligned */
} rp_attention;

typedef void rp_matmul_kernel(const rp_matmul *task);
/* Put rows of f32 (rows, depth), `stride` numbers apart, into the form of a class. `out` has
 * room for rp_prepared_size bytes and gives the fields of rp_rows; `in` is changed
 * for a moment (its outliers). */
typedef void rp_prepare_kernel(float *in, size_t stride, size_t rows, const rp_weights *by,
                               void *room, rp_rows *out);

/* The product of one class. Tiers that bring their own form of rows or panels bring all. */
typedef struct rp_product {
    size_t panel; /* columns of a panel of packed weights, at most RP_PANEL_MAX */
    rp_matmul_kernel *matmul; /* NULL in a tier's own table: as in the tier below */
    rp_prepare_kernel *prepare; /* NULL for f32 */
    bool whole; /* bf16: weights are packed by rp_pack_whole and have scales */
    /* For benchmarks: the innermost instructions of matmul, that many times over registers
     * only. Returns the multiplications and additions it did. NULL: not to be had. */
    uint64_t (*peak)(uint64_t times);
} rp_product;

typedef struct rp_kernels {
    const char *name; /* "plain", "avx2", "avx512", "neon" ... */
    rp_product product[RP_CLASSES];
    void (*attention)(const rp_attention *task);
    /* The same in whole numbers of 16 bits (attention16.h says exactly what): what the classes
     * bf16 and int8 compute. The same bits from every tier. */
    void (*attention16)(const rp_attention *task);
    /* out = (in - mean) / sqrt(variance + epsilon) * gain + bias, each row for itself;
     * in, out (rows, n) without gaps, may be the same. bias may be NULL. */
    void (*layer_norm)(const float *in, size_t rows, size_t n, const float *gain,
                       const float *bias, float epsilon, float *out);
    /* The gated unit of Shazeer, arXiv:2002.05202 (GEGLU): each row has 2n numbers, and
     * its first n become gelu(row[i]) * row[n + i]. `stride` numbers from row to row. */
    void (*gate)(float *rows, size_t stride, size_t count, size_t n);
    /* Sum of a[i] * b[i]. */
    float (*dot)(const float *a, const float *b, size_t n);
    /* For benchmarks: look at n numbers once, as fast as they come. */
    float (*read)(const float *from, size_t n);
} rp_kernels;

/* The best tier that this CPU (and operating system) can run, or the one that
 * REPRISE_TIER names. Where several bring a product of their own for the class, the one
 * that takes the least time for a small product, measured once (a few milliseconds).
 * Never NULL. */
const rp_kernels *rp_kernels_best(rp_class class);
/* Whether bf16 takes at most four fifths of f32's time for a small product on these tiers,
 * measured now (one or two milliseconds). */
bool rp_kernels_bf16_pays(const rp_kernels *f32, const rp_kernels *bf16);
/* By name; NULL if unknown or not runnable here. */
const rp_kernels *rp_kernels_find(const char *name);
/* All tiers runnable here, plain first; NULL after the last. */
const rp_kernels *rp_kernels_at(size_t at);

/* Numbers of scratch that rp_attention wants for sequences of up to `tokens`. */
size_t rp_attention_scratch_count(size_t tokens, size_t head_dim);

/* Bytes of room that prepare wants for that many rows of that depth, any class. */
size_t rp_prepared_size(size_t rows, size_t depth);

/* Columns with the last panel filled up. */
size_t rp_padded_columns(size_t columns, size_t panel);
/* Bytes of the packed values of a (columns, depth) matrix. */
size_t rp_packed_size(rp_class class, size_t columns, size_t depth, size_t panel);
/* Put `rows` rows of w (rows, depth) at columns first.. of packed values; several
 * calls make one matrix of several. Whatever is not written must be 0 before. Formats:
 *   f32   [N/panel][K][panel]
 *   bf16  [N/panel][K/2][panel][2], K rounded up */
void rp_pack_f32(const float *w, size_t rows, size_t depth, size_t first, size_t panel, float *out);
void rp_pack_bf16(const float *w, size_t rows, size_t depth, size_t first, size_t panel,
                  uint16_t *out);
/*   whole as bf16, in steps; fills scales as rp_pack_int8 does. */
void rp_pack_whole(const float *w, size_t rows, size_t first, size_t panel, const rp_weights *into);
/*   int8  [N/panel][K/4][panel][4], K rounded up
 * Also fills scales, sums and outliers of these columns; the numbers at outlier_at are
 * left out. `into` holds the rest (columns, depth, outlier_at); its pointers are
 * written through. */
void rp_pack_int8(float *w, size_t rows, size_t first, size_t panel, const rp_weights *into);

/* To bfloat16, to nearest, ties to even; NaN stays one. */
static inline uint16_t
rp_to_bf16(float value)
{
    union {
        float number;
        uint32_t bits;
    } x = { value };
    if ((x.bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(x.bits >> 16 | 0x40);
    return (uint16_t)((x.bits + 0x7fff + (x.bits >> 16 & 1)) >> 16);
}
static inline float
rp_from_bf16(uint16_t value)
{
    union {
        uint32_t bits;
        float number;
    } x = { (uint32_t)value << 16 };
    return x.number;
}

#endif
