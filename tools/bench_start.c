/* bench_start.c - `reprise bench start`: how long a start takes with many entries.
 *
 * Fills a folder once, with texts of a file and vectors of another (`reprise embed` makes these),
 * all in one scope, which is the hardest case: then opens it several times, as the server does,
 * and says when the exact tier answers, when the index is loaded, and when its inverted lists are
 * made. The file has been written just now or was read before, so the page cache is warm.
 *
 * One entry is stored through the cache; the others are put past it as that entry with another
 * prompt, key and vector, because encoding a million texts takes half an hour. */
#include "base/arena.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/npy.h"
#include "cache/lookup.h"
#include "json/json.h"
#include "store/entry.h"
#include "store/store.h"
#include "tools/bench_vectors.h"
#include "tools/command.h"
#include "tools/input.h"

#include <getopt.h>
#include <math.h>
#include <reprise/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ASKED = 100, TEXT_SIZE_MAX = 4096, WAIT_MAX_S = 600 };
static const char first_prompt[] = "what does zebra mean to those who start";
static const char reply_text[] = "This is the answer that a service gave when somebody asked this for the first "
                                 "time; it is about as long as the answers of a support desk are, two sentences.";

typedef struct start_options {
    const char *data, *texts, *vectors, *model;
    size_t count, rounds;
    rp_precision precision;
    bool json;
} start_options;

typedef struct start_row {
    double exact_s, ready_s, lists_s; /* since the call of open */
    double ready_cpu_s;               /* of all threads until ready */
    double flat_ms, lists_ms;         /* look-ups that are no exact hits: median, with the encoder */
    size_t found;                     /* of ASKED, exactly, before the index was loaded or after */
    uint64_t entries, vectors, lists, index_bytes, memory_bytes;
} start_row;

static double
now_s(void)
{
    return (double)rp_monotonic_ns() / 1e9;
}

static double
cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static rp_cache_request
ask(rp_str prompt)
{
    return (rp_cache_request){ .tenant = RP_STR("bench"), .prompt = prompt };
}

static rp_status
open_cache(const start_options *o, rp_cache **out, rp_error *error)
{
    const rp_encoder_options with = { .precision = o->precision };
    const rp_cache_options options = { .folder = o->data, .model = o->model, .encoder_options = &with,
                                       .disk_max = (uint64_t)64 << 30, .share_max = 1,
                                       .memory_max = (uint64_t)2 << 30, .entries_max = o->count + 1024,
                                       .load_in_background = true };
    return rp_cache_open(&options, out, error);
}

/* ---- filling ---------------------------------------------------------------------------- */

typedef struct filler {
    const start_options *o;
    rp_entry *pattern; /* the entry that was stored through the cache; referenced */
    rp_npy vectors;
    rp_input *texts;   /* NULL: numbered ones */
    size_t real_count;
} filler;

static bool
take_pattern(void *context, const rp_entry *entry)
{
    filler *f = context;
    f->pattern = rp_entry_copy(entry, RP_PART_SCOPE | RP_PART_REPLY);
    return false;
}

static rp_status
next_text(filler *f, size_t number, char numbered[64], rp_str *out, rp_error *error)
{
    bool more = false;
    while (f->texts) {
        const rp_status status = rp_input_next(f->texts, out, &more, error);
        if (status != RP_OK)
            return status;
        if (!more) {
            rp_input_close(f->texts);
            f->texts = NULL;
        } else if (out->len && out->len <= TEXT_SIZE_MAX) {
            return RP_OK;
        }
    }
    *out = (rp_str){ numbered, (size_t)snprintf(numbered, 64, "what is number %zu of the questions?", number) };
    return RP_OK;
}

/* The turn of the pattern with another prompt in it. */
static void
write_turn(const rp_entry *pattern, rp_str prompt, rp_buffer *out)
{
    const char *at = memmem(pattern->turn.ptr, pattern->turn.len, first_prompt, strlen(first_prompt));
    rp_buffer_clear(out);
    if (!at)
        return;
    const size_t before = (size_t)(at - pattern->turn.ptr) - 1, after = before + strlen(first_prompt) + 2;
    rp_buffer_append(out, (rp_str){ pattern->turn.ptr, before });
    rp_json_write_string(prompt, out);
    rp_buffer_append(out, (rp_str){ pattern->turn.ptr + after, pattern->turn.len - after });
}

