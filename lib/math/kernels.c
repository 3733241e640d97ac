/* kernels.c - which tiers this machine can run, and the packing of weights. */
#include "math/kernels_internal.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIERS_MAX = 12 };

/* What this machine can run, in the order of the instruction sets; each complete. */
static rp_kernels tiers[TIERS_MAX];
static bool brings[TIERS_MAX][RP_CLASSES]; /* a product of its own */
static size_t tier_count;
static pthread_once_t listed = PTHREAD_ONCE_INIT;

static void
add_tier(const rp_kernels *own)
{
    rp_kernels *tier = &tiers[tier_count];
    *tier = *own;
    for (size_t class = 0; class < RP_CLASSES; class++) {
        brings[tier_count][class] = own->product[class].matmul;
        if (!own->product[class].matmul)
            tier->product[class] = tier[-1].product[class];
    }
    if (!own->attention)
        tier->attention = tier[-1].attention;
    if (!own->attention16)
        tier->attention16 = tier[-1].attention16;
    if (!own->layer_norm)
        tier->layer_norm = tier[-1].layer_norm;
    if (!own->gate)
        tier->gate = tier[-1].gate;
    if (!own->dot)
        tier->dot = tier[-1].dot;
    if (!own->read)
        tier->read = tier[-1].read;
    tier_count++;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* __builtin_cpu_supports of gcc 12 does not know AVX-VNNI: CPUID(7, 1).EAX bit 4. */
static bool
has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1;
}

/* AMX with both products: CPUID(7, 0).EDX bits 22, 24 and 25, the tiles' state kept by the
 * system (XCR0 bits 17 and 18), and its permission for this process and all threads that it
 * will start (Linux, Documentation/arch/x86/xstate.rst). */
static bool
has_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) /* OSXSAVE */
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & d >> 24 & d >> 25 & 1) ||
        (low >> 17 & 3) != 3)
        return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static void
list_tiers(void)
{
    add_tier(&rp_kernels_plain);
#if defined(__x86_64__)
    /* These builtins look at the operating system's support (XCR0) too. */
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2)
        add_tier(&rp_kernels_avx2);
    if (avx2 && has_avxvnni())
        add_tier(&rp_kernels_avxvnni);
    if (avx2 && __builtin_cpu_supports("avx512f")) {
        add_tier(&rp_kernels_avx512);
        if (__builtin_cpu_supports("avx512vnni")) {
            /* The tier below it may be the fastest for bf16: its attention is this one's too. */
            tiers[tier_count - 1].attention16 = rp_kernels_avx512vnni.attention16;
            add_tier(&rp_kernels_avx512vnni);
        }
        if (__builtin_cpu_supports("avx512bf16"))
            add_tier(&rp_kernels_avx512bf16);
        if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") && has_amx())
            add_tier(&rp_kernels_amx);
    }
#elif defined(__aarch64__)
    add_tier(&rp_kernels_neon); /* part of the base architecture */
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        add_tier(&rp_kernels_neondot);
    if (getauxval(AT_HWCAP2) & HWCAP2_I8MM)
        add_tier(&rp_kernels_neoni8mm);
#endif
}

const rp_kernels *
rp_kernels_at(size_t at)
{
    pthread_once(&listed, list_tiers);
    return at < tier_count ? &tiers[at] : NULL;
}

const rp_kernels *
rp_kernels_find(const char *name)
{
    pthread_once(&listed, list_tiers);
    for (size_t i = 0; i < tier_count; i++)
        if (strcmp(tiers[i].name, name) == 0)
            return &tiers[i];
    return NULL;
}

/* ---- timing ---- */

static int64_t
thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

enum { TRIAL_ROWS = 16, TRIAL_SIZE = 384, TRIALS = 5 }; /* a short question's product */

/* The shortest of a few products; INT64_MAX if there is no memory to try. Numbers are all
 * zero, which takes as long as any others. */
