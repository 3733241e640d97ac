/* policy.c - the front of all policies: names, SPEC, dispatch, saved state.
 *
 * Saved state (little-endian; docs/file-format.md, "Policy state"):
 *
 *      0  u32  magic "RPPS"
 *      4  u16  version of the family's payload
 *      6  u16  size of the name, 1..63
 *      8       name, for instance "verified"
 *      .  u64  size of the payload
 *      .  u64  XXH3-64 of the payload
 *      .       payload
 *
 * Options are not saved: they come from the configuration, and a changed bound must
 * act at once on what was learned under the old one. */
#include "base/hash.h"
#include "policy_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { STATE_MAGIC = 0x53505052, STATE_NAME_MAX = 63, STATE_HEADER_MIN = 8 + 1 + 16 };

static const rp_policy_kind *const kinds[] = {
    &rp_policy_exact,
    &rp_policy_static,
    &rp_policy_dual,
    &rp_policy_verified,
    &rp_policy_verified_global,
    &rp_policy_verified_iid,
    &rp_policy_verified_sigmoid,
    &rp_policy_verified_sigmoid_probability,
    &rp_policy_verified_plus,
    &rp_policy_adaptive,
    &rp_policy_calibrated,
    &rp_policy_judge,
    &rp_policy_cascade,
    &rp_policy_krites,
};

const char *
rp_gate_name(rp_gate gate)
{
    static const char *const names[RP_GATE_COUNT] = {
        "number", "date", "negation", "antonym", "entity", "code",
        "language", "unknown", "role", "question", "strict", "window",
        "collision",
    };
    return (unsigned)gate < RP_GATE_COUNT ? names[gate] : "none";
}

const char *
rp_policy_list(size_t at, const char **summary)
{
    if (at >= RP_COUNT(kinds))
        return NULL;
    if (summary)
        *summary = kinds[at]->summary;
    return kinds[at]->name;
}

/* A key of SPEC that holds one number, with the range it must lie in. */
typedef struct number_key {
    const char *name;
    unsigned bit;
    size_t offset;
    double min, max;
    bool open_below, open_above;
    const char *range;
} number_key;

static const number_key number_keys[] = {
    { "error_max", RP_KEY_ERROR_MAX, offsetof(rp_policy_options, error_max), 0, 1, true, true,
      "a number above 0 and below 1" },
    { "hit_error_max", RP_KEY_HIT_ERROR_MAX, offsetof(rp_policy_options, hit_error_max), 0, 1, true,
      false, "a number above 0, at most 1" },
    { "min_similarity", RP_KEY_MIN_SIMILARITY, offsetof(rp_policy_options, min_similarity), -1, 1,
      false, false, "a cosine in [-1, 1]" },
    { "hint_similarity", RP_KEY_HINT_SIMILARITY, offsetof(rp_policy_options, hint_similarity), -1,
      1, false, false, "a cosine in [-1, 1]" },
    { "verifier_min", RP_KEY_VERIFIER_MIN, offsetof(rp_policy_options, verifier_min), 0, 1, false,
      false, "a probability in [0, 1]" },
    { "judge_min", RP_KEY_JUDGE_MIN, offsetof(rp_policy_options, judge_min), -1, 1, false, false,
      "a cosine in [-1, 1]" },
    { "audit", RP_KEY_AUDIT, offsetof(rp_policy_options, audit), 0, 1, false, false,
      "a share in [0, 1]" },
};

static bool
is_in_range(const number_key *key, double value)
{
    return !isnan(value) && (key->open_below ? value > key->min : value >= key->min)
           && (key->open_above ? value < key->max : value <= key->max);
}

static rp_status
read_number(const number_key *key, rp_str name, rp_str text, double *out, rp_error *error)
{
    double value;
    if (!rp_str_to_double(text, &value) || !is_in_range(key, value))
        return rp_fail(error, RP_ERR_INVALID, "policy: %.*s=%.*s is not %s", RP_FMT(name),
                       (int)RP_MIN(text.len, 32), text.ptr, key->range);
    *out = value;
    return RP_OK;
}