static rp_status
put_all(filler *f, rp_store *store, rp_error *error)
{
    const size_t dim = f->vectors.columns;
    float *vector = malloc(dim * sizeof *vector);
    rp_buffer turn;
    rp_buffer_init(&turn, 0);
    rp_status status = vector ? RP_OK : rp_fail(error, RP_ERR_NOMEM, "no memory for a vector");
    for (size_t i = 0; status == RP_OK && i + 1 < f->o->count; i++) {
        char numbered[64];
        rp_str text = { 0 };
        status = next_text(f, i, numbered, &text, error);
        if (status != RP_OK)
            break;
        rp_bench_vector(&f->vectors, f->real_count, i, vector);
        write_turn(f->pattern, text, &turn);
        rp_entry draft = *f->pattern;
        draft.id = 0;
        draft.created += (rp_time)i;
        draft.expires = 0;
        draft.prompt = text;
        draft.turn = rp_buffer_str(&turn);
        draft.key = rp_key_of_turn(draft.scope, draft.turn);
        draft.dim = dim;
        draft.window_count = 1;
        draft.mean = draft.windows = vector;
        rp_entry_id id;
        while ((status = rp_store_put(store, &draft, &id, NULL, NULL)) == RP_ERR_BUSY)
            usleep(200);
        if (status != RP_OK)
            rp_fail(error, status, "entry %zu was refused: %s", i, rp_status_name(status));
        if (isatty(2) && i % 100000 == 99999)
            fprintf(stderr, "\r%zu entries", i + 1);
    }
    if (status == RP_OK)
        status = rp_store_sync(store);
    rp_buffer_fini(&turn);
    free(vector);
    return status;
}

/* Store the pattern through the cache, and learn its encoder's fingerprint. */
static rp_status
put_first(filler *f, char fingerprint[33], rp_error *error)
{
    rp_cache *cache;
    rp_status status = open_cache(f->o, &cache, error);
    if (status != RP_OK)
        return status;
    rp_cache_stats stats;
    for (int i = 0; i < WAIT_MAX_S * 100 && !rp_cache_ready(cache); i++)
        usleep(10000);
    const rp_cache_request request = ask(rp_str_of(first_prompt));
    const rp_cache_store_options forever = { .ttl_seconds = RP_TTL_FOREVER };
    status = rp_cache_store(cache, &request, rp_str_of(reply_text), &forever, NULL, error);
    rp_cache_stats_get(cache, &stats);
    memcpy(fingerprint, stats.fingerprint, sizeof stats.fingerprint);
    if (status == RP_OK)
        rp_store_walk(rp_cache_store_of(cache), NULL, RP_PART_SCOPE | RP_PART_REPLY, take_pattern, f);
    rp_cache_close(cache);
    return status == RP_OK && !f->pattern ? rp_fail(error, RP_ERR_NOMEM, "no memory for an entry") : status;
}

static rp_status
fill(const start_options *o, rp_error *error)
{
    filler f = { .o = o };
    char fingerprint[33];
    rp_store *store = NULL;
    rp_status status = rp_npy_open(o->vectors, &f.vectors, error);
    if (status == RP_OK && o->texts)
        status = rp_input_open(o->texts, RP_INPUT_TEXT, &f.texts, error);
    if (status == RP_OK)
        status = put_first(&f, fingerprint, error);
    if (status != RP_OK)
        goto out;
    f.real_count = f.vectors.rows;
    const rp_store_options options = { .folder = o->data, .disk_max = (uint64_t)64 << 30,
                                       .memory_max = (uint64_t)1 << 30, .share_max = 1,
                                       .fingerprint = fingerprint, .dim = f.vectors.columns };
    status = rp_store_open(&options, &store, error);
    if (status == RP_OK)
        status = put_all(&f, store, error);
    fprintf(stderr, "%s%zu entries; %zu vectors of the file, %zu made of them\n", isatty(2) ? "\r" : "",
            o->count, RP_MIN(o->count, f.real_count), o->count - RP_MIN(o->count, f.real_count));
out:
    rp_store_close(store);
    rp_entry_unref(f.pattern);
    rp_input_close(f.texts);
    rp_npy_close(&f.vectors);
    return status;
}

/* ---- measuring -------------------------------------------------------------------------- */

typedef struct asked_prompts {
    char text[ASKED][256];
    size_t count;
} asked_prompts;

/* Prompts from all over the store. */
static bool
take_prompt(void *context, const rp_entry *entry)
{
    asked_prompts *asked = context;
    if (entry->prompt.len < sizeof asked->text[0])
        snprintf(asked->text[asked->count++], sizeof asked->text[0], "%.*s", RP_FMT(entry->prompt));
    return asked->count < ASKED;
}

