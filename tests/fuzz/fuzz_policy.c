/* fuzz_policy.c - any bytes as a policy's saved state, under a header that fits.
 *
 * First byte: which policy, and whether the rest is the payload itself or says which bytes of
 * a real one are changed (four a change: where, what). Without that, mutation would hardly
 * meet a payload whose counts fit. What is accepted is used: it must decide within its
 * candidates, learn, forget, and be saved as something that is accepted again. */
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/hash.h"
#include <reprise/policy.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { CANDIDATES = 3, REAL_OUTCOMES = 60 };

static void
check(bool holds)
{
    if (!holds)
        abort();
}

static rp_policy *
make_policy(size_t which)
{
    rp_policy *policy;
    size_t count = 0;
    while (rp_policy_list(count, NULL))
        count++;
    check(rp_policy_new(rp_str_of(rp_policy_list(which % count, NULL)), 0.02, &policy, NULL) == RP_OK);
    return policy;
}

static rp_stratum
stratum_of(size_t number)
{
    rp_stratum stratum;
    memset(&stratum, (int)(number % 3 + 1), sizeof stratum);
    return stratum;
}

static void
use(rp_policy *policy, size_t steps)
{
    for (size_t i = 0; i < steps; i++) {
        rp_candidate candidates[CANDIDATES];
        for (size_t c = 0; c < CANDIDATES; c++)
            candidates[c] = (rp_candidate){
                .id = 1 + (i * 7 + c) % 20,
                .similarity = 0.99f - 0.07f * (float)c - 0.01f * (float)(i % 10),
                .alignment = 0.5f, .verifier = NAN, .judge = RP_JUDGE_UNASKED,
                .gates_fired = i % 5 == 0 ? 1u << RP_GATE_NEGATION : 0,
            };
        const rp_question question = { .stratum = stratum_of(i), .now = (rp_time)i * 1000000,
                                       .candidates = candidates, .count = i % (CANDIDATES + 1),
                                       .min_similarity = -1, .error_max = 1 };
        rp_decision decision;
        rp_policy_decide(policy, &question, (double)(i * 37 % 100) / 100, &decision);
        check(decision.verdict == RP_MISS || decision.chosen < question.count);
        check(decision.verdict == RP_MISS || decision.verdict == RP_HIT);
        check(decision.reason != NULL);
        check(decision.explore_probability >= 0 && decision.explore_probability <= 1);
        const rp_outcome outcome = { .stratum = question.stratum, .time = question.now,
                                     .candidate = candidates[0], .similarity_second = 0.7f,
                                     .right = i % 3 != 0, .source = RP_OUTCOME_MISS,
                                     .entry = 1 + i % 20, .probability = 1 };
        rp_policy_observe(policy, &outcome);
        if (i % 11 == 10)
            rp_policy_forget(policy, 1 + i % 20);
    }
}

/* The bytes of a saved state with another payload and the sums that go with it. */
static rp_status
restore_payload(rp_policy *policy, rp_str payload)
{
    rp_policy *fresh = NULL;
    char *state;
    size_t size;
    rp_buffer whole;
    rp_buffer_init(&whole, 0);
    check(rp_policy_new(rp_policy_name(policy), 0.02, &fresh, NULL) == RP_OK);
    check(rp_policy_save(fresh, &state, &size) == RP_OK);
    rp_buffer_append(&whole, (rp_str){ state, 8 + rp_policy_name(policy).len });
    rp_buffer_append_le64(&whole, payload.len);
    rp_buffer_append_le64(&whole, rp_hash64(payload));
    rp_buffer_append(&whole, payload);
    rp_error error;
    const rp_status status = rp_policy_restore(policy, rp_buffer_str(&whole), &error);
    check(status != RP_ERR_INVALID && status != RP_ERR_STALE); /* the header is right */
    rp_buffer_fini(&whole);
    free(state);
    rp_policy_free(fresh);
    return status;
}

/* A real payload with some bytes changed. */
static void
append_changed(rp_policy *policy, rp_str changes, rp_buffer *out)
{
    char *state;
    size_t size;
    use(policy, REAL_OUTCOMES);
    check(rp_policy_save(policy, &state, &size) == RP_OK);
    const size_t header = 8 + rp_policy_name(policy).len + 16;
    rp_buffer_append(out, (rp_str){ state + header, size - header });
    free(state);
    for (; changes.len >= 4; changes = (rp_str){ changes.ptr + 4, changes.len - 4 }) {
        const size_t at = rp_load_le16(changes.ptr) | (size_t)(uint8_t)changes.ptr[2] << 16;
        if (out->len)
            out->ptr[at % out->len] = changes.ptr[3];
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    rp_policy *policy = make_policy(bytes[0] >> 1), *again = make_policy(bytes[0] >> 1);
    rp_str payload = { (const char *)bytes + 1, size - 1 };
    rp_buffer changed;
    rp_buffer_init(&changed, 0);
    if (bytes[0] & 1) {
        rp_policy *real = make_policy(bytes[0] >> 1);
        append_changed(real, payload, &changed);
        payload = rp_buffer_str(&changed);
        rp_policy_free(real);
    }
    if (restore_payload(policy, payload) == RP_OK) {
        char *state;
        size_t state_size;
        rp_error error;
        use(policy, REAL_OUTCOMES);
        check(rp_policy_size_bytes(policy) < (size_t)1 << 30);
        check(rp_policy_save(policy, &state, &state_size) == RP_OK);
        check(rp_policy_restore(again, (rp_str){ state, state_size }, &error) == RP_OK);
        free(state);
    }
    rp_buffer_fini(&changed);
    rp_policy_free(policy);
    rp_policy_free(again);
    return 0;
}
