/* test_batcher.c - every text submitted is answered once, by its own vector, in time.
 *
 * What could go wrong: an answer goes to another text of the batch, or never comes, or
 * comes twice; a full queue grows or blocks; a passed deadline is encoded all the same;
 * closing loses what waits; a long text starves short ones; texts are encoded one by one, or
 * wait for company. Callers count their answers
 * and compare vectors with those of the encoder asked directly. Run it under the thread
 * sanitizer. A worker is held up where a test needs a queue: by a callback that waits,
 * not by time. */
#include "base/clock.h"
#include "embed/batcher.h"
#include "test_support.h"

#include <math.h>
#include <pthread.h>

static rp_encoder *encoder;

static int
open_encoder(void **state)
{
    (void)state;
    const char *folder = rp_test_model(), *required = getenv("REPRISE_REQUIRE_MODEL");
    if (!folder && required && strcmp(required, "1") == 0)
        return -1;
    if (folder && rp_encoder_open(folder, NULL, &encoder, NULL) != RP_OK)
        return -1;
    return 0;
}

static int
close_encoder(void **state)
{
    (void)state;
    rp_encoder_close(encoder);
    return 0;
}

static rp_batcher *
make(size_t threads, size_t queue_max)
{
    if (!encoder) {
        print_message("skipped: REPRISE_TEST_MODEL names no encoder\n");
        skip();
    }
    const rp_batcher_options options = { .threads = threads, .queue_max = queue_max };
    rp_batcher *batcher = NULL;
    assert_int_equal(rp_batcher_new(encoder, &options, &batcher, NULL), RP_OK);
    return batcher;
}

/* A gate that a callback waits at. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool gate_open, gate_reached;
static size_t answers;

static void
wait_at_gate(void *context, const rp_batch_result *result)
{
    (void)context;
    (void)result;
    pthread_mutex_lock(&lock);
    gate_reached = true;
    pthread_cond_broadcast(&changed);
    while (!gate_open)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void
open_gate(void)
{
    pthread_mutex_lock(&lock);
    gate_open = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Occupy the only worker until open_gate. */