static int64_t
time_product(const rp_kernels *tier, rp_class class, size_t trials)
{
    const rp_product *product = &tier->product[class];
    const size_t padded = rp_padded_columns(TRIAL_SIZE, product->panel);
    const size_t packed = rp_packed_size(class, TRIAL_SIZE, TRIAL_SIZE, product->panel);
    const size_t room = rp_prepared_size(TRIAL_ROWS, TRIAL_SIZE), wide = padded * sizeof(float);
    const size_t activations = TRIAL_ROWS * TRIAL_SIZE * sizeof(float);
    char *memory = aligned_alloc(64, (packed + room + 3 * wide + 2 * activations + 640) / 64 * 64);
    int64_t best = INT64_MAX;
    if (!memory)
        return best;
    memset(memory, 0, packed + room + 3 * wide + 2 * activations + 512);
    char *at = memory + (packed + 63) / 64 * 64;
    float *a = (float *)(void *)(at + 3 * wide);
    void *prepared = (char *)a + 2 * activations;
    const rp_weights by = { .columns = TRIAL_SIZE, .depth = TRIAL_SIZE, .values = memory,
                            .bias = (float *)(void *)at, .scales = (float *)(void *)(at + wide),
                            .sums = (float *)(void *)(at + 2 * wide) };
    rp_matmul task = { .rows = TRIAL_ROWS, .a = { .values = a, .stride = TRIAL_SIZE * sizeof(float) },
                       .by = &by, .out = a + TRIAL_ROWS * TRIAL_SIZE, .out_stride = TRIAL_SIZE };
    for (size_t i = 0; i < trials; i++) {
        const int64_t start = thread_ns();
        if (product->prepare)
            product->prepare(a, TRIAL_SIZE, TRIAL_ROWS, &by, prepared, &task.a);
        product->matmul(&task);
        const int64_t taken = thread_ns() - start;
        best = taken < best ? taken : best;
    }
    free(memory);
    return best;
}

/* Of the tiers with a product of their own for the class. The plain one only where
 * there is no other: it is an oracle. */
static const rp_kernels *
choose_fastest(rp_class class)
{
    const rp_kernels *best = &tiers[tier_count - 1];
    int64_t best_ns = INT64_MAX;
    for (size_t i = 1; i < tier_count; i++) {
        if (!brings[i][class])
            continue;
        const int64_t ns = time_product(&tiers[i], class, TRIALS);
        if (ns <= best_ns) {
            best = &tiers[i];
            best_ns = ns;
        }
    }
    return best;
}

static const rp_kernels *chosen[RP_CLASSES];
static pthread_once_t timed = PTHREAD_ONCE_INIT;

static void
choose_all(void)
{
    pthread_once(&listed, list_tiers);
    for (size_t class = 0; class < RP_CLASSES; class++)
        chosen[class] = choose_fastest((rp_class)class);
}

const rp_kernels *
rp_kernels_best(rp_class class)
{
    const char *wanted = getenv("REPRISE_TIER");
    const rp_kernels *named = wanted && *wanted ? rp_kernels_find(wanted) : NULL;
    if (named)
        return named;
    pthread_once(&timed, choose_all);
    return chosen[class];
}

/* More trials than for choosing a tier: a class is kept for as long as a store lives. */
bool
rp_kernels_bf16_pays(const rp_kernels *f32, const rp_kernels *bf16)
{
    enum { MANY = 20 };
    pthread_once(&listed, list_tiers);
    const int64_t of = time_product(f32, RP_CLASS_F32, MANY);
    return time_product(bf16, RP_CLASS_BF16, MANY) <= of / 5 * 4;
}

/* ---- sizes ---- */

size_t
rp_attention_scratch_count(size_t tokens, size_t head_dim)
{
    /* attention16: keys and values as pairs, queries singly, and scores; f32 needs less. */
    return (head_dim + (head_dim + 1) / 2 + RP_ATTENTION_ROWS) * rp_attention_padded(tokens);
}

size_t
rp_prepared_size(size_t rows, size_t depth)
{
    const size_t stride = (depth * sizeof(float) + 63) / 64 * 64;
    return rows * (stride + sizeof(float) + sizeof(int32_t) + RP_OUTLIERS_MAX * sizeof(float));
}

size_t
rp_padded_columns(size_t columns, size_t panel)
{
    return (columns + panel - 1) / panel * panel;
}

size_t
rp_packed_size(rp_class class, size_t columns, size_t depth, size_t panel)
{
    static const size_t together[RP_CLASSES] = { 1, 2, 4 }; /* numbers in four bytes */
    const size_t steps = (depth + together[class] - 1) / together[class];
    return rp_padded_columns(columns, panel) * steps * 4;
}

/* ---- packing ---- */

/* How many of the rows from `row` on go into one panel, and where in it. */
static size_t
split_rows(size_t row, size_t rows, size_t first, size_t panel, size_t *base, size_t *within)
{
    const size_t column = first + row;
    *within = column % panel;
    *base = column - *within;
    return rows - row < panel - *within ? rows - row : panel - *within;
}

/* Sixteen steps of depth at a time: the piece of a panel that is written to stays
 * in the first-level cache while its rows come in whole cache lines. */
void
rp_pack_f32(const float *w, size_t rows, size_t depth, size_t first, size_t panel, float *out)
{
    enum { STEP = 16 };
    for (size_t row = 0, here; row < rows; row += here) {
        size_t base, within;
        here = split_rows(row, rows, first, panel, &base, &within);
        float *to = out + base * depth + within;
        for (size_t k = 0; k < depth; k += STEP) {
            const size_t steps = depth - k < STEP ? depth - k : STEP;
            for (size_t r = 0; r < here; r++) {
                const float *from = w + (row + r) * depth + k;
                for (size_t i = 0; i < steps; i++)
                    to[(k + i) * panel + r] = from[i];
            }
        }
    }
}

