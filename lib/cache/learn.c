/* learn.c - what became known about a decision, told to the policy and kept.
 *
 * An outcome is written down as it was decided: similarity, gates, verifier, judge,
 * margin, whether it was served, and the probability with which the truth came to be
 * known. From these any policy can be replayed later.
 *
 * Format of an outcome (docs/file-format.md, "Outcome"; little-endian):
 *
 *      0  u8   version, 2
 *      1  u8   source (rp_outcome_source)
 *      2  u8   bit 0 right, bit 1 served
 *      3  i8   judge (RP_JUDGE_*)
 *      4  u32  gates fired
 *      8  u32  gates noted
 *     12  f32  similarity
 *     16  f32  similarity of the next candidate (NaN: none)
 *     20  f32  alignment (NaN: gates not run)
 *     24  f32  verifier (NaN: not asked)
 *     28  f64  probability
 *     36  u64  stratum
 *     44  i64  time
 *     52  u64  entry
 *     60  f32  agreement
 *     64  u64  entry that the request's own reply became; 0: none
 *     72  u8   length of the policy's name, then the name
 *      .  u16  length of the category, then the category
 *
 * Version 1 lacked the bytes 60 to 71; it is read as "no agreement, no entry". */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { OUTCOME_VERSION = 2, OUTCOME_FIXED = 73, OUTCOME_FIXED_1 = 61 };

/* Answers up to this many characters that differ in words differ in meaning: labels,
 * numbers, names. Longer ones say the same in many ways. A guess. */
enum { SHORT_ANSWER = 48 };

/* ---- the record ------------------------------------------------------------------------ */

static void
append_float(rp_buffer *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    rp_buffer_append_le32(out, bits);
}