/* min_similarity.CATEGORY=number. */
static rp_status
add_category(rp_policy_options *options, rp_str name, rp_str category, rp_str text,
             rp_error *error)
{
    double value;
    if (category.len == 0 || category.len > RP_TAG_SIZE_MAX)
        return rp_fail(error, RP_ERR_INVALID,
                       "policy: min_similarity. wants a category of 1..%d bytes behind the dot",
                       RP_TAG_SIZE_MAX);
    if (options->categories_count == RP_POLICY_CATEGORIES_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "policy: more than %d categories",
                       RP_POLICY_CATEGORIES_MAX);
    const rp_status status = read_number(&number_keys[2], name, text, &value, error);
    if (status != RP_OK)
        return status;
    const uint64_t hash = rp_hash64(category);
    for (size_t i = 0; i < options->categories_count; i++)
        if (options->categories[i].hash == hash)
            return rp_fail(error, RP_ERR_INVALID, "policy: %.*s is given twice", RP_FMT(name));
    options->categories[options->categories_count].hash = hash;
    options->categories[options->categories_count++].min_similarity = value;
    return RP_OK;
}

static rp_status
read_pair(const rp_policy_kind *kind, rp_policy_options *options, unsigned *seen, rp_str name,
          rp_str text, rp_error *error)
{
    const rp_str dotted = RP_STR("min_similarity.");
    for (size_t i = 0; i < RP_COUNT(number_keys); i++) {
        const number_key *key = &number_keys[i];
        if (!(kind->keys & key->bit) || !rp_str_equal(name, rp_str_of(key->name)))
            continue;
        if (*seen & key->bit)
            return rp_fail(error, RP_ERR_INVALID, "policy: %s is given twice", key->name);
        *seen |= key->bit;
        return read_number(key, name, text, (double *)((char *)options + key->offset), error);
    }
    if ((kind->keys & RP_KEY_MIN_SIMILARITY) && rp_str_starts_with(name, dotted))
        return add_category(options, name,
                            (rp_str){ name.ptr + dotted.len, name.len - dotted.len }, text, error);

    /* Refused by name, with what would have been accepted. */
    char known[160] = "";
    size_t at = 0;
    for (size_t i = 0; i < RP_COUNT(number_keys); i++)
        if (kind->keys & number_keys[i].bit && at < sizeof known - 24)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                                   number_keys[i].name);
    return rp_fail(error, RP_ERR_INVALID, "policy %s: unknown key \"%.*s\" (known: %s)", kind->name,
                   (int)RP_MIN(name.len, 48), name.ptr, at ? known : "none");
}

static rp_status
read_spec(rp_str spec, const rp_policy_kind **kind_out, rp_policy_options *options,
          rp_error *error)
{
    const rp_str name = rp_str_split(&spec, ':');
    const rp_policy_kind *kind = NULL;
    for (size_t i = 0; i < RP_COUNT(kinds); i++)
        if (rp_str_equal(name, rp_str_of(kinds[i]->name)))
            kind = kinds[i];
    if (!kind) {
        char known[384] = "";
        size_t at = 0;
        for (size_t i = 0; i < RP_COUNT(kinds) && at < sizeof known - 32; i++)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "",
                                   kinds[i]->name);
        return rp_fail(error, RP_ERR_INVALID, "unknown policy \"%.*s\" (known: %s)",
                       (int)RP_MIN(name.len, 48), name.ptr, known);
    }
    options->min_similarity = kind->min_similarity;
    unsigned seen = 0;
    while (spec.len) {
        rp_str text = rp_str_split(&spec, ',');
        const bool has_value = text.len && memchr(text.ptr, '=', text.len);
        const rp_str key = rp_str_trimmed(rp_str_split(&text, '='));
        if (!has_value)
            return rp_fail(error, RP_ERR_INVALID, "policy %s: \"%.*s\" is not key=value",
                           kind->name, (int)RP_MIN(key.len, 48), key.ptr);
        const rp_status status = read_pair(kind, options, &seen, key, rp_str_trimmed(text), error);
        if (status != RP_OK)
            return status;
    }
    if (kind->keys & RP_KEY_HINT_SIMILARITY && options->hint_similarity > options->min_similarity)
        return rp_fail(error, RP_ERR_INVALID,
                       "policy %s: hint_similarity=%g is above min_similarity=%g", kind->name,
                       options->hint_similarity, options->min_similarity);
    *kind_out = kind;
    return RP_OK;
}

