/* bench_store.c - how fast the store takes, gives and starts.
 *
 *   bench_store FOLDER [ENTRIES [DIM [REPLY_BYTES]]]
 *
 * Fills a store with synthetic entries (prompts of about 80 bytes, replies of text-like
 * bytes that zstd halves, one window), then prints: puts a second with every commit,
 * reads in memory and from a warm disk, start time (table, then all vectors), and bytes
 * per entry. FOLDER must not exist; it is left behind for a second look. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"
#include "store/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FEW = 2000 };

typedef struct shape {
    const char *folder;
    size_t entries, dim, reply_size;
} shape;

static double
seconds_now(void)
{
    return (double)rp_monotonic_ns() * 1e-9;
}

static void
die(const char *what, const char *why)
{
    fprintf(stderr, "bench_store: %s: %s\n", what, why);
    exit(1);
}

static void
make_names(uint64_t number, rp_scope *scope, rp_key *key)
{
    const uint64_t scope_number = number % 1000;
    rp_sha256_of((rp_str){ (const char *)&scope_number, 8 }, scope->bytes);
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update(&hash, (rp_str){ (const char *)scope->bytes, 32 });
    rp_sha256_update(&hash, (rp_str){ (const char *)&number, 8 });
    rp_sha256_final(&hash, key->bytes);
}

static rp_status
put_number(rp_store *store, const shape *it, uint64_t number, char *reply, float *vector,
           rp_store_done *done)
{
    static const char *const words[] = { "the ", "cache ", "answer ", "of ", "prompt ", "is ",
                                         "model ", "a ", "token ", "not ", "and ", "similar " };
    rp_random random;
    rp_random_init(&random, number);
    size_t len = 0;
    while (len < it->reply_size) {
        const char *word = words[rp_random_below(&random, 12)];
        for (; *word && len < it->reply_size; word++)
            reply[len++] = *word;
    }
    double sum = 0;
    for (size_t i = 0; i < it->dim; i++) {
        vector[i] = (float)(rp_random_uniform(&random) - 0.5);
        sum += (double)vector[i] * vector[i];
    }
    for (size_t i = 0; i < it->dim; i++)
        vector[i] = (float)(vector[i] / sqrt(sum));
    char prompt[128];
    const int prompt_len = snprintf(prompt, sizeof prompt,
                                    "what does it mean that question number %llu is like the one "
                                    "before it?", (unsigned long long)number);
    rp_entry draft = {
        .created = 1700000000000000 + (rp_time)number,
        .expires = 1900000000000000 + (rp_time)number,
        .tenant = RP_STR("tenant"), .namespace_name = RP_STR("default"), .route = RP_STR("*"),
        .model = RP_STR("gpt-4o-mini"), .prompt = { prompt, (size_t)prompt_len },
        .scope_fields = RP_STR("{\"model\":\"gpt-4o-mini\"}"),
        .reply = { reply, it->reply_size },
        .dim = it->dim, .window_count = it->dim ? 1 : 0,
        .mean = it->dim ? vector : NULL, .windows = it->dim ? vector : NULL,
    };
    make_names(number, &draft.scope, &draft.key);
    rp_entry_id id;
    return rp_store_put(store, &draft, &id, done, NULL);
}

static rp_store *
open_store(const shape *it)
{
    rp_store *store;
    rp_error error = { { 0 } };
    const rp_store_options options = {
        .folder = it->folder,
        .disk_max = (uint64_t)64 << 30,
        .memory_max = (uint64_t)1 << 30,
        .fingerprint = it->dim ? "0123456789abcdef0123456789abcdef" : NULL,
        .dim = it->dim,
        .share_max = 1,
    };
    if (rp_store_open(&options, &store, &error) != RP_OK)
        die("open", error.text);
    return store;
}

static void
fill(rp_store *store, const shape *it)
{
    char *reply = malloc(it->reply_size + 1);
    float *vector = malloc((it->dim + 1) * sizeof *vector);
    double start = seconds_now();
    for (size_t i = 0; i < FEW / 10; i++) {
        if (put_number(store, it, i, reply, vector, NULL) != RP_OK || rp_store_sync(store) != RP_OK)
            die("put", "refused");
    }
    printf("one put and its commit      %8.0f us\n",
           (seconds_now() - start) / (FEW / 10) * 1e6);
    start = seconds_now();
    for (size_t i = FEW / 10; i < it->entries; i++) {
        rp_status status;
        while ((status = put_number(store, it, i, reply, vector, NULL)) == RP_ERR_BUSY)
            usleep(200);
        if (status != RP_OK)
            die("put", rp_status_name(status));
    }
    if (rp_store_sync(store) != RP_OK)
        die("sync", "failed");
    const double took = seconds_now() - start;
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    printf("puts in batches             %8.0f /s (%.1f s, %llu commits)\n",
           (double)(it->entries - FEW / 10) / took, took, (unsigned long long)stats.commits);
    free(reply);
    free(vector);
}

static void
measure_gets(rp_store *store, const shape *it, const char *name)
{
    rp_random random;
    rp_random_init(&random, 1);
    double exact_s = 0, get_s = 0;
    for (int i = 0; i < FEW; i++) {
        rp_scope scope;
        rp_key key;
        make_names(rp_random_below(&random, it->entries), &scope, &key);
        const double before = seconds_now();
        const rp_entry_id id = rp_store_exact(store, scope, key);
        const double between = seconds_now();
        const rp_entry *entry = id ? rp_store_get(store, scope, id, RP_PART_REPLY) : NULL;
        get_s += seconds_now() - between;
        exact_s += between - before;
        if (!entry)
            die("get", "an entry is missing");
        rp_entry_unref(entry);
    }
    printf("%s exact %.2f us, get %.2f us\n", name, exact_s / FEW * 1e6, get_s / FEW * 1e6);
}

static bool
sum_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    double *sum = context;
    (void)id;
    (void)scope;
    *sum += mean[dim - 1] + 1;
    return true;
}

int
main(int count, char **arguments)
{
    if (count < 2) {
        fprintf(stderr, "usage: bench_store FOLDER [ENTRIES [DIM [REPLY_BYTES]]]\n");
        return 2;
    }
    const shape it = {
        .folder = arguments[1],
        .entries = count > 2 ? strtoul(arguments[2], NULL, 10) : 100000,
        .dim = count > 3 ? strtoul(arguments[3], NULL, 10) : 384,
        .reply_size = count > 4 ? strtoul(arguments[4], NULL, 10) : 1500,
    };
    printf("%zu entries, %zu numbers, replies of %zu bytes\n", it.entries, it.dim, it.reply_size);
    rp_store *store = open_store(&it);
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    if (stats.entries == 0) {
        fill(store, &it);
        measure_gets(store, &it, "fresh (hot)                ");
    }
    rp_store_close(store);

    double start = seconds_now();
    store = open_store(&it);
    const double opened = seconds_now() - start;
    double sum = 0;
    start = seconds_now();
    rp_error error;
    if (rp_store_walk_vectors(store, sum_vector, &sum, &error) != RP_OK)
        die("walk", error.text);
    const double walked = seconds_now() - start;
    rp_store_stats_get(store, &stats);
    printf("start: table %.3f s, vectors %.3f s\n", opened, walked);
    printf("per entry: %.0f bytes of memory (tables), %.0f of disk\n",
           (double)stats.memory_bytes / (double)stats.entries,
           (double)stats.disk_bytes / (double)stats.entries);
    measure_gets(store, &it, "after a start (warm disk)  ");
    measure_gets(store, &it, "again (hot)                ");
    rp_store_close(store);
    return 0;
}
