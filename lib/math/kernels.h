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

/* out = epilogue(a * W^T + bias). Rows of a and of out may be any distance apart. */
typedef struct rp_matmul {
    size_t rows, columns, depth; /* M, N, K */
    const float *a;              /* (M, K) */
    size_t a_stride;             /* numbers from row to row */
    const float *weights;        /* packed; 64-byte aligned */
    const float *bias;           /* N rounded up to whole panels; 64-byte aligned */
    const float *residual;       /* (M, N), added last, or NULL; may be out itself */
    size_t residual_stride;
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

typedef struct rp_kernels {
    const char *name; /* "plain", "avx2", "avx512", "neon" ... */
    size_t panel;     /* columns of a panel of packed weights, at most RP_PANEL_MAX */

    void (*matmul)(const rp_matmul *task);
    void (*attention)(const rp_attention *task);
    /* out = (in - mean) / sqrt(variance + epsilon) * gain + bias, each row for itself;
     * in, out (rows, n) without gaps, may be the same. bias may be NULL. */
    void (*layer_norm)(const float *in, size_t rows, size_t n, const float *gain,
                       const float *bias, float epsilon, float *out);
    /* Sum of a[i] * b[i]. */
    float (*dot)(const float *a, const float *b, size_t n);
} rp_kernels;

/* The best tier that this CPU (and operating system) can run, or the one that
 * REPRISE_TIER names. Never NULL. Cheap after the first call. */
const rp_kernels *rp_kernels_best(void);
/* By name; NULL if unknown or not runnable here. */
const rp_kernels *rp_kernels_find(const char *name);
/* All tiers runnable here, plain first; NULL after the last. */
const rp_kernels *rp_kernels_at(size_t at);

/* Numbers of scratch that rp_attention wants for sequences of up to `tokens`. */
size_t rp_attention_scratch_count(size_t tokens, size_t head_dim);

/* Numbers of a packed (columns, depth) matrix. */
size_t rp_packed_count(size_t columns, size_t depth, size_t panel);
/* Put `rows` rows of w (rows, depth) at columns first.. of a packed matrix; several
 * calls make one matrix of several. The padding of the last panel must be 0 before. */
void rp_pack(const float *w, size_t rows, size_t depth, size_t first, size_t panel, float *out);

#endif