static float
load_float(const char *at)
{
    const uint32_t bits = rp_load_le32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void
rp_outcome_encode(const rp_outcome *outcome, rp_str policy, rp_buffer *out)
{
    const rp_candidate *candidate = &outcome->candidate;
    const size_t policy_len = RP_MIN(policy.len, (size_t)UINT8_MAX);
    const size_t category_len = RP_MIN(outcome->category.len, (size_t)RP_TAG_SIZE_MAX);
    rp_buffer_append_char(out, OUTCOME_VERSION);
    rp_buffer_append_char(out, (char)outcome->source);
    rp_buffer_append_char(out, (char)(outcome->right | outcome->served << 1));
    rp_buffer_append_char(out, (char)candidate->judge);
    rp_buffer_append_le32(out, candidate->gates_fired);
    rp_buffer_append_le32(out, candidate->gates_noted);
    append_float(out, candidate->similarity);
    append_float(out, outcome->similarity_second);
    append_float(out, candidate->alignment);
    append_float(out, candidate->verifier);
    uint64_t bits;
    memcpy(&bits, &outcome->probability, sizeof bits);
    rp_buffer_append_le64(out, bits);
    rp_buffer_append_le64(out, outcome->stratum);
    rp_buffer_append_le64(out, (uint64_t)outcome->time);
    rp_buffer_append_le64(out, candidate->id);
    append_float(out, outcome->agreement);
    rp_buffer_append_le64(out, outcome->entry);
    rp_buffer_append_char(out, (char)policy_len);
    rp_buffer_append(out, (rp_str){ policy.ptr, policy_len });
    rp_buffer_append_char(out, (char)(category_len & 0xff));
    rp_buffer_append_char(out, (char)(category_len >> 8));
    rp_buffer_append(out, (rp_str){ outcome->category.ptr, category_len });
}

rp_status
rp_outcome_decode(rp_str bytes, rp_outcome *out, rp_str *policy)
{
    if (bytes.len < OUTCOME_FIXED_1)
        return RP_ERR_TRUNCATED;
    const char *at = bytes.ptr;
    if (at[0] < 1 || at[0] > OUTCOME_VERSION)
        return RP_ERR_STALE;
    const size_t fixed = at[0] == 1 ? OUTCOME_FIXED_1 : OUTCOME_FIXED;
    if (bytes.len < fixed)
        return RP_ERR_TRUNCATED;
    if ((uint8_t)at[1] > RP_OUTCOME_FEEDBACK || (uint8_t)at[2] > 3 ||
        (signed char)at[3] < RP_JUDGE_UNASKED || (signed char)at[3] > RP_JUDGE_YES)
        return RP_ERR_CORRUPT;
    rp_outcome read = { .source = (rp_outcome_source)at[1],
                        .right = at[2] & 1,
                        .served = at[2] >> 1 & 1,
                        .candidate = { .judge = (signed char)at[3],
                                       .gates_fired = rp_load_le32(at + 4),
                                       .gates_noted = rp_load_le32(at + 8),
                                       .similarity = load_float(at + 12),
                                       .alignment = load_float(at + 20),
                                       .verifier = load_float(at + 24),
                                       .id = rp_load_le64(at + 52) },
                        .similarity_second = load_float(at + 16),
                        .stratum = rp_load_le64(at + 36),
                        .time = (rp_time)rp_load_le64(at + 44) };
    const uint64_t bits = rp_load_le64(at + 28);
    memcpy(&read.probability, &bits, sizeof bits);
    if (fixed == OUTCOME_FIXED) {
        read.agreement = load_float(at + 60);
        read.entry = rp_load_le64(at + 64);
    }
    const size_t policy_len = (uint8_t)at[fixed - 1];
    if (bytes.len < fixed + policy_len + 2)
        return RP_ERR_TRUNCATED;
    const size_t category_len = rp_load_le16(at + fixed + policy_len);
    if (bytes.len != fixed + policy_len + 2 + category_len)
        return bytes.len < fixed + policy_len + 2 + category_len ? RP_ERR_TRUNCATED
                                                                        : RP_ERR_CORRUPT;
    if (category_len > RP_TAG_SIZE_MAX)
        return RP_ERR_CORRUPT;
    if (!(read.probability > 0 && read.probability <= 1) || !isfinite(read.candidate.similarity) ||
        !(read.agreement >= 0 && read.agreement <= 1))
        return RP_ERR_CORRUPT;
    read.category = (rp_str){ at + fixed + policy_len + 2, category_len };
    *out = read;
    *policy = (rp_str){ at + fixed, policy_len };
    return RP_OK;
}

/* Tell the policy and write it down. */
static void
observe(rp_cache *cache, rp_decider *decider, const rp_outcome *outcome)
{
    rp_decider_observe(decider, outcome);
    atomic_store(&cache->learned, true);
    atomic_fetch_add_explicit(outcome->right ? &cache->outcomes_right : &cache->outcomes_wrong, 1,
                              memory_order_relaxed);
    rp_buffer record;
    rp_buffer_init(&record, 0);
    rp_outcome_encode(outcome, rp_decider_name(decider), &record);
    if (rp_buffer_failed(&record) ||
        rp_store_outcome_append(cache->store, rp_buffer_str(&record)) != RP_OK)
        rp_cache_failed(cache, "outcome");
    rp_buffer_fini(&record);
}

/* ---- from a look-up --------------------------------------------------------------------- */

bool
rp_learn(rp_cache *cache, rp_query *query, rp_outcome_source source, bool right,
         double probability)
{
    rp_outcome outcome;
    if (!query->drive || !query->rules.decider || cache->read_only || query->explain ||
        !rp_drive_outcome(query->drive, source, &outcome))
        return false;
    outcome.right = right;
    outcome.entry = query->kept;
    if (probability > 0 && probability < outcome.probability)
        outcome.probability = probability;
    query->neighbor_label = right;
    observe(cache, query->rules.decider, &outcome);
    return true;
}

/* Are two answers the same words? White space and ASCII case aside. */
static bool
same_words(rp_str a, rp_str b)
{
    size_t i = 0, j = 0;
    a = rp_str_trimmed(a);
    b = rp_str_trimmed(b);
    while (i < a.len && j < b.len) {
        const bool space_a = isspace((unsigned char)a.ptr[i]), space_b = isspace((unsigned char)b.ptr[j]);
        if (space_a != space_b)
            return false;
        if (space_a) {
            while (i < a.len && isspace((unsigned char)a.ptr[i]))
                i++;
            while (j < b.len && isspace((unsigned char)b.ptr[j]))
                j++;
        } else if (tolower((unsigned char)a.ptr[i++]) != tolower((unsigned char)b.ptr[j++])) {
            return false;
        }
    }
    return i == a.len && j == b.len;
}

/* The stored answer of the candidate that the decision was about, in a referenced entry. */
static const rp_entry *
candidate_answer(rp_cache *cache, rp_query *query, rp_str *text)
{
    const rp_drive_state *drive = query->drive;
    const size_t at = drive->decision.chosen < drive->count ? drive->decision.chosen : 0;
    const rp_entry *entry =
        rp_store_get(cache->store, query->scope, drive->candidates[at].id, RP_PART_REPLY);
    if (!entry)
        return NULL;
    const rp_reply *reply;
    if (rp_reply_open(entry->reply, query->arena, &reply) != RP_OK ||
        rp_reply_has_tool_calls(reply)) {
        rp_entry_unref(entry);
        return NULL;
    }
    *text = rp_reply_text(reply);
    return entry;
}

bool
rp_learn_from_miss(rp_cache *cache, rp_query *query, rp_str reply_text)
{
    if (!query->drive || query->drive->count == 0 || reply_text.len == 0 ||
        query->result.outcome != RP_LOOKUP_MISS)
        return false;
    rp_str stored;
    const rp_entry *entry = candidate_answer(cache, query, &stored);
    if (!entry)
        return false;
    const bool same = same_words(stored, reply_text);
    const bool short_ones = stored.len <= SHORT_ANSWER && reply_text.len <= SHORT_ANSWER;
    rp_entry_unref(entry);
    /* Of long answers only an agreement would be seen, and a policy that is told of
     * nothing else believes that everything is right. They teach nothing. */
    if (same)
        query->neighbor_label = 1;
    return short_ones && rp_learn(cache, query, RP_OUTCOME_MISS, same, 1.0);
}

/* ---- feedback ------------------------------------------------------------------------------ */

static uint64_t
name_of_entry(rp_entry_id id)
{
    char bytes[8];
    rp_store_le64(bytes, id);
    return rp_hash64((rp_str){ bytes, 8 }) | 1; /* 0 is free */
}

static uint64_t
name_of_request(rp_str tenant, rp_str request_id)
{
    return rp_hash64_seeded(request_id, rp_hash64(tenant)) | 1;
}

static void
remember(rp_cache *cache, rp_recent *table, uint64_t name, const rp_query *query)
{
    if (!query->result.entry)
        return;
    rp_recent recent = { .name = name,
                         .tenant = rp_hash64(query->caller.tenant),
                         .id = query->result.entry->id,
                         .scope = query->scope,
                         .decider = query->rules.decider };
    recent.has_outcome = query->result.tier == RP_TIER_SEMANTIC && query->drive &&
                         rp_drive_outcome(query->drive, RP_OUTCOME_FEEDBACK, &recent.outcome);
    const size_t len = RP_MIN(query->caller.category.len, sizeof recent.category);
    if (len)
        memcpy(recent.category, query->caller.category.ptr, len);
    recent.outcome.category = (rp_str){ NULL, len };
    pthread_mutex_lock(&cache->recent_lock);
    table[name % RP_RECENT_SLOTS] = recent;
    pthread_mutex_unlock(&cache->recent_lock);
}

/* Take what is remembered; each look-up is judged once. */
static bool
recall(rp_cache *cache, rp_recent *table, uint64_t name, rp_str tenant, rp_recent *out)
{
    pthread_mutex_lock(&cache->recent_lock);
    rp_recent *slot = &table[name % RP_RECENT_SLOTS];
    const bool known = slot->name == name && slot->tenant == rp_hash64(tenant);
    if (known) {
        *out = *slot;
        slot->name = 0;
    }
    pthread_mutex_unlock(&cache->recent_lock);
    if (known)
        out->outcome.category.ptr = out->category;
    return known;
}

void
rp_cache_forget_recent(rp_cache *cache)
{
    pthread_mutex_lock(&cache->recent_lock);
    for (size_t i = 0; i < RP_RECENT_SLOTS; i++)
        cache->recent_entries[i].has_outcome = cache->recent_requests[i].has_outcome = false;
    pthread_mutex_unlock(&cache->recent_lock);
}

void
rp_remember_hit(rp_cache *cache, const rp_query *query)
{
    if (query->result.entry)
        remember(cache, cache->recent_entries, name_of_entry(query->result.entry->id), query);
}

void
rp_remember_request(rp_cache *cache, const rp_query *query, rp_str request_id)
{
    remember(cache, cache->recent_requests, name_of_request(query->caller.tenant, request_id),
             query);
}

static void
learn_from_feedback(rp_cache *cache, rp_recent *recent, bool correct)
{
    if (!recent->has_outcome || !recent->decider)
        return;
    recent->outcome.right = correct;
    observe(cache, recent->decider, &recent->outcome);
}

static bool
note_found(void *context, const rp_entry *entry)
{
    (void)entry;
    *(bool *)context = true;
    return false;
}

static bool
entry_is_of_tenant(rp_cache *cache, rp_str tenant, rp_entry_id id)
{
    bool found = false;
    const rp_store_selector selector = { .tenant = tenant, .id = id };
    rp_store_walk(cache->store, &selector, 0, note_found, &found);
    return found;
}

rp_status
rp_feedback(rp_cache *cache, rp_str tenant, rp_entry_id id, bool correct, rp_error *error)
{
    if (id == 0 || tenant.len == 0 || !entry_is_of_tenant(cache, tenant, id))
        return rp_fail(error, RP_ERR_NOT_FOUND, "there is no such entry");
    rp_recent recent;
    if (recall(cache, cache->recent_entries, name_of_entry(id), tenant, &recent))
        learn_from_feedback(cache, &recent, correct);
    if (!correct)
        rp_store_remove(cache->store, &id, 1);
    return RP_OK;
}

rp_status
rp_feedback_request(rp_cache *cache, rp_str tenant, rp_str request_id, bool correct,
                    rp_error *error)
{
    rp_recent recent;
    if (!recall(cache, cache->recent_requests, name_of_request(tenant, request_id), tenant,
                &recent))
        return rp_fail(error, RP_ERR_NOT_FOUND,
                       "no hit is remembered for this request (the last %d are)",
                       (int)RP_RECENT_SLOTS);
    learn_from_feedback(cache, &recent, correct);
    if (!correct)
        rp_store_remove(cache->store, &recent.id, 1);
    return RP_OK;
}