void
rp_pack_bf16(const float *w, size_t rows, size_t depth, size_t first, size_t panel, uint16_t *out)
{
    enum { STEP = 32 };
    for (size_t row = 0, here; row < rows; row += here) {
        size_t base, within;
        here = split_rows(row, rows, first, panel, &base, &within);
        uint16_t *to = out + base * ((depth + 1) / 2 * 2) + within * 2;
        for (size_t k = 0; k < depth; k += STEP) {
            const size_t end = depth - k < STEP ? depth : k + STEP;
            for (size_t r = 0; r < here; r++) {
                const float *from = w + (row + r) * depth;
                for (size_t i = k; i < end; i++)
                    to[i / 2 * 2 * panel + r * 2 + i % 2] = rp_to_bf16(from[i]);
            }
        }
    }
}

/* The largest |w|; NaN if any is not finite. Eight at a time, so that the compiler may use
 * vectors although it may not reorder by itself. */
static float
find_largest(const float *w, size_t n)
{
    float largest[8] = { 0 }, poison[8] = { 0 };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++) {
            const float size = fabsf(w[i + j]);
            largest[j] = size > largest[j] ? size : largest[j];
            poison[j] += w[i + j] * 0.0F;
        }
    for (; i < n; i++) {
        largest[0] = fabsf(w[i]) > largest[0] ? fabsf(w[i]) : largest[0];
        poison[0] += w[i] * 0.0F;
    }
    for (size_t j = 1; j < 8; j++) {
        largest[0] = largest[j] > largest[0] ? largest[j] : largest[0];
        poison[0] += poison[j];
    }
    return largest[0] + poison[0];
}

/* One row of weights as steps of max|w| / 127, four in a group, a group in each panel row.
 * Returns their sum. What is not finite becomes some step: the scale says so. */
static int32_t
write_steps(const float *w, size_t depth, float inverse, size_t panel, int8_t *out)
{
    int32_t sum = 0;
    for (size_t k = 0; k < depth; k += 4) {
        const size_t count = depth - k < 4 ? depth - k : 4;
        for (size_t i = 0; i < count; i++) {
            const float step = rp_round_product(w[k + i], inverse);
            const int8_t rounded = step >= -127 && step <= 127 ? (int8_t)step : 0;
            out[k * panel + i] = rounded;
            sum += rounded;
        }
    }
    return sum;
}

/* As many steps of a column that sums of products stay below 2^31: tile.h's prepare_whole sees
 * to the rest. */
void
rp_pack_whole(const float *w, size_t rows, size_t first, size_t panel, const rp_weights *into)
{
    const size_t depth = into->depth, deep = (depth + 1) / 2 * 2;
    float *scales = (float *)(uintptr_t)into->scales;
    for (size_t row = 0; row < rows; row++) {
        const size_t column = first + row;
        const float *from = w + row * depth;
        int16_t *to = (int16_t *)(uintptr_t)into->values + (column - column % panel) * deep +
                      column % panel * 2;
        const float largest = find_largest(from, depth);
        const float inverse = largest > RP_NOTHING ? RP_WHOLE_STEPS / largest : 0;
        scales[column] = largest / RP_WHOLE_STEPS;
        for (size_t k = 0; k < depth; k++) {
            const float step = rp_round_product(from[k], inverse);
            const bool is_one = step >= -RP_WHOLE_STEPS && step <= RP_WHOLE_STEPS;
            to[k / 2 * 2 * panel + k % 2] = is_one ? (int16_t)step : 0;
        }
    }
}

void
rp_pack_int8(float *w, size_t rows, size_t first, size_t panel, const rp_weights *into)
{
    const size_t depth = into->depth, deep = (depth + 3) / 4 * 4;
    const size_t padded = rp_padded_columns(into->columns, panel);
    float *scales = (float *)(uintptr_t)into->scales, *outliers = (float *)(uintptr_t)into->outliers;
    float *sums = (float *)(uintptr_t)into->sums;
    for (size_t row = 0; row < rows; row++) {
        const size_t column = first + row;
        float *from = w + row * depth;
        for (size_t i = 0; i < into->outlier_count; i++) {
            outliers[i * padded + column] = from[into->outlier_at[i]];
            from[into->outlier_at[i]] = 0;
        }
        const float largest = find_largest(from, depth);
        int8_t *to = (int8_t *)(uintptr_t)into->values + (column - column % panel) * deep +
                     column % panel * 4;
        scales[column] = largest / 127;
        const int32_t sum = write_steps(from, depth, largest > 0 ? 127 / largest : 0, panel, to);
        sums[column] = (float)sum * scales[column];
    }
}