static int
compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The median time of look-ups of prompts that are not there but near to some that are. */
static double
time_semantic(rp_cache *cache, const asked_prompts *asked)
{
    double times[ASKED];
    for (size_t i = 0; i < asked->count; i++) {
        char text[300];
        rp_cache_answer *answer = NULL;
        snprintf(text, sizeof text, "%s now", asked->text[i]);
        const rp_cache_request request = ask(rp_str_of(text));
        const double start = now_s();
        if (rp_cache_lookup(cache, &request, &answer, NULL) != RP_OK)
            return NAN;
        times[i] = (now_s() - start) * 1e3;
        rp_cache_answer_free(answer);
    }
    qsort(times, asked->count, sizeof *times, compare_doubles);
    return asked->count ? times[asked->count / 2] : NAN;
}

/* Wait for a state; false: it did not come. */
static bool
wait_for(rp_cache *cache, bool lists, rp_cache_stats *stats)
{
    const double start = now_s();
    do {
        rp_cache_stats_get(cache, stats);
        if (stats->ready && (!lists || stats->lists_ready))
            return true;
        usleep(lists ? 20000 : 1000);
    } while (now_s() - start < WAIT_MAX_S);
    return false;
}

static rp_status
measure(const start_options *o, asked_prompts *asked, start_row *row, rp_error *error)
{
    rp_cache *cache;
    rp_cache_stats stats;
    *row = (start_row){ 0 };
    const double start = now_s(), cpu = cpu_s();
    const rp_status status = open_cache(o, &cache, error);
    if (status != RP_OK)
        return status;
    for (size_t i = 0; i < asked->count; i++) {
        rp_cache_answer *answer = NULL;
        const rp_cache_request request = ask(rp_str_of(asked->text[i]));
        if (rp_cache_lookup(cache, &request, &answer, NULL) == RP_OK)
            row->found += answer->hit && strcmp(answer->tier, "exact") == 0;
        if (i == 0)
            row->exact_s = now_s() - start;
        rp_cache_answer_free(answer);
    }
    const bool ready = wait_for(cache, false, &stats);
    row->ready_s = now_s() - start;
    row->ready_cpu_s = cpu_s() - cpu;
    row->flat_ms = time_semantic(cache, asked);
    const bool listed = wait_for(cache, true, &stats);
    row->lists_s = now_s() - start;
    row->lists_ms = time_semantic(cache, asked);
    row->entries = stats.entries;
    row->vectors = stats.vectors;
    row->lists = stats.index_lists;
    row->index_bytes = stats.index_bytes;
    row->memory_bytes = stats.memory_bytes;
    if (asked->count == 0) /* of the first round, which is not counted */
        rp_store_walk(rp_cache_store_of(cache), NULL, 0, take_prompt, asked);
    rp_cache_close(cache);
    return ready && listed ? RP_OK : rp_fail(error, RP_ERR_BUSY, "not ready within %d s", WAIT_MAX_S);
}

static void
print_row(const start_row *row, bool json)
{
    if (json)
        printf("{\"entries\":%llu,\"vectors\":%llu,\"exact_s\":%.3f,\"ready_s\":%.3f,\"ready_cpu_s\":%.3f,"
               "\"lists_s\":%.2f,\"lists\":%llu,\"flat_ms\":%.3f,\"lists_ms\":%.3f,\"index_bytes\":%llu,"
               "\"memory_bytes\":%llu}\n",
               (unsigned long long)row->entries, (unsigned long long)row->vectors, row->exact_s, row->ready_s,
               row->ready_cpu_s, row->lists_s, (unsigned long long)row->lists, row->flat_ms, row->lists_ms,
               (unsigned long long)row->index_bytes, (unsigned long long)row->memory_bytes);
    else
        printf("%9llu %9llu %10.3f %10.3f %10.3f %10.1f %7llu %9.2f %9.2f %9.2f\n",
               (unsigned long long)row->entries, (unsigned long long)row->vectors, row->exact_s, row->ready_s,
               row->ready_cpu_s, row->lists_s, (unsigned long long)row->lists, row->flat_ms, row->lists_ms,
               (double)row->index_bytes / (double)RP_MAX(row->vectors, (uint64_t)1) / 1e3);
    fflush(stdout);
}

