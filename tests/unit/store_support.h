/* store_support.h - folders, entries and stores for the tests of lib/store. */
#ifndef RP_TESTS_STORE_SUPPORT_H
#define RP_TESTS_STORE_SUPPORT_H

#include "base/hash.h"
#include "base/random.h"
#include "store/store.h"
#include "test_support.h"

#include <dirent.h>
#include <math.h>

#define TEST_FINGERPRINT "0123456789abcdef0123456789abcdef"
enum { TEST_DIM = 8 };

/* A new folder under the system's place for temporary ones. */
static inline char *
test_folder_make(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    assert_true(asprintf(&path, "%s/reprise-test-XXXXXX", base && *base ? base : "/tmp") > 0);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void
test_folder_free(char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *at; (at = readdir(folder));) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, at->d_name);
        if (at->d_name[0] != '.')
            unlink(name);
    }
    closedir(folder);
    rmdir(path);
    free(path);
}

/* Everything about an entry follows from a number, so that a test can say what it
 * must be without keeping it. */
typedef struct test_entry {
    rp_entry entry;
    char prompt[64], tenant[16], tags[64], fields[64];
    char *reply; /* owned */
    float mean[TEST_DIM], windows[3 * TEST_DIM];
} test_entry;

static inline rp_scope
test_scope(uint64_t number)
{
    rp_scope scope;
    rp_sha256_of((rp_str){ (char *)&number, sizeof number }, scope.bytes);
    return scope;
}

static inline void
test_unit_vector(rp_random *random, float *out)
{
    double sum = 0;
    for (int i = 0; i < TEST_DIM; i++) {
        out[i] = (float)rp_random_normal(random);
        sum += (double)out[i] * out[i];
    }
    for (int i = 0; i < TEST_DIM; i++)
        out[i] = (float)(out[i] / sqrt(sum));
}

/* `key_number` makes key and scope, `version` the rest. */
static inline void
test_entry_make(test_entry *out, uint64_t key_number, uint64_t version, size_t reply_size)
{
    rp_random random;
    rp_random_init(&random, key_number * 1000003 + version);
    *out = (test_entry){ 0 };
    rp_entry *entry = &out->entry;
    entry->scope = test_scope(key_number % 7);
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update(&hash, (rp_str){ (char *)entry->scope.bytes, 32 });
    rp_sha256_update(&hash, (rp_str){ (char *)&key_number, sizeof key_number });
    rp_sha256_final(&hash, entry->key.bytes);
    entry->stratum = rp_random_next(&random);
    entry->created = (rp_time)(1000000 + version);
    memset(entry->user_hash, (int)version, sizeof entry->user_hash);
    entry->input_tokens = (int64_t)key_number;
    entry->output_tokens = -1;
    entry->upstream_us = (int64_t)version;
    entry->tenant = (rp_str){ out->tenant, (size_t)snprintf(out->tenant, sizeof out->tenant,
                                                            "tenant-%d", (int)(key_number % 3)) };
    entry->namespace_name = RP_STR("default");
    entry->route = RP_STR("*");
    entry->model = key_number % 2 ? RP_STR("gpt-4o-mini") : RP_STR("claude");
    entry->prompt = (rp_str){ out->prompt, (size_t)snprintf(out->prompt, sizeof out->prompt,
                                                            "question %d.%d?", (int)key_number,
                                                            (int)version) };
    entry->tags = (rp_str){ out->tags, (size_t)snprintf(out->tags, sizeof out->tags,
                                                        "even-%d\nversion-%d",
                                                        (int)(key_number % 2), (int)version) };
    entry->scope_fields = (rp_str){ out->fields, (size_t)snprintf(out->fields, sizeof out->fields,
                                                                  "{\"scope\":%d}",
                                                                  (int)(key_number % 7)) };
    if (key_number % 5 != 4) {
        entry->dim = TEST_DIM;
        entry->window_count = key_number % 5 == 3 ? 3 : 1;
        for (size_t i = 0; i < entry->window_count; i++)
            test_unit_vector(&random, out->windows + i * TEST_DIM);
        memcpy(out->mean, out->windows, sizeof out->mean);
        entry->mean = out->mean;
        entry->windows = entry->window_count > 1 ? out->windows : out->mean;
    }
    out->reply = malloc(reply_size ? reply_size : 1);
    assert_non_null(out->reply);
    for (size_t i = 0; i < reply_size; i++)
        out->reply[i] = (char)('a' + rp_random_below(&random, 16));
    entry->reply = (rp_str){ out->reply, reply_size };
}