rp_status
rp_policy_new(rp_str spec, double error_max, rp_policy **out, rp_error *error)
{
    const rp_policy_kind *kind = NULL;
    rp_policy_options options = {
        .error_max = 0.01,
        .hit_error_max = 0.10,
        .hint_similarity = 0.70, /* algorithms.md 7: a third-party band of .70-.85 */
        .verifier_min = 0.90,    /* a guess; a calibrated verifier's .9 is 10 % of hits */
        .audit = 0.05,       /* measured: docs/policies.md */
        .judge_min = 0.80,       /* a guess: read paths elsewhere ask from .80 or .85 on */
    };
    if (!isnan(error_max)) {
        if (!is_in_range(&number_keys[0], error_max))
            return rp_fail(error, RP_ERR_INVALID, "policy: error_max %g is not %s", error_max,
                           number_keys[0].range);
        options.error_max = error_max;
    }
    rp_status status = read_spec(spec, &kind, &options, error);
    if (status != RP_OK)
        return status;

    rp_policy *policy = calloc(1, sizeof *policy);
    if (!policy)
        return rp_fail(error, RP_ERR_NOMEM, "policy %s: no memory", kind->name);
    policy->kind = kind;
    policy->options = options;
    if (kind->create && (status = kind->create(policy, error)) != RP_OK) {
        free(policy);
        return status;
    }
    *out = policy;
    return RP_OK;
}

void
rp_policy_free(rp_policy *policy)
{
    if (!policy)
        return;
    if (policy->kind->destroy)
        policy->kind->destroy(policy);
    free(policy);
}

rp_str
rp_policy_name(const rp_policy *policy)
{
    return rp_str_of(policy->kind->name);
}

void
rp_policy_decide(rp_policy *policy, const rp_question *question, double random01,
                 rp_decision *out)
{
    assert(question->count <= RP_CANDIDATES_MAX);
    policy->kind->decide(policy, question, random01, out);
    /* A candidate that is not there can be neither served nor asked about. */
    assert(out->verdict == RP_MISS || out->chosen < question->count);
}

void
rp_policy_observe(rp_policy *policy, const rp_outcome *outcome)
{
    /* Outcomes may come from a file: a similarity that is not a number, or a
     * probability outside (0, 1], would poison every fit made from it. */
    if (!(outcome->candidate.similarity >= -1.001f && outcome->candidate.similarity <= 1.001f)
        || !(outcome->probability > 0 && outcome->probability <= 1))
        return;
    if (policy->kind->observe)
        policy->kind->observe(policy, outcome);
}

void
rp_policy_forget(rp_policy *policy, rp_entry_id id)
{
    if (policy->kind->forget)
        policy->kind->forget(policy, id);
}

void
rp_policy_forget_similarities(rp_policy *policy)
{
    if (policy->kind->forget_similarities)
        policy->kind->forget_similarities(policy);
}

size_t
rp_policy_size_bytes(const rp_policy *policy)
{
    return policy->kind->size_bytes ? policy->kind->size_bytes(policy) : 0;
}

rp_status
rp_policy_save(const rp_policy *policy, char **out, size_t *len)
{
    rp_buffer payload, whole;
    rp_buffer_init(&payload, 0);
    rp_buffer_init(&whole, 0);
    if (policy->kind->save)
        policy->kind->save(policy, &payload);
    const rp_str name = rp_policy_name(policy);
    rp_buffer_append_le32(&whole, STATE_MAGIC);
    rp_buffer_append_le32(&whole, policy->kind->version | (uint32_t)name.len << 16);
    rp_buffer_append(&whole, name);
    rp_buffer_append_le64(&whole, payload.len);
    rp_buffer_append_le64(&whole, rp_hash64(rp_buffer_str(&payload)));
    rp_buffer_append(&whole, rp_buffer_str(&payload));
    const bool failed = rp_buffer_failed(&payload) || rp_buffer_failed(&whole);
    rp_buffer_fini(&payload);
    if (failed) {
        rp_buffer_fini(&whole);
        return RP_ERR_NOMEM;
    }
    *out = rp_buffer_take(&whole, len);
    return RP_OK;
}

