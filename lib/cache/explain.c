/* explain.c - a look-up as JSON, for the eyes of whoever may read its prompts.
 *
 * {"outcome", "tier", "reason", "scope", "key", "stratum", "fields": {...}, "turn",
 *  "personal", "temporal", "may_read", "may_write",
 *  "entry": {...} | null,
 *  "candidates": [{"entry", "similarity", "alignment", "prompt", "gates": [{"gate",
 *                  "verdict": "fired"|"noted"|"passed", "detail"}], "verifier", "judge"}],
 *  "decision": {"policy", "verdict", "reason", "chosen", "risk", "threshold",
 *               "explore_probability", "keep", "rounds"} | null,
 *  "microseconds": {"exact", "embed", "search", "load", "gate", "policy", "verify", "judge",
 *                   "collision"}}
 *
 * `threshold` is the counterfactual: the smallest similarity that would have hit. */
#include "cache/cache_internal.h"

#include "base/bytes.h"

#include <math.h>

static void
put_hex(rp_json_writer *writer, const char *name, const void *bytes, size_t size)
{
    char digits[65];
    rp_hex_encode(bytes, size, digits);
    rp_json_key(writer, name);
    rp_json_put_string(writer, (rp_str){ digits, size * 2 });
}

static void
put_id(rp_cache *cache, rp_json_writer *writer, const char *name, rp_entry_id id)
{
    char digits[33];
    rp_store_id_encode(cache->store, id, digits);
    rp_json_key(writer, name);
    rp_json_put_cstring(writer, digits);
}

static void
put_double(rp_json_writer *writer, const char *name, double value)
{
    rp_json_key(writer, name);
    rp_json_put_double(writer, value); /* NaN becomes null */
}

static void
put_bool(rp_json_writer *writer, const char *name, bool value)
{
    rp_json_key(writer, name);
    rp_json_put_bool(writer, value);
}

static void
put_label(rp_json_writer *writer, const char *name, const char *label)
{
    rp_json_key(writer, name);
    rp_json_put_cstring(writer, label);
}

static const char *
judge_label(int judge)
{
    switch (judge) {
    case RP_JUDGE_YES:
        return "yes";
    case RP_JUDGE_NO:
        return "no";
    case RP_JUDGE_UNSURE:
        return "unsure";
    default:
        return NULL;
    }
}

static const char *
verdict_label(rp_verdict verdict)
{
    static const char *const labels[] = { "miss", "hit", "need-verifier", "need-judge" };
    return labels[verdict];
}

static const char *
keep_label(rp_keep keep)
{
    static const char *const labels[] = { "always", "if-neighbor-wrong", "never" };
    return labels[keep];
}

static const char *
tier_label(rp_tier tier)
{
    return tier == RP_TIER_EXACT ? "exact" : tier == RP_TIER_SEMANTIC ? "semantic" : NULL;
}

static void
put_gates(rp_json_writer *writer, const rp_candidate *candidate, const rp_gate_report *report,
          uint32_t enabled, bool collision_asked)
{
    const uint32_t spoke = candidate->gates_fired | candidate->gates_noted;
    uint32_t ran = isnan(candidate->alignment) ? spoke : spoke | enabled;
    if (!collision_asked)
        ran &= ~(1u << RP_GATE_COLLISION); /* only who would be served is looked at */
    rp_json_key(writer, "gates");
    rp_json_open(writer, '[');
    for (int gate = 0; gate < RP_GATE_COUNT; gate++) {
        const uint32_t bit = 1u << gate;
        if (!(ran & bit))
            continue;
        rp_json_open(writer, '{');
        put_label(writer, "gate", rp_gate_name((rp_gate)gate));
        put_label(writer, "verdict", candidate->gates_fired & bit   ? "fired"
                                     : candidate->gates_noted & bit ? "noted"
                                                                    : "passed");
        /* Gates of ours (windows, unknown tokens) have no detail of the texts. */
        const bool reported = report && ((report->fired | report->noted) & bit);
        rp_json_key(writer, "detail");
        rp_json_put_string(writer, rp_str_of(reported ? report->detail[gate] : ""));
        rp_json_close(writer, '}');
    }
    rp_json_close(writer, ']');
}

