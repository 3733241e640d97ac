/* fuzz_eval.c - any bytes as a file of eval: pairs, scores, streams, vectors, what streams are
 * made of (six kinds, and traces), and checkpoints.
 *
 * First byte: which reader. What is read must hold together: numbers within their sets, texts
 * that can be looked at, vectors of length 1; what a table becomes must be read as a stream. */
#include "base/bytes.h"
#include "eval/checkpoint.h"
#include "eval/make_stream.h"
#include "eval/pairs.h"
#include "eval/stream.h"
#include "eval/tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
check(bool holds)
{
    if (!holds)
        abort();
}

/* The readers take a path. */
static int
make_file(rp_str bytes, char path[32])
{
    const int fd = memfd_create("fuzz", 0);
    check(fd >= 0);
    while (bytes.len) {
        const ssize_t n = write(fd, bytes.ptr, bytes.len);
        check(n > 0);
        bytes = (rp_str){ bytes.ptr + n, bytes.len - (size_t)n };
    }
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static void
read_pairs(const char *path)
{
    rp_pairs pairs;
    rp_error error;
    if (rp_pairs_read(path, &pairs, &error) != RP_OK)
        return;
    double *scores = calloc(pairs.count, sizeof *scores);
    check(scores && pairs.count > 0);
    for (size_t i = 0; i < pairs.count; i++) {
        const rp_pair *row = &pairs.rows[i];
        check(row->a < pairs.texts.count && row->b < pairs.texts.count);
        check(row->category < pairs.categories.count && row->group < pairs.group_count);
        scores[i] = (double)(i % 7);
    }
    size_t fired, count;
    rp_pairs_result *results;
    check(rp_pairs_add_gates(&pairs, 2, scores, &fired) == RP_OK && fired <= pairs.count);
    check(rp_pairs_measure(&pairs, scores, 2, 1, &results, &count) == RP_OK && count > 0);
    free(results);
    free(scores);
    rp_pairs_fini(&pairs);
}

static void
read_stream(const char *path)
{
    rp_stream stream;
    rp_error error;
    if (rp_stream_read(path, &stream, &error) != RP_OK)
        return;
    uint32_t *order = calloc(stream.count, sizeof *order);
    bool *seen = calloc(stream.count, sizeof *seen);
    check(order && seen && stream.count > 0);
    for (size_t i = 0; i < stream.count; i++) {
        const rp_stream_row *row = &stream.rows[i];
        check(row->text < stream.texts.count && row->answer < stream.answers.count);
        check(row->scope < stream.scopes.count && row->category < stream.categories.count);
        check(row->key < stream.keys.count && row->user <= stream.users.count);
    }
    for (int kind = RP_ORDER_FILE; kind <= RP_ORDER_SORTED; kind++) {
        memset(seen, 0, stream.count * sizeof *seen);
        check(rp_stream_arrange(&stream, (rp_stream_order)kind, 1, order) == RP_OK);
        for (size_t i = 0; i < stream.count; i++) {
            check(order[i] < stream.count && !seen[order[i]]);
            seen[order[i]] = true;
        }
    }
    free(seen);
    free(order);
    rp_stream_fini(&stream);
}

static void
read_vectors(const char *path, size_t count)
{
    rp_vectors vectors;
    rp_error error;
    if (rp_vectors_open(path, count, &vectors, &error) != RP_OK)
        return;
    check(vectors.count == count);
    for (size_t i = 0; i < count; i++) {
        const double similarity = rp_vectors_similarity(&vectors, 0, i);
        check(similarity > -1.1 && similarity < 1.1);
    }
    rp_vectors_fini(&vectors);
}

static void
read_scores(const char *path)
{
    double scores[4];
    size_t lines, line = 0;
    rp_error error;
    if (rp_scores_count(path, &lines, &error) == RP_OK && lines >= RP_COUNT(scores) &&
        rp_scores_read(path, RP_COUNT(scores), &line, scores, &error) == RP_OK)
        check(line >= RP_COUNT(scores));
}

static void
make_stream(const char *path, rp_stream_kind kind, const char *trace)
{
    const rp_make_stream options = { .kind = kind, .shuffle = true, .seed = 1, .count = 50,
                                     .zipf = 1, .novel = 0.02, .trace = trace, .price_in = 2,
                                     .price_out = 8 };
    rp_made_stream made;
    rp_buffer out;
    rp_error error;
    rp_buffer_init(&out, 0);
    if (rp_stream_make(path, &options, &out, &made, &error) == RP_OK) {
        char again[32];
        rp_stream stream;
        const int fd = make_file(rp_buffer_str(&out), again);
        check(rp_stream_read(again, &stream, &error) == RP_OK);
        check(stream.count == made.requests);
        rp_stream_fini(&stream);
        close(fd);
    }
    rp_buffer_fini(&out);
}

/* The bytes as a trace, with questions that are known. */
static void
make_traced(const char *trace)
{
    char path[32];
    const int fd = make_file(RP_STR("a\nb\n"), path);
    make_stream(path, RP_STREAM_LOG, trace);
    close(fd);
}

static void
read_checkpoint(rp_str bytes)
{
    char path[32];
    const int fd = make_file(bytes, path);
    const uint8_t key[32] = { 0 };
    rp_checkpoint *checkpoint;
    rp_tally tally;
    rp_str payload;
    const rp_status opened = rp_checkpoint_open(path, true, &checkpoint, NULL);
    if (opened == RP_OK) {
        const size_t before = rp_checkpoint_count(checkpoint);
        if (rp_checkpoint_find(checkpoint, key, &payload) &&
            rp_tally_decode(payload, 2, &tally) == RP_OK)
            rp_tally_fini(&tally);
        check(rp_checkpoint_add(checkpoint, key, RP_STR("result"), NULL) == RP_OK);
        check(rp_checkpoint_find(checkpoint, key, &payload));
        check(rp_checkpoint_count(checkpoint) == before + 1);
        rp_checkpoint_close(checkpoint);
    } else { /* somebody else's file */
        check(opened == RP_ERR_INVALID && bytes.len &&
              memcmp(bytes.ptr, "RPEC", RP_MIN(bytes.len, 4u)) != 0);
    }
    if (rp_tally_decode(bytes, 2, &tally) == RP_OK)
        rp_tally_fini(&tally);
    close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    char path[32];
    const int fd = make_file((rp_str){ (const char *)bytes + 1, size - 1 }, path);
    switch (bytes[0] % 12) {
    case 0: read_pairs(path); break;
    case 1: read_stream(path); break;
    case 2: read_scores(path); break;
    case 3: read_vectors(path, 1 + bytes[0] / 12 % 4); break;
    case 4: make_traced(path); break;
    case 5: read_checkpoint((rp_str){ (const char *)bytes + 1, size - 1 }); break;
    default: make_stream(path, (rp_stream_kind)(bytes[0] % 12 - 6), NULL); break;
    }
    close(fd);
    return 0;
}