rp_status
rp_policy_restore(rp_policy *policy, rp_str bytes, rp_error *error)
{
    const rp_str own = rp_policy_name(policy);
    if (bytes.len < STATE_HEADER_MIN || rp_load_le32(bytes.ptr) != STATE_MAGIC)
        return rp_fail(error, RP_ERR_CORRUPT, "policy state: not a saved state");
    const uint16_t version = rp_load_le16(bytes.ptr + 4);
    const size_t name_size = rp_load_le16(bytes.ptr + 6);
    if (name_size == 0 || name_size > STATE_NAME_MAX || bytes.len < 8 + name_size + 16)
        return rp_fail(error, RP_ERR_CORRUPT, "policy state: cut or damaged header");
    const rp_str name = { bytes.ptr + 8, name_size };
    const uint64_t size = rp_load_le64(name.ptr + name_size);
    const uint64_t checksum = rp_load_le64(name.ptr + name_size + 8);
    const rp_str payload = { name.ptr + name_size + 16, bytes.len - 8 - name_size - 16 };
    if (payload.len != size)
        return rp_fail(error, RP_ERR_CORRUPT, "policy state: %zu bytes of payload, %llu stated",
                       payload.len, (unsigned long long)size);
    if (rp_hash64(payload) != checksum)
        return rp_fail(error, RP_ERR_CORRUPT, "policy state: the checksum does not match");
    if (!rp_str_equal(name, own))
        return rp_fail(error, RP_ERR_INVALID, "policy state of another policy than %.*s",
                       RP_FMT(own));
    if (version != policy->kind->version)
        return rp_fail(error, RP_ERR_STALE, "policy state of version %u, this program has %u",
                       version, policy->kind->version);
    if (!policy->kind->restore)
        return payload.len ? rp_fail(error, RP_ERR_CORRUPT, "policy state: %.*s has no state",
                                     RP_FMT(own))
                           : RP_OK;
    return policy->kind->restore(policy, payload, error);
}

double
rp_policy_error_bound(const rp_policy *policy)
{
    /* Who never learns takes the key, so that SPECs can be exchanged, but keeps no bound. */
    const bool keeps = policy->kind->observe && policy->kind->keys & RP_KEY_ERROR_MAX;
    return keeps ? policy->options.error_max : (double)NAN;
}

double
rp_policy_floor(const rp_policy *policy, const rp_question *question)
{
    double floor = policy->options.min_similarity;
    if (policy->options.categories_count && question->category.len) {
        const uint64_t hash = rp_hash64(question->category);
        for (size_t i = 0; i < policy->options.categories_count; i++)
            if (policy->options.categories[i].hash == hash)
                floor = policy->options.categories[i].min_similarity;
    }
    /* fmax ignores a NaN of the caller. */
    return fmax(floor, (double)question->min_similarity);
}

double
rp_policy_error_max(const rp_policy *policy, const rp_question *question)
{
    return fmin(policy->options.error_max, fmax(question->error_max, 0));
}

void
rp_decision_miss(rp_decision *out, const char *reason)
{
    *out = (rp_decision){
        .verdict = RP_MISS,
        .reason = reason,
        .risk = NAN,
        .threshold = NAN,
        .keep = RP_KEEP_ALWAYS,
    };
}

const char *
rp_policy_gate_reason(uint32_t gates_fired)
{
    static const char *const reasons[RP_GATE_COUNT] = {
        "gate-number",   "gate-date",    "gate-negation", "gate-antonym",
        "gate-entity",   "gate-code",    "gate-language", "gate-unknown",
        "gate-role",     "gate-question", "gate-strict",  "gate-window",
        "gate-collision",
    };
    for (unsigned g = 0; g < RP_GATE_COUNT; g++)
        if (gates_fired >> g & 1)
            return reasons[g];
    return "gate";
}

rp_clearance
rp_policy_clearance(const rp_policy *policy, const rp_question *question,
                    const rp_candidate *candidate, const char **reason)
{
    /* A judge that has spoken is the strongest evidence there is, either way. */
    if (candidate->judge == RP_JUDGE_NO) {
        *reason = "judge-no";
        return RP_CLEAR_BARRED;
    }
    if (candidate->gates_fired == 0) {
        *reason = "similarity";
        return RP_CLEAR;
    }
    *reason = rp_policy_gate_reason(candidate->gates_fired);
    if (candidate->gates_fired & RP_GATES_FINAL)
        return RP_CLEAR_BARRED;
    if (candidate->judge == RP_JUDGE_YES) {
        *reason = "judge-yes";
        return RP_CLEAR;
    }
    if (question->has_verifier && isnan(candidate->verifier))
        return RP_CLEAR_VERIFIER;
    if (candidate->verifier >= (float)policy->options.verifier_min) { /* false for NaN */
        *reason = "verifier";
        return RP_CLEAR;
    }
    if (question->has_judge && candidate->judge == RP_JUDGE_UNASKED)
        return RP_CLEAR_JUDGE;
    return RP_CLEAR_BARRED;
}
