/* test_batcher.c - every text submitted is answered once, by its own vector, in time.
 *
 * What could go wrong: an answer goes to another text of the batch, or never comes, or
 * comes twice; a full queue grows or blocks; a passed deadline is encoded all the same;
 * closing loses what waits; a long text starves short ones. Callers count their answers
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
    size_t answers, order;
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_text_gets_its_own_vector_once),
        cmocka_unit_test(test_a_full_queue_refuses_and_closing_answers_all),
        cmocka_unit_test(test_a_passed_deadline_is_not_encoded),
        cmocka_unit_test(test_neither_long_nor_short_texts_starve),
    };
    return cmocka_run_group_tests(tests, open_encoder, close_encoder);
}