static void
hold_worker(rp_batcher *batcher)
{
    gate_open = gate_reached = false;
    assert_int_equal(rp_batcher_submit(batcher, RP_STR("hold"), 0, wait_at_gate, NULL), RP_OK);
    pthread_mutex_lock(&lock);
    while (!gate_reached)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

typedef struct asked_text {
    char text[256];
    size_t answers, order, batch;
    int64_t waited_us;
    rp_status status;
    float first; /* of the vector */
    size_t windows;
} asked_text;

static void
note_answer(void *context, const rp_batch_result *result)
{
    asked_text *asked_for = context;
    pthread_mutex_lock(&lock);
    asked_for->answers++;
    asked_for->status = result->status;
    asked_for->order = answers++;
    asked_for->batch = result->count;
    asked_for->waited_us = result->waited_us;
    if (result->status == RP_OK) {
        asked_for->first = result->embedding->mean[0];
        asked_for->windows = result->embedding->window_count;
    } else {
        assert_null(result->embedding);
    }
    assert_true(result->waited_us >= 0);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void
wait_for(size_t count)
{
    pthread_mutex_lock(&lock);
    while (answers < count)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void
test_each_text_gets_its_own_vector_once(void **state)
{
    (void)state;
    enum { COUNT = RP_TEST_SIZE(150, 24) };
    static asked_text list[COUNT];
    rp_batcher *batcher = make(2, 0);
    const size_t dim = rp_encoder_dim(encoder);
    float *vector = calloc(dim, sizeof *vector);
    memset(list, 0, sizeof list);
    answers = 0;
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(list[i].text, sizeof list[i].text, "question number %zu about %s", i,
                 i % 3 ? "the weather" : "tax law");
        assert_int_equal(rp_batcher_submit(batcher, rp_str_of(list[i].text), 0, note_answer,
                                           &list[i]), RP_OK);
    }
    wait_for(COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const rp_str text = rp_str_of(list[i].text);
        assert_int_equal(list[i].answers, 1);
        assert_int_equal(list[i].status, RP_OK);
        assert_int_equal(list[i].windows, 1);
        assert_int_equal(rp_encoder_embed(encoder, &text, 1, vector, NULL, NULL), RP_OK);
        assert_true(fabsf(vector[0] - list[i].first) <= 1e-6F);
    }
    free(vector);
    rp_batcher_free(batcher);
}

static void
test_a_full_queue_refuses_and_closing_answers_all(void **state)
{
    (void)state;
    static asked_text list[3];
    rp_batcher *batcher = make(1, 2);
    memset(list, 0, sizeof list);
    answers = 0;
    hold_worker(batcher);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(rp_batcher_submit(batcher, RP_STR("waits"), 0, note_answer, &list[i]),
                         i < 2 ? RP_OK : RP_ERR_BUSY);
    assert_int_equal(rp_batcher_waiting(batcher), 2);

    /* Freeing waits for the worker, and the worker for the gate. */
    pthread_t freer;
    assert_int_equal(pthread_create(&freer, NULL,
                                    (void *(*)(void *))(void (*)(void))rp_batcher_free, batcher), 0);
    while (rp_batcher_submit(batcher, RP_STR("late"), 0, note_answer, &list[2]) != RP_ERR_CLOSED)
        usleep(100);
    open_gate();
    pthread_join(freer, NULL);
    assert_int_equal(list[0].answers, 1);
    assert_int_equal(list[0].status, RP_ERR_CLOSED);
    assert_int_equal(list[1].status, RP_ERR_CLOSED);
    assert_int_equal(list[2].answers, 0);
}

/* Long and short texts wait apart; the bound is one for both. */
static void
test_the_bound_of_the_queue_is_for_every_mix_of_texts(void **state)
{
    (void)state;
    enum { LONG = 1 << 12, PLACES = 3 };
    static char long_text[LONG];
    static asked_text list[PLACES + 1];
    memset(long_text, 'x', sizeof long_text);
    const rp_str texts[2] = { RP_STR("short"), { long_text, sizeof long_text } };
    for (unsigned mix = 0; mix < 1U << (PLACES + 1); mix++) {
        rp_batcher *batcher = make(1, PLACES);
        memset(list, 0, sizeof list);
        answers = 0;
        hold_worker(batcher);
        for (size_t i = 0; i <= PLACES; i++)
            assert_int_equal(rp_batcher_submit(batcher, texts[mix >> i & 1], 0, note_answer,
                                               &list[i]),
                             i < PLACES ? RP_OK : RP_ERR_BUSY);
        assert_int_equal(rp_batcher_waiting(batcher), PLACES);
        open_gate();
        wait_for(PLACES);
        rp_batcher_free(batcher);
        for (size_t i = 0; i <= PLACES; i++)
            assert_int_equal(list[i].answers, i < PLACES);
    }
}

static void
test_a_passed_deadline_is_not_encoded(void **state)
{
    (void)state;
    static asked_text list[2];
    rp_batcher *batcher = make(1, 0);
    const int64_t now = rp_clock_monotonic_us(&rp_clock_system);
    memset(list, 0, sizeof list);
    answers = 0;
    assert_int_equal(rp_batcher_submit(batcher, RP_STR("late"), now - 1, note_answer, &list[0]),
                     RP_OK);
    assert_int_equal(rp_batcher_submit(batcher, RP_STR("in time"), now + 3600000000, note_answer,
                                       &list[1]), RP_OK);
    wait_for(2);
    assert_int_equal(list[0].status, RP_ERR_TIMEOUT);
    assert_int_equal(list[1].status, RP_OK);
    rp_batcher_free(batcher);
}

/* Ten long texts wait before a short one: at most one of them may go first. Some batches
 * of short ones wait before a long one: at most one of them may. */
static void
test_neither_long_nor_short_texts_starve(void **state)
{
    (void)state;
    enum { COUNT = 10, MANY = RP_TEST_SIZE(640, 160) };
    static char long_text[4000];
    static asked_text many[MANY], one;
    rp_batcher *batcher = make(1, 0);
    for (size_t i = 0; i + 6 < sizeof long_text; i += 6)
        memcpy(long_text + i, "words ", 6);
    for (size_t turn = 0; turn < 2; turn++) {
        const size_t count = turn ? MANY : COUNT;
        const rp_str first = turn ? RP_STR("short") : rp_str_of(long_text);
        const rp_str last = turn ? rp_str_of(long_text) : RP_STR("short");
        memset(many, 0, sizeof many);
        memset(&one, 0, sizeof one);
        answers = 0;
        hold_worker(batcher);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(rp_batcher_submit(batcher, first, 0, note_answer, &many[i]), RP_OK);
        assert_int_equal(rp_batcher_submit(batcher, last, 0, note_answer, &one), RP_OK);
        open_gate();
        wait_for(count + 1);
        assert_true(one.order <= (turn ? 64 : 1));
        assert_int_equal(one.status, RP_OK);
    }
    assert_true(one.windows > 1);
    rp_batcher_free(batcher);
}

/* What waits when a worker becomes free is one batch, as far as about 256 tokens go (a text's
 * are guessed: a quarter of its bytes and two); a long text is a batch of its own. */
static void
test_what_waits_is_encoded_together_up_to_a_batch(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    static asked_text list[COUNT];
    static const struct {
        size_t bytes, batch;
    } rows[] = { { 8, 64 }, { 56, 16 }, { 120, 8 }, { 255, 3 } };
    rp_batcher *batcher = make(1, 0);
    for (size_t row = 0; row < RP_TEST_SIZE(RP_COUNT(rows), 2); row++) {
        memset(list, 0, sizeof list);
        answers = 0;
        hold_worker(batcher);
        for (size_t i = 0; i < COUNT; i++) {
            memset(list[i].text, 'a', rows[row].bytes);
            for (size_t at = 3; at < rows[row].bytes; at += 4)
                list[i].text[at] = ' ';
            assert_int_equal(rp_batcher_submit(batcher, rp_str_of(list[i].text), 0, note_answer,
                                               &list[i]), RP_OK);
        }
        open_gate();
        wait_for(COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            const size_t first = i - i % rows[row].batch;
            assert_int_equal(list[i].batch, RP_MIN(rows[row].batch, COUNT - first));
            assert_int_equal(list[i].order, i); /* first come, first served */
        }
    }
    static char long_text[1024];
    memset(long_text, 'a', sizeof long_text);
    memset(list, 0, sizeof list);
    answers = 0;
    hold_worker(batcher);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(rp_batcher_submit(batcher, (rp_str){ long_text, sizeof long_text }, 0,
                                           note_answer, &list[i]), RP_OK);
    open_gate();
    wait_for(3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(list[i].batch, 1);
    rp_batcher_free(batcher);
}

/* Told together: those with an embedding, before the first of them is answered; a lone text and one
 * that is too late are not. */
typedef struct gathering {
    size_t calls, texts, answers_before;
    void *contexts[8];
} gathering;

static void
note_together(void *context, void *const *contexts, const rp_batch_result *results, size_t count)
{
    gathering *g = context;
    pthread_mutex_lock(&lock);
    g->calls++;
    g->texts = count;
    g->answers_before = answers;
    for (size_t i = 0; i < count && i < RP_COUNT(g->contexts); i++) {
        assert_int_equal(results[i].status, RP_OK);
        assert_non_null(results[i].embedding);
        g->contexts[i] = contexts[i];
    }
    pthread_mutex_unlock(&lock);
}

static void
test_texts_of_one_batch_are_told_together_first(void **state)
{
    (void)state;
    static asked_text list[5];
    gathering g = { 0 };
    rp_batcher_free(make(1, 0)); /* or skipped */
    const rp_batcher_options options = { .threads = 1, .together = note_together,
                                         .together_context = &g };
    rp_batcher *batcher = NULL;
    assert_int_equal(rp_batcher_new(encoder, &options, &batcher, NULL), RP_OK);
    memset(list, 0, sizeof list);
    answers = 0;
    hold_worker(batcher);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(rp_batcher_submit(batcher, RP_STR("together"), i == 1, note_answer,
                                           &list[i]), RP_OK); /* 1: long past */
    open_gate();
    wait_for(4);
    assert_int_equal(list[1].status, RP_ERR_TIMEOUT);
    assert_int_equal(g.calls, 1);
    assert_int_equal(g.texts, 3);
    assert_int_equal(g.answers_before, 1); /* the late one's */
    assert_ptr_equal(g.contexts[0], &list[0]);
    assert_ptr_equal(g.contexts[1], &list[2]);
    assert_ptr_equal(g.contexts[2], &list[3]);
    assert_int_equal(rp_batcher_submit(batcher, RP_STR("alone"), 0, note_answer, &list[4]), RP_OK);
    wait_for(5);
    assert_int_equal(g.calls, 1);
    rp_batcher_free(batcher);
}

/* Nothing waits for company: however busy the machine is, one of many lone texts is begun within
 * a millisecond of its arrival, which none would be if a worker held it back. */
static void
test_a_lone_text_is_begun_at_once(void **state)
{
    (void)state;
    static asked_text one;
    rp_batcher *batcher = make(1, 0);
    int64_t least_us = INT64_MAX;
    const int64_t until_us = rp_clock_monotonic_us(&rp_clock_system) + 120000000;
    while (least_us >= 1000 && rp_clock_monotonic_us(&rp_clock_system) < until_us) {
        memset(&one, 0, sizeof one);
        answers = 0;
        assert_int_equal(rp_batcher_submit(batcher, RP_STR("alone"), 0, note_answer, &one), RP_OK);
        wait_for(1);
        assert_int_equal(one.batch, 1);
        least_us = RP_MIN(least_us, one.waited_us);
    }
    assert_true(least_us < 1000);
    rp_batcher_free(batcher);
}

/* Texts for two encoders of one shape wait together: each gets its own encoder's vector. */
static void
test_encoders_are_not_mixed_in_a_batch(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    static asked_text list[COUNT];
    const rp_str text = RP_STR("the same text for both");
    rp_batcher *batcher = make(1, 0);
    rp_encoder *other = NULL;
    const rp_encoder_options int8 = { .precision = RP_PRECISION_INT8 };
    assert_int_equal(rp_encoder_open(rp_test_model(), &int8, &other, NULL), RP_OK);
    const size_t dim = rp_encoder_dim(encoder);
    float *vectors = calloc(2 * dim, sizeof *vectors);
    assert_int_equal(rp_encoder_embed(encoder, &text, 1, vectors, NULL, NULL), RP_OK);
    assert_int_equal(rp_encoder_embed(other, &text, 1, vectors + dim, NULL, NULL), RP_OK);
    assert_true(vectors[0] != vectors[dim]);
    memset(list, 0, sizeof list);
    answers = 0;
    hold_worker(batcher);
    for (size_t i = 0; i < COUNT; i++) /* two, two, two ... */
        assert_int_equal(rp_batcher_submit_to(batcher, i / 2 % 2 ? other : encoder, text, 0,
                                              note_answer, &list[i]), RP_OK);
    open_gate();
    wait_for(COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(list[i].batch, 2);
        assert_true(fabsf(list[i].first - vectors[i / 2 % 2 ? dim : 0]) <= 1e-6F);
    }
    free(vectors);
    rp_batcher_free(batcher);
    rp_encoder_close(other);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_text_gets_its_own_vector_once),
        cmocka_unit_test(test_a_full_queue_refuses_and_closing_answers_all),
        cmocka_unit_test(test_the_bound_of_the_queue_is_for_every_mix_of_texts),
        cmocka_unit_test(test_a_passed_deadline_is_not_encoded),
        cmocka_unit_test(test_neither_long_nor_short_texts_starve),
        cmocka_unit_test(test_what_waits_is_encoded_together_up_to_a_batch),
        cmocka_unit_test(test_texts_of_one_batch_are_told_together_first),
        cmocka_unit_test(test_a_lone_text_is_begun_at_once),
        cmocka_unit_test(test_encoders_are_not_mixed_in_a_batch),
    };
    return cmocka_run_group_tests(tests, open_encoder, close_encoder);
}