static void
put_candidate(rp_cache *cache, rp_json_writer *writer, const rp_query *query, size_t at)
{
    const rp_drive_state *drive = query->drive;
    const rp_candidate *candidate = &drive->candidates[at];
    const rp_entry *entry = query->work ? query->work->entries[drive->origins[at]] : NULL;
    rp_json_open(writer, '{');
    put_id(cache, writer, "entry", candidate->id);
    put_double(writer, "similarity", candidate->similarity);
    put_double(writer, "alignment", candidate->alignment);
    rp_json_key(writer, "prompt");
    rp_json_put_string(writer, entry ? entry->prompt : (rp_str){ 0 });
    put_gates(writer, candidate, drive->reports[at], drive->input.gates.enabled,
              drive->collision_asked[at]);
    put_double(writer, "verifier", candidate->verifier);
    put_label(writer, "judge", judge_label(candidate->judge));
    if (entry) {
        rp_json_key(writer, "age_seconds");
        rp_json_put_int(writer, RP_MAX(query->now - entry->created, 0) / 1000000);
    }
    rp_json_close(writer, '}');
}

static void
put_decision(rp_json_writer *writer, const rp_query *query)
{
    const rp_decision *decision = &query->result.decision;
    rp_json_key(writer, "decision");
    if (!query->drive || !decision->reason) {
        rp_json_put_null(writer);
        return;
    }
    rp_json_open(writer, '{');
    rp_json_key(writer, "policy");
    rp_json_put_string(writer, rp_decider_name(query->rules.decider));
    put_label(writer, "verdict", verdict_label(decision->verdict));
    put_label(writer, "reason", decision->reason);
    rp_json_key(writer, "chosen");
    rp_json_put_uint(writer, decision->chosen);
    put_double(writer, "risk", decision->risk);
    put_double(writer, "threshold", decision->threshold);
    put_double(writer, "explore_probability", decision->explore_probability);
    put_label(writer, "keep", keep_label(decision->keep));
    rp_json_key(writer, "rounds");
    rp_json_put_uint(writer, query->drive->rounds);
    rp_json_close(writer, '}');
}

static void
put_times(rp_json_writer *writer, const rp_lookup_result *result)
{
    const struct { const char *name; int64_t us; } times[] = {
        { "exact", result->exact_us },   { "embed", result->embed_us },
        { "search", result->search_us }, { "load", result->load_us },
        { "gate", result->gate_us },     { "policy", result->policy_us },
        { "verify", result->verify_us }, { "judge", result->judge_us },
        { "collision", result->collision_us },
    };
    rp_json_key(writer, "microseconds");
    rp_json_open(writer, '{');
    for (size_t i = 0; i < RP_COUNT(times); i++) {
        rp_json_key(writer, times[i].name);
        rp_json_put_int(writer, times[i].us);
    }
    rp_json_close(writer, '}');
}

static void
put_scope(rp_json_writer *writer, const rp_query *query)
{
    if (query->result.outcome == RP_LOOKUP_BYPASS)
        return; /* none was made */
    put_hex(writer, "scope", query->scope.bytes, sizeof query->scope.bytes);
    put_hex(writer, "key", query->key.bytes, sizeof query->key.bytes);
    char stratum[8];
    rp_store_le64(stratum, query->stratum);
    put_hex(writer, "stratum", stratum, sizeof stratum);
    rp_buffer fields;
    rp_buffer_init(&fields, 0);
    rp_scope_fields_write(query->request, &query->caller, &fields);
    rp_json_key(writer, "fields");
    rp_json_put_raw(writer, rp_buffer_failed(&fields) ? RP_STR("null") : rp_buffer_str(&fields));
    rp_buffer_fini(&fields);
    rp_json_key(writer, "turn");
    rp_json_put_raw(writer, query->request->last_turn.len ? query->request->last_turn
                                                          : RP_STR("null"));
}

void
rp_explain_write(rp_cache *cache, const rp_query *query, rp_buffer *out)
{
    const rp_lookup_result *result = &query->result;
    const rp_volatility words = rp_query_volatility(query);
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    rp_json_open(&writer, '{');
    put_label(&writer, "outcome", rp_lookup_outcome_name(result->outcome));
    put_label(&writer, "tier", tier_label(result->tier));
    put_label(&writer, "reason", result->reason);
    put_label(&writer, "eligible", query->tier == RP_TIER_NONE ? "none" : tier_label(query->tier));
    put_scope(&writer, query);
    put_bool(&writer, "personal", words.personal);
    put_bool(&writer, "temporal", words.temporal);
    put_bool(&writer, "may_read", query->may_read);
    put_bool(&writer, "may_write", query->may_write);
    put_double(&writer, "similarity", result->similarity);
    put_double(&writer, "unknown_share", query->vectors ? query->unknown_share : NAN);
    if (result->entry)
        put_id(cache, &writer, "entry", result->entry->id);
    else
        put_label(&writer, "entry", NULL);
    rp_json_key(&writer, "candidates");
    rp_json_open(&writer, '[');
    for (size_t i = 0; query->drive && i < query->drive->count; i++)
        put_candidate(cache, &writer, query, i);
    rp_json_close(&writer, ']');
    put_decision(&writer, query);
    put_times(&writer, result);
    rp_json_close(&writer, '}');
}