static inline void
test_entry_fini(test_entry *entry)
{
    free(entry->reply);
}

/* Byte for byte, as far as `parts` goes. */
static inline void
assert_same_entry(const rp_entry *got, const rp_entry *want, unsigned parts)
{
    assert_memory_equal(got->scope.bytes, want->scope.bytes, 32);
    assert_memory_equal(got->key.bytes, want->key.bytes, 32);
    assert_int_equal(got->stratum, want->stratum);
    assert_int_equal(got->created, want->created);
    assert_int_equal(got->expires, want->expires);
    assert_memory_equal(got->user_hash, want->user_hash, 16);
    assert_memory_equal(got->metadata_hash, want->metadata_hash, 16);
    assert_int_equal(got->input_tokens, want->input_tokens);
    assert_int_equal(got->output_tokens, want->output_tokens);
    assert_int_equal(got->upstream_us, want->upstream_us);
    assert_str_equal(got->tenant, want->tenant);
    assert_str_equal(got->namespace_name, want->namespace_name);
    assert_str_equal(got->route, want->route);
    assert_str_equal(got->model, want->model);
    assert_str_equal(got->category, want->category);
    assert_str_equal(got->prompt, want->prompt);
    assert_str_equal(got->tags, want->tags);
    assert_int_equal(got->dim, want->dim);
    assert_int_equal(got->window_count, want->window_count);
    if (parts & RP_PART_REPLY) {
        assert_int_equal(got->reply.len, want->reply.len);
        assert_memory_equal(got->reply.ptr, want->reply.ptr, want->reply.len);
    }
    if (parts & RP_PART_SCOPE)
        assert_str_equal(got->scope_fields, want->scope_fields);
    if (parts & RP_PART_VECTORS && want->dim) {
        assert_memory_equal(got->mean, want->mean, want->dim * sizeof(float));
        assert_memory_equal(got->windows, want->windows,
                            want->window_count * want->dim * sizeof(float));
    }
}

static inline rp_store *
test_store_open_with(rp_store_options options)
{
    rp_store *store = NULL;
    rp_error error = { { 0 } };
    if (!options.fingerprint) {
        options.fingerprint = TEST_FINGERPRINT;
        options.dim = TEST_DIM;
    }
    const rp_status status = rp_store_open(&options, &store, &error);
    if (status != RP_OK)
        print_error("%s: %s\n", rp_status_name(status), error.text);
    assert_int_equal(status, RP_OK);
    return store;
}

static inline rp_store *
test_store_open(const char *folder)
{
    return test_store_open_with((rp_store_options){ .folder = folder, .disk_max = 64 << 20 });
}

static inline rp_entry_id
test_put(rp_store *store, uint64_t key_number, uint64_t version, size_t reply_size)
{
    test_entry draft;
    test_entry_make(&draft, key_number, version, reply_size);
    rp_entry_id id = 0;
    const rp_status status = rp_store_put(store, &draft.entry, &id, NULL, NULL);
    test_entry_fini(&draft);
    assert_int_equal(status, RP_OK);
    assert_true(id != 0);
    return id;
}

/* The entry of key_number is there with this version, in memory or not. */
static inline void
assert_holds(rp_store *store, uint64_t key_number, uint64_t version, size_t reply_size)
{
    const unsigned parts = RP_PART_REPLY | RP_PART_VECTORS | RP_PART_SCOPE;
    test_entry want;
    test_entry_make(&want, key_number, version, reply_size);
    const rp_entry_id id = rp_store_exact(store, want.entry.scope, want.entry.key);
    assert_true(id != 0);
    const rp_entry *got = rp_store_get(store, want.entry.scope, id, parts);
    assert_non_null(got);
    assert_int_equal(got->id, id);
    assert_same_entry(got, &want.entry, parts);
    rp_entry_unref(got);
    test_entry_fini(&want);
}

static inline void
assert_lacks(rp_store *store, uint64_t key_number)
{
    test_entry want;
    test_entry_make(&want, key_number, 0, 0);
    assert_int_equal(rp_store_exact(store, want.entry.scope, want.entry.key), 0);
    test_entry_fini(&want);
}

#endif
