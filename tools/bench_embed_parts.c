/* bench_embed_parts.c - `reprise bench embed --parts`: where the time of a forward pass goes.
 *
 * The model runs with a table of kernels that are those of its tier with a clock around each.
 * What no kernel does (embeddings, pooling, the time between calls) is the rest. Of each part
 * the least of all rounds is printed. One thread, tokens without texts. */
#include "base/bytes.h"
#include "math/kernels.h"
#include "model/encoder_model.h"
#include "tools/bench_embed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum bench_part {
    PART_QKV,
    PART_OUTPUT,
    PART_UP,
    PART_DOWN,
    PART_PREPARE,
    PART_ATTENTION,
    PART_NORM,
    PART_REST,
    PARTS,
} bench_part;

static const char *const part_names[PARTS] = { "query, key, value", "attention's output",
                                               "up and GELU",       "down",
                                               "rows prepared",     "attention",
                                               "layer norms",       "all else" };

static const rp_kernels *timed; /* of one thread; what the wrappers below call */
static rp_class timed_class;
static int64_t spent[PARTS];

/* The thread's CPU time, unless asking for it (a system call) takes too long beside what is
 * measured: short passes are seldom interrupted. */
static clockid_t clock_used;

static int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(clock_used, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
add_time(bench_part part, int64_t start)
{
    spent[part] += now_ns() - start;
}

/* A matrix is known by its shape and by what its epilogue does. */
static bench_part
name_product(const rp_matmul *task)
{
    if (task->gelu || task->by->columns > 3 * task->by->depth)
        return PART_UP;
    if (!task->residual)
        return PART_QKV;
    return task->by->depth == task->by->columns ? PART_OUTPUT : PART_DOWN;
}

static void
time_matmul(const rp_matmul *task)
{
    const int64_t start = now_ns();
    timed->product[timed_class].matmul(task);
    add_time(name_product(task), start);
}

static void
time_prepare(float *in, size_t stride, size_t rows, const rp_weights *by, void *room, rp_rows *out)
{
    const int64_t start = now_ns();
    timed->product[timed_class].prepare(in, stride, rows, by, room, out);
    add_time(PART_PREPARE, start);
}

static void
time_attention(const rp_attention *task)
{
    const int64_t start = now_ns();
    timed->attention(task);
    add_time(PART_ATTENTION, start);
}

static void
time_attention16(const rp_attention *task)
{
    const int64_t start = now_ns();
    timed->attention16(task);
    add_time(PART_ATTENTION, start);
}

static void
time_layer_norm(const float *in, size_t rows, size_t n, const float *gain, const float *bias,
                float epsilon, float *out)
{
    const int64_t start = now_ns();
    timed->layer_norm(in, rows, n, gain, bias, epsilon, out);
    add_time(PART_NORM, start);
}

static rp_kernels
wrap(rp_class class)
{
    rp_kernels table = *rp_kernels_best(class);
    timed = rp_kernels_best(class);
    timed_class = class;
    table.product[class].matmul = time_matmul;
    if (table.product[class].prepare)
        table.product[class].prepare = time_prepare;
    table.attention = time_attention;
    table.attention16 = time_attention16;
    table.layer_norm = time_layer_norm;
    return table;
}

/* Ids are spread over the vocabulary. */
static void
measure_cell(const rp_model *model, size_t texts, size_t tokens, uint64_t rounds, int64_t out[PARTS])
{
    const rp_model_config *config = rp_model_get_config(model);
    const size_t count = texts * tokens;
    int32_t *ids = calloc(count, sizeof *ids);
    uint32_t *starts = calloc(texts + 1, sizeof *starts);
    float **vectors = calloc(texts, sizeof *vectors);
    float *room = calloc(texts * config->dim, sizeof *room);
    float *scratch = aligned_alloc(64, (rp_model_scratch_count(model, count) * 4 + 63) / 64 * 64);
    clock_used = count < 100 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
    for (size_t part = 0; part < PARTS; part++)
        out[part] = INT64_MAX;
    for (size_t i = 0; ids && i < count; i++)
        ids[i] = (int32_t)((i + 1) * 7919 % config->vocabulary);
    for (size_t i = 0; starts && i <= texts; i++)
        starts[i] = (uint32_t)(i * tokens);
    for (size_t i = 0; vectors && i < texts; i++)
        vectors[i] = room + i * config->dim;
    const bool ready = ids && starts && vectors && room && scratch;
    const rp_token_batch batch = { .ids = ids, .starts = starts, .count = texts };
    for (uint64_t round = 0; ready && round < rounds; round++) {
        memset(spent, 0, sizeof spent);
        const int64_t start = now_ns();
        rp_model_encode(model, &batch, scratch, vectors);
        const int64_t whole = now_ns() - start;
        spent[PART_REST] = whole;
        for (size_t part = 0; part < PART_REST; part++)
            spent[PART_REST] -= spent[part];
        for (size_t part = 0; part < PARTS; part++)
            out[part] = RP_MIN(out[part], spent[part]);
    }
    free(ids);
    free(starts);
    free(vectors);
    free(room);
    free(scratch);
}

static void
print_parts(const char *name, const rp_bench_cell *cells, size_t count,
            const int64_t times[][PARTS])
{
    printf("%-5s %-20s", name, "microseconds (share)");
    for (size_t cell = 0; cell < count; cell++)
        printf("      %3zux%-4zu", cells[cell].texts, cells[cell].tokens);
    puts("");
    for (size_t part = 0; part <= PARTS; part++) {
        printf("      %-20s", part < PARTS ? part_names[part] : "together");
        for (size_t cell = 0; cell < count; cell++) {
            int64_t whole = 0;
            for (size_t i = 0; i < PARTS; i++)
                whole += times[cell][i];
            const int64_t here = part < PARTS ? times[cell][part] : whole;
            printf("%8.0f (%2.0f%%)", (double)here / 1e3,
                   whole ? 100.0 * (double)here / (double)whole : 0.0);
        }
        puts("");
    }
}

rp_status
rp_bench_parts(const char *folder, const char *class, const rp_bench_cell *cells, size_t count,
               uint64_t rounds, rp_error *error)
{
    static const struct {
        const char *name;
        rp_class class;
    } classes[] = { { "f32", RP_CLASS_F32 }, { "bf16", RP_CLASS_BF16 }, { "int8", RP_CLASS_INT8 } };
    rp_model_config config;
    char weights[4200];
    int64_t times[RP_BENCH_CELLS_MAX][PARTS] = { { 0 } };
    rp_status status = rp_model_config_read(folder, &config, error);
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    for (size_t c = 0; !status && c < RP_COUNT(classes); c++) {
        if (class && strcmp(class, classes[c].name) != 0)
            continue;
        const rp_kernels table = wrap(classes[c].class);
        rp_model *model = NULL;
        status = rp_model_open(weights, &config, &table, classes[c].class, &model, error);
        for (size_t cell = 0; !status && cell < count && cell < RP_BENCH_CELLS_MAX; cell++) {
            const size_t tokens = cells[cell].texts * cells[cell].tokens;
            measure_cell(model, cells[cell].texts, cells[cell].tokens,
                         tokens < 100 ? rounds * 20 : rounds * 2, times[cell]);
        }
        if (!status)
            print_parts(classes[c].name, cells, count, (const int64_t (*)[PARTS])times);
        rp_model_close(model);
    }
    return status;
}