static int
run(const start_options *o)
{
    rp_error error = { { 0 } };
    asked_prompts *asked = calloc(1, sizeof *asked);
    rp_status status = asked ? RP_OK : rp_fail(&error, RP_ERR_NOMEM, "no memory");
    start_row row;
    if (status == RP_OK && o->vectors)
        status = fill(o, &error);
    if (status == RP_OK && !o->json)
        printf("%9s %9s %10s %10s %10s %10s %7s %9s %9s %9s\n", "entries", "vectors", "exact, s", "ready, s",
               "its CPU, s", "lists, s", "lists", "flat, ms", "lists, ms", "index, KB");
    for (size_t round = 0; status == RP_OK && round <= o->rounds; round++) {
        status = measure(o, asked, &row, &error);
        if (status == RP_OK && round) /* the first one warms, and finds out what to ask */
            print_row(&row, o->json);
        if (status == RP_OK && round && row.found != asked->count)
            status = rp_fail(&error, RP_ERR_CORRUPT, "%zu of %zu prompts were found exactly", row.found,
                             asked->count);
    }
    if (status != RP_OK)
        fprintf(stderr, "reprise bench start: %s\n", error.text);
    free(asked);
    return status == RP_OK ? RP_EXIT_DONE : RP_EXIT_FAILED;
}

static bool
read_precision(const char *name, rp_precision *out)
{
    static const struct {
        const char *name;
        rp_precision value;
    } classes[] = {
        { "f32", RP_PRECISION_F32 }, { "bf16", RP_PRECISION_BF16 },
        { "int8", RP_PRECISION_INT8 }, { "auto", RP_PRECISION_AUTO },
    };
    for (size_t i = 0; i < RP_COUNT(classes); i++)
        if (strcmp(name, classes[i].name) == 0) {
            *out = classes[i].value;
            return true;
        }
    return false;
}

static bool
parse_arguments(int argc, char **argv, start_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "data", required_argument, NULL, 'd' },  { "texts", required_argument, NULL, 't' },
        { "vectors", required_argument, NULL, 'v' }, { "model", required_argument, NULL, 'm' },
        { "precision", required_argument, NULL, 'p' }, { "count", required_argument, NULL, 'c' },
        { "rounds", required_argument, NULL, 'r' }, { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },        { 0 },
    };
    uint64_t number;
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool good = true;
        switch (option) {
        case 'd': o->data = optarg; break;
        case 't': o->texts = optarg; break;
        case 'v': o->vectors = optarg; break;
        case 'm': o->model = optarg; break;
        case 'p': good = read_precision(optarg, &o->precision); break;
        case 'c':
            good = rp_str_to_u64(rp_str_of(optarg), &number) && number > 1 && number <= 50000000;
            o->count = number;
            break;
        case 'r':
            good = rp_str_to_u64(rp_str_of(optarg), &number) && number > 0 && number <= 100;
            o->rounds = number;
            break;
        case 'j': o->json = true; break;
        case 'h':
            puts("Usage: reprise bench start --data DIR [options]\n\n"
                 "Opens a folder with many entries of one scope, and says when what is ready.\n\n"
                 "  --data DIR            the folder; with --vectors it is filled first\n"
                 "  --vectors FILE.npy    of the entries (reprise embed --format npy); where there are\n"
                 "                        fewer, further ones are made of them\n"
                 "  --texts FILE          their prompts, a line each (numbered ones)\n"
                 "  --count N             entries (1000000)\n"
                 "  --model NAME|DIR      the encoder (all-MiniLM-L6-v2)\n"
                 "  --precision CLASS     that made the vectors: f32, bf16, int8 or auto (auto)\n"
                 "  --rounds N            starts that are measured, after one that is not (3)\n"
                 "  --json                one object a line");
            *exit_status = RP_EXIT_DONE;
            return false;
        default: fputs("Try `reprise bench start --help`.\n", stderr); return false;
        }
        if (!good) {
            fprintf(stderr, "reprise bench start: '%s' is no value for that option; see --help\n", optarg);
            return false;
        }
    }
    if (!o->data)
        fputs("reprise bench start: --data DIR is needed; see --help\n", stderr);
    return o->data != NULL;
}

int
rp_command_bench_start(int argc, char **argv)
{
    start_options o = { .model = "all-MiniLM-L6-v2", .count = 1000000, .rounds = 3,
                        .precision = RP_PRECISION_AUTO };
    int exit_status;
    return parse_arguments(argc, argv, &o, &exit_status) ? run(&o) : exit_status;
}
