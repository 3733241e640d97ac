/* attack.c - what attacks do to policies and defences; see attack.h.
 *
 * A scene is a scope: the benign prompts that are stored and the texts that are asked. There are
 * three: plain; wrapped, where all prompts share a long instruction; and wrapped with the
 * template cut off. For each policy and defence the policy first serves the scene's benign
 * questions, learning from misses as a server would; then, with its state as it is, every
 * benign question and every attack is decided. */
#include "eval/attack.h"

#include "base/bytes.h"
#include "base/random.h"
#include "cache/driver.h"
#include "eval/attack_score.h"
#include "evidence/collision.h"
#include "evidence/deletion_gain.h"
#include "evidence/template.h"
#include <reprise/index.h>

#include <math.h>
#include <stdlib.h>

enum { NEIGHBORS = 8, PRIMING_LABELS = 6, REPLICATES = 1000 };
#define ATTACK_ID ((rp_entry_id)UINT32_MAX)
#define PRIMED_SIMILARITY 0.97f
/* Detection is measured where a cache might hit. */
static const double detection_floors[] = { 0.80, 0.70, 0.90, 0.95 };

typedef enum scene_kind { SCENE_PLAIN, SCENE_WRAPPED, SCENE_CUT, SCENE_COUNT } scene_kind;

typedef struct scene {
    rp_index *index;     /* owned; id = place + 1 */
    uint32_t *stored;    /* (count) texts; owned */
    uint32_t *asked;     /* (count) texts; owned */
    size_t count;        /* the first pairs of the set */
} scene;

typedef struct measurement {
    rp_attack_set *set;
    const rp_attack_options *options;
    rp_scorer scorer;
    rp_template *template_;
    scene scenes[SCENE_COUNT];
    /* Thresholds by the half they were chosen on; a fence for the published score. */
    double collision_max[2];
    rp_gain_fence fences[2];
    rp_arena arena;      /* of one decision */
    rp_attack_result *result;
    rp_error *error;
} measurement;

const char *
rp_defence_name(rp_defence defence)
{
    static const char *const names[RP_DEFENCE_COUNT] = {
        "none", "gates", "deletion-gain", "collision", "shipped", "templates", "all",
    };
    return (unsigned)defence < RP_DEFENCE_COUNT ? names[defence] : "none";
}

void
rp_attack_result_fini(rp_attack_result *result)
{
    free(result->strengths);
    free(result->detections);
    free(result->attacks);
    free(result->benign);
    *result = (rp_attack_result){ 0 };
}

static rp_status
no_memory(rp_error *error)
{
    return rp_fail(error, RP_ERR_NOMEM, "no memory to measure attacks");
}

/* Is it one that hides something? The others say what an encoder gives away by itself. */
static bool
is_disguised(rp_attack_kind kind)
{
    return kind != RP_ATTACK_BARE && kind != RP_ATTACK_WRAPPED;
}

/* ---- scenes ----------------------------------------------------------------------------------- */

static rp_status
cut_text(measurement *m, uint32_t text, uint32_t *out)
{
    bool fits;
    const rp_str cut = rp_template_cut(m->template_, m->set->texts.texts[text], &fits);
    return rp_text_set_add(&m->set->texts, cut, out);
}

static rp_status
fill_scene(measurement *m, scene_kind kind)
{
    scene *s = &m->scenes[kind];
    s->count = kind == SCENE_PLAIN ? m->set->pair_count
                                   : RP_MIN(m->set->pair_count, (size_t)RP_WRAPPED_PAIRS_MAX);
    s->stored = calloc(s->count + 1, sizeof *s->stored);
    s->asked = calloc(s->count + 1, sizeof *s->asked);
    rp_status status = s->stored && s->asked ? RP_OK : RP_ERR_NOMEM;
    for (size_t i = 0; !status && i < s->count; i++) {
        const rp_benign_pair *pair = &m->set->pairs[i * m->set->pair_count / s->count];
        uint32_t *const both[] = { &s->stored[i], &s->asked[i] };
        for (size_t k = 0; !status && k < RP_COUNT(both); k++) {
            *both[k] = k ? pair->b : pair->a;
            if (kind != SCENE_PLAIN)
                status = rp_attack_wrap(m->set, *both[k], both[k]);
            if (!status && kind == SCENE_WRAPPED && k == 0)
                rp_template_learn(m->template_, m->set->texts.texts[*both[k]]);
            if (!status && kind == SCENE_CUT)
                status = cut_text(m, *both[k], both[k]);
        }
    }
    return status;
}

static const rp_benign_pair *
pair_of(const measurement *m, const scene *s, size_t at)
{
    return &m->set->pairs[at * m->set->pair_count / s->count];
}

static rp_status
index_scene(measurement *m, scene *s)
{
    static const rp_scope scope = { { 0 } };
    const rp_index_options options = { .dim = m->scorer.dim, .count_max = s->count + 1,
                                       .searchers_max = 1 };
    rp_status status = rp_index_new(&options, &s->index);
    for (size_t i = 0; !status && i < s->count; i++) {
        const float *vector = rp_scorer_vector(&m->scorer, s->stored[i]);
        status = vector ? rp_index_add(s->index, scope, (rp_entry_id)i + 1, vector) : RP_ERR_NOMEM;
    }
    return status;
}

/* Everything that will be asked for is a text before anything is embedded. */
static rp_status
plan_scores(measurement *m)
{
    const rp_attack_set *set = m->set;
    const rp_attack_score kinds = m->options->published ? RP_SCORE_COUNT : RP_SCORE_PUBLISHED;
    rp_status status = RP_OK;
    for (rp_attack_score kind = 0; kind < kinds; kind++) {
        for (size_t i = 0; !status && i < set->attack_count; i++)
            if (set->attacks[i].kind != RP_ATTACK_WRAPPED)
                status = rp_scorer_plan(&m->scorer, kind, set->attacks[i].key,
                                        set->attacks[i].question);
        for (size_t i = 0; !status && i < set->pair_count; i++)
            status = rp_scorer_plan(&m->scorer, kind, set->pairs[i].a, set->pairs[i].b);
    }
    return status;
}

static rp_status
prepare(measurement *m)
{
    rp_status status = rp_template_new(&m->template_);
    for (scene_kind kind = 0; !status && kind < SCENE_COUNT; kind++)
        status = fill_scene(m, kind);
    for (size_t i = 0; !status && i < m->set->attack_count; i++) {
        uint32_t cut;
        if (m->set->attacks[i].kind != RP_ATTACK_WRAPPED)
            continue;
        status = cut_text(m, m->set->attacks[i].key, &cut);
        if (!status)
            status = cut_text(m, m->set->attacks[i].question, &cut);
    }
    if (!status)
        status = plan_scores(m);
    if (status)
        return no_memory(m->error);
    status = rp_scorer_embed(&m->scorer, m->options->cache_folder, m->options->progress,
                             m->options->context, m->error);
    if (status)
        return status;
    for (scene_kind kind = 0; !status && kind < SCENE_COUNT; kind++)
        if (index_scene(m, &m->scenes[kind]) != RP_OK)
            status = no_memory(m->error);
    return status;
}

/* ---- strength ---------------------------------------------------------------------------------- */

static rp_status
measure_strength(measurement *m)
{
    rp_attack_result *out = m->result;
    out->strengths = calloc(RP_ATTACK_KIND_COUNT, sizeof *out->strengths);
    if (!out->strengths)
        return no_memory(m->error);
    for (rp_attack_kind kind = 0; kind < RP_ATTACK_KIND_COUNT; kind++) {
        rp_strength_row row = { .kind = rp_attack_kind_name(kind) };
        for (size_t i = 0; i < m->set->attack_count; i++) {
            const rp_attack *attack = &m->set->attacks[i];
            if (attack->kind != kind)
                continue;
            const double cosine = rp_scorer_similarity(&m->scorer, attack->key, attack->question);
            row.attempts++;
            row.mean_similarity += cosine;
            row.at_70 += cosine >= 0.70;
            row.at_80 += cosine >= 0.80;
            row.at_90 += cosine >= 0.90;
            row.at_95 += cosine >= 0.95;
        }
        row.mean_similarity /= (double)row.attempts; /* NaN for none */
        out->strengths[out->strength_count++] = row;
    }
    return RP_OK;
}

/* ---- detection --------------------------------------------------------------------------------- */

/* One judged pair of a stored text and a question. */
typedef struct judged {
    double score, similarity, words;
    uint32_t group;
    rp_attack_kind kind;
    bool is_attack;
} judged;

static double
count_words(rp_str text)
{
    size_t words = 0;
    for (size_t i = 0; i < text.len; i++)
        words += text.ptr[i] != ' ' && (i == 0 || text.ptr[i - 1] == ' ');
    return (double)words;
}

static rp_status
judge(measurement *m, rp_attack_score score, uint32_t stored, uint32_t question, judged *out)
{
    float value;
    const rp_status status = rp_scorer_score(&m->scorer, score, stored, question, &value);
    if (status)
        return status;
    out->score = (double)value;
    out->similarity = rp_scorer_similarity(&m->scorer, stored, question);
    out->words = count_words(m->set->texts.texts[stored]);
    return RP_OK;
}

/* All attacks that hide something, then all benign pairs. *out is the caller's. */
static rp_status
judge_all(measurement *m, rp_attack_score score, judged **out, size_t *count)
{
    const rp_attack_set *set = m->set;
    judged *rows = calloc(set->attack_count + set->pair_count + 1, sizeof *rows);
    rp_status status = rows ? RP_OK : RP_ERR_NOMEM;
    *count = 0;
    for (size_t i = 0; !status && i < set->attack_count; i++) {
        const rp_attack *attack = &set->attacks[i];
        if (!is_disguised(attack->kind))
            continue;
        judged *row = &rows[(*count)++];
        *row = (judged){ .group = attack->group, .kind = attack->kind, .is_attack = true };
        status = judge(m, score, attack->key, attack->question, row);
    }
    for (size_t i = 0; !status && i < set->pair_count; i++) {
        judged *row = &rows[(*count)++];
        *row = (judged){ .group = set->pairs[i].group };
        status = judge(m, score, set->pairs[i].a, set->pairs[i].b, row);
    }
    if (status)
        free(rows);
    else
        *out = rows;
    return status;
}

static int
by_rising_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The score that `false_positives` of the half's benign pairs of at least `floor` pass. */
static rp_status
choose_threshold(const measurement *m, const judged *rows, size_t count, unsigned half,
                 double floor, double *out)
{
    double *scores = calloc(count + 1, sizeof *scores);
    size_t found = 0;
    if (!scores)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        if (!rows[i].is_attack && rp_attack_half(rows[i].group) == half &&
            rows[i].similarity >= floor)
            scores[found++] = rows[i].score;
    qsort(scores, found, sizeof *scores, by_rising_value);
    const size_t allowed = (size_t)(m->options->false_positives * (double)found);
    *out = found ? scores[found - 1 - RP_MIN(allowed, found - 1)] : (double)INFINITY;
    free(scores);
    return RP_OK;
}

static rp_status
fit_fence(const measurement *m, const judged *rows, size_t count, unsigned half, rp_gain_fence *out)
{
    rp_gain_sample *samples = calloc(count + 1, sizeof *samples);
    size_t found = 0;
    if (!samples)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        if (!rows[i].is_attack && rp_attack_half(rows[i].group) == half &&
            rows[i].similarity >= detection_floors[0] && rows[i].score > (double)RP_SCORE_NONE)
            samples[found++] = (rp_gain_sample){ rows[i].score, rows[i].similarity, rows[i].words };
    *out = (rp_gain_fence){ .base = INFINITY };
    /* Too few to say anything: nothing is refused. */
    (void)!rp_gain_fence_fit(samples, found, m->options->false_positives, out);
    free(samples);
    return RP_OK;
}

/* The published score is compared with a fence; what is above it is positive. */
static void
subtract_fence(const measurement *m, judged *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].score > (double)RP_SCORE_NONE)
            rows[i].score -= rp_gain_fence_at(&m->fences[1 - rp_attack_half(rows[i].group)],
                                              rows[i].similarity, rows[i].words);
}

typedef struct group_number {
    uint32_t group;
    size_t at;
} group_number;

static int
by_group(const void *a, const void *b)
{
    const group_number *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The bootstrap draws groups 0..n-1. */
static rp_status
number_groups(rp_scored *rows, size_t count, size_t *groups)
{
    group_number *order = calloc(count + 1, sizeof *order);
    if (!order)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        order[i] = (group_number){ rows[i].group, i };
    qsort(order, count, sizeof *order, by_group);
    *groups = 0;
    for (size_t i = 0; i < count; i++) {
        *groups += i > 0 && order[i].group != order[i - 1].group;
        rows[order[i].at].group = (uint32_t)*groups;
    }
    *groups += count > 0;
    free(order);
    return RP_OK;
}

static rp_status
fill_auc(const measurement *m, rp_scored *rows, size_t count, rp_detection_row *out)
{
    rp_pair_metrics metrics;
    rp_bootstrap bootstrap;
    size_t groups;
    out->auc = out->auc_95.low = out->auc_95.high = NAN;
    if (out->attacks == 0 || out->benign == 0)
        return RP_OK;
    rp_status status = number_groups(rows, count, &groups);
    if (status)
        return status;
    rp_scored_sort(rows, count);
    rp_pair_metrics_of(rows, count, &metrics);
    status = rp_bootstrap_pairs(rows, count, groups, REPLICATES, m->options->seed, 0.95, &bootstrap);
    out->auc = metrics.auc;
    out->auc_95 = bootstrap.auc;
    return status;
}

/* kind RP_ATTACK_KIND_COUNT: all of them. */
static rp_status
add_detection(measurement *m, const char *score, const judged *rows, size_t count,
              rp_attack_kind kind, double floor, const double thresholds[2])
{
    rp_detection_row row = { .score = score, .min_similarity = floor,
                             .kind = kind == RP_ATTACK_KIND_COUNT ? "*" : rp_attack_kind_name(kind),
                             .thresholds = { thresholds[0], thresholds[1] } };
    rp_scored *scored = calloc(count + 1, sizeof *scored);
    size_t found = 0;
    if (!scored)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        if (!(rows[i].similarity >= floor) ||
            (rows[i].is_attack && kind != RP_ATTACK_KIND_COUNT && rows[i].kind != kind))
            continue;
        const bool above = rows[i].score > thresholds[1 - rp_attack_half(rows[i].group)];
        *(rows[i].is_attack ? &row.attacks : &row.benign) += 1;
        *(rows[i].is_attack ? &row.blocked : &row.false_positives) += above;
        scored[found++] = (rp_scored){ .score = rows[i].score, .weight = 1,
                                       .group = rows[i].group, .positive = rows[i].is_attack };
    }
    const rp_status status = fill_auc(m, scored, found, &row);
    m->result->detections[m->result->detection_count++] = row;
    free(scored);
    return status;
}

static rp_status
detect_with(measurement *m, rp_attack_score score, const char *name)
{
    judged *rows;
    size_t count;
    double thresholds[2] = { 0, 0 };
    rp_status status = judge_all(m, score, &rows, &count);
    if (status)
        return status;
    for (unsigned half = 0; !status && half < 2; half++)
        status = score == RP_SCORE_PUBLISHED
                     ? fit_fence(m, rows, count, half, &m->fences[half])
                     : choose_threshold(m, rows, count, half, detection_floors[0],
                                        &thresholds[half]);
    if (score == RP_SCORE_PUBLISHED)
        subtract_fence(m, rows, count);
    else
        memcpy(m->collision_max, thresholds, sizeof thresholds);
    for (size_t i = 0; !status && i < RP_COUNT(detection_floors); i++)
        status = add_detection(m, name, rows, count, RP_ATTACK_KIND_COUNT, detection_floors[i],
                               thresholds);
    for (rp_attack_kind kind = 0; !status && kind < RP_ATTACK_KIND_COUNT; kind++)
        if (is_disguised(kind))
            status = add_detection(m, name, rows, count, kind, detection_floors[0], thresholds);
    free(rows);
    return status;
}

static rp_status
measure_detection(measurement *m)
{
    m->result->detections = calloc((RP_ATTACK_KIND_COUNT + RP_COUNT(detection_floors)) *
                                       (RP_SCORE_COUNT + 1), sizeof *m->result->detections);
    rp_status status = m->result->detections ? detect_with(m, RP_SCORE_COLLISION, "collision")
                                             : RP_ERR_NOMEM;
    if (!status && m->options->published)
        status = detect_with(m, RP_SCORE_PUBLISHED, "deletion-gain");
    return status ? no_memory(m->error) : RP_OK;
}

/* ---- one decision ------------------------------------------------------------------------------- */

/* A policy under a defence, in a scene, and what is decided at the moment. */
typedef struct court {
    measurement *m;
    const scene *scene;
    rp_decider *decider;
    rp_defence defence;
    uint32_t asked;       /* text */
    uint32_t group;       /* of the question: which half's threshold */
    uint32_t attack_key;  /* text behind ATTACK_ID */
    rp_status status;     /* of a score that could not be made */
} court;

static uint32_t
text_of(const court *c, rp_entry_id id)
{
    return id == ATTACK_ID ? c->attack_key : c->scene->stored[id - 1];
}

static bool
lend_text(void *context, size_t at, rp_entry_id id, rp_str *out)
{
    const court *c = context;
    (void)at;
    *out = c->m->set->texts.texts[text_of(c, id)];
    return true;
}

static rp_status
collides(void *context, size_t at, rp_entry_id id, rp_str prompt, rp_str stored, float similarity,
         bool *out)
{
    court *c = context;
    measurement *m = c->m;
    const unsigned other = 1 - rp_attack_half(c->group);
    const bool published = c->defence == RP_DEFENCE_DELETION_GAIN;
    float score;
    (void)at;
    (void)prompt;
    c->status = rp_scorer_score(&m->scorer, published ? RP_SCORE_PUBLISHED : RP_SCORE_COLLISION,
                                text_of(c, id), c->asked, &score);
    if (c->status)
        return c->status;
    const double limit =
        published ? rp_gain_fence_at(&m->fences[other], (double)similarity, count_words(stored))
        : c->defence == RP_DEFENCE_SHIPPED ? RP_COLLISION_SCORE_MAX
                                           : m->collision_max[other];
    *out = (double)score > limit;
    return RP_OK;
}

static uint32_t
gates_of(rp_defence defence)
{
    const uint32_t collision = 1u << RP_GATE_COLLISION;
    switch (defence) {
    case RP_DEFENCE_GATES:
        return RP_GATES_DEFAULT & ~collision;
    case RP_DEFENCE_DELETION_GAIN:
    case RP_DEFENCE_COLLISION:
    case RP_DEFENCE_SHIPPED:
        return collision;
    case RP_DEFENCE_ALL:
        return RP_GATES_DEFAULT;
    default:
        return 0;
    }
}

static void
insert_candidate(rp_candidate *candidates, size_t *count, rp_candidate candidate)
{
    size_t at = *count;
    while (at > 0 && candidates[at - 1].similarity < candidate.similarity) {
        candidates[at] = candidates[at - 1];
        at--;
    }
    candidates[at] = candidate;
    ++*count;
}

/* Decide about c->asked, with the attacker's entry among the others if `attack`; entries of the
 * victim's own group then stand aside if `alone`: nobody has asked for it before. */
static void
decide(court *c, bool attack, bool alone, rp_drive_state *state)
{
    static const rp_scope scope = { { 0 } };
    rp_neighbor neighbors[NEIGHBORS];
    rp_candidate candidates[NEIGHBORS + 1];
    size_t count = 0;
    measurement *m = c->m;
    const size_t found = rp_index_search(c->scene->index, scope,
                                         rp_scorer_vector(&m->scorer, c->asked), NEIGHBORS,
                                         neighbors);
    for (size_t i = 0; i < found; i++)
        if (!alone || pair_of(m, c->scene, neighbors[i].id - 1)->group != c->group)
            candidates[count++] = (rp_candidate){ .id = neighbors[i].id,
                                                  .similarity = neighbors[i].similarity };
    if (attack) {
        const double similarity = rp_scorer_similarity(&m->scorer, c->attack_key, c->asked);
        insert_candidate(candidates, &count, (rp_candidate){ .id = ATTACK_ID,
                                                             .similarity = (float)similarity });
    }
    rp_arena_reset(&m->arena);
    const rp_drive_input input = {
        .prompt = m->set->texts.texts[c->asked],
        .stratum = 1,
        .now = 1,
        .min_similarity = -1,
        .error_max = 1,
        .gates = { .enabled = gates_of(c->defence) },
        .random01 = rp_decider_draw(c->decider),
        .clock = &rp_clock_system,
        .sources = { .text = lend_text, .collides = collides, .context = c },
        .arena = &m->arena,
    };
    rp_drive_begin(state, &input, candidates, count);
    rp_drive(state, c->decider, NULL);
}

/* ---- policies ------------------------------------------------------------------------------------ */

static bool
learns(const char *policy)
{
    return strncmp(policy, "exact", 5) != 0 && strncmp(policy, "static", 6) != 0 &&
           strncmp(policy, "dual", 4) != 0;
}

/* The scene's benign questions, as a server would have seen them: after a miss it is known
 * whether the nearest would have been right. */
static void
warm_up(court *c)
{
    const measurement *m = c->m;
    for (size_t i = 0; i < c->scene->count && !c->status; i++) {
        rp_drive_state state;
        rp_outcome outcome;
        c->asked = c->scene->asked[i];
        c->group = pair_of(m, c->scene, i)->group;
        decide(c, false, false, &state);
        if (state.decision.verdict == RP_HIT ||
            !rp_drive_outcome(&state, RP_OUTCOME_MISS, &outcome))
            continue;
        const size_t stored = (size_t)outcome.candidate.id - 1;
        outcome.right = pair_of(m, c->scene, stored)->answer == pair_of(m, c->scene, i)->answer;
        rp_decider_observe(c->decider, &outcome);
    }
}

/* For each benign question: 0 a miss, 1 a wrong hit, 2 a right one. */
static void
decide_benign(court *c, uint8_t *out)
{
    const measurement *m = c->m;
    for (size_t i = 0; i < c->scene->count && !c->status; i++) {
        rp_drive_state state;
        c->asked = c->scene->asked[i];
        c->group = pair_of(m, c->scene, i)->group;
        decide(c, false, false, &state);
        out[i] = 0;
        if (state.decision.verdict != RP_HIT)
            continue;
        const size_t stored = (size_t)state.candidates[state.decision.chosen].id - 1;
        const bool right =
            pair_of(m, c->scene, stored)->answer == pair_of(m, c->scene, i)->answer;
        out[i] = right ? 2 : 1;
    }
}

static void
prime(court *c)
{
    for (int i = 0; i < PRIMING_LABELS; i++) {
        const rp_outcome outcome = { .stratum = 1,
                                     .time = 1,
                                     .candidate = { .id = ATTACK_ID,
                                                    .similarity = PRIMED_SIMILARITY,
                                                    .alignment = 0.9f,
                                                    .verifier = NAN,
                                                    .judge = RP_JUDGE_UNASKED },
                                     .similarity_second = NAN,
                                     .right = true,
                                     .source = RP_OUTCOME_MISS,
                                     .probability = 1 };
        rp_decider_observe(c->decider, &outcome);
    }
}

/* `state`: of the policy before the attacker came; NULL: it keeps none. */
static bool
succeeds(court *c, const rp_attack *attack, const rp_str *state)
{
    rp_drive_state drive;
    rp_error error;
    if (state && rp_decider_restore(c->decider, *state, &error) != RP_OK)
        c->status = RP_ERR_CORRUPT;
    if (state)
        prime(c);
    c->asked = attack->question;
    c->attack_key = attack->key;
    c->group = attack->group;
    if (attack->kind == RP_ATTACK_WRAPPED && c->scene == &c->m->scenes[SCENE_CUT] &&
        (cut_text(c->m, attack->question, &c->asked) != RP_OK ||
         cut_text(c->m, attack->key, &c->attack_key) != RP_OK))
        c->status = RP_ERR_NOMEM;
    if (c->status)
        return false;
    decide(c, true, attack->kind == RP_ATTACK_REWORDED, &drive);
    return drive.decision.verdict == RP_HIT &&
           drive.candidates[drive.decision.chosen].id == ATTACK_ID;
}

static bool
is_poisoning(rp_attack_kind kind)
{
    return kind == RP_ATTACK_POISON_COMMAND || kind == RP_ATTACK_POISON_CONTEXT ||
           kind == RP_ATTACK_POISON_TEMPLATE;
}

static void
decide_attacks(court *c, const char *policy, bool wrapped, const rp_str *state)
{
    rp_attack_result *out = c->m->result;
    rp_attack_row sums[2] = { { .kind = "all-collision" }, { .kind = "all-poisoning" } };
    for (rp_attack_kind kind = 0; kind < RP_ATTACK_KIND_COUNT && !c->status; kind++) {
        if ((kind == RP_ATTACK_WRAPPED) != wrapped)
            continue;
        rp_attack_row row = { .kind = rp_attack_kind_name(kind), .policy = policy,
                              .defence = rp_defence_name(c->defence), .primed = state != NULL };
        for (size_t i = 0; i < c->m->set->attack_count && !c->status; i++) {
            if (c->m->set->attacks[i].kind != kind)
                continue;
            row.attempts++;
            row.successes += succeeds(c, &c->m->set->attacks[i], state);
        }
        out->attacks[out->attack_count++] = row;
        if (is_disguised(kind)) {
            sums[is_poisoning(kind)].attempts += row.attempts;
            sums[is_poisoning(kind)].successes += row.successes;
        }
    }
    for (size_t i = 0; !wrapped && i < RP_COUNT(sums); i++) {
        sums[i].policy = policy;
        sums[i].defence = rp_defence_name(c->defence);
        sums[i].primed = state != NULL;
        out->attacks[out->attack_count++] = sums[i];
    }
}

/* Rows of each benign file and of all; `without` are the decisions without a defence. */
static void
add_benign_rows(court *c, const char *policy, const uint8_t *decisions, const uint8_t *without)
{
    const measurement *m = c->m;
    const size_t files = m->set->file_count;
    for (size_t f = 0; f <= files; f++) {
        rp_benign_row row = { .file = f ? m->set->files[f - 1] : "*", .policy = policy,
                              .defence = rp_defence_name(c->defence) };
        for (size_t i = 0; i < c->scene->count; i++) {
            if (f && pair_of(m, c->scene, i)->file != f - 1)
                continue;
            row.questions++;
            row.hits += decisions[i] > 0;
            row.right_hits += decisions[i] == 2;
            row.of_right += without[i] == 2;
            row.refused_right += without[i] == 2 && decisions[i] != 2;
        }
        m->result->benign[m->result->benign_count++] = row;
    }
}

static rp_status
measure_policy(measurement *m, const char *policy, rp_defence defence, bool wrapped,
               uint8_t *decisions, uint8_t *without)
{
    court c = { .m = m, .defence = defence };
    const bool cuts = defence == RP_DEFENCE_TEMPLATES || defence == RP_DEFENCE_ALL;
    c.scene = &m->scenes[!wrapped ? SCENE_PLAIN : cuts ? SCENE_CUT : SCENE_WRAPPED];
    rp_status status = rp_decider_new(rp_str_of(policy), NAN, m->options->seed, &c.decider, m->error);
    if (status)
        return status;
    if (learns(policy))
        warm_up(&c);
    char *bytes = NULL;
    size_t len = 0;
    if (!c.status && learns(policy))
        c.status = rp_decider_save(c.decider, &bytes, &len);
    if (!wrapped) {
        decide_benign(&c, decisions);
        if (defence == RP_DEFENCE_NONE)
            memcpy(without, decisions, c.scene->count);
        add_benign_rows(&c, policy, decisions, without);
    }
    decide_attacks(&c, policy, wrapped, NULL);
    const rp_str state = { bytes, len };
    if (bytes && !c.status)
        decide_attacks(&c, policy, wrapped, &state);
    free(bytes);
    rp_decider_free(c.decider);
    return c.status ? rp_fail(m->error, c.status, "policy %s could not be attacked: %s", policy,
                              rp_status_name(c.status))
                    : RP_OK;
}

/* What does not change the plain scenes is not repeated there. */
static bool
is_wanted(const measurement *m, rp_defence defence, bool wrapped)
{
    if (defence == RP_DEFENCE_DELETION_GAIN)
        return m->options->published && !wrapped;
    return wrapped || defence != RP_DEFENCE_TEMPLATES;
}

static rp_status
measure_policies(measurement *m)
{
    const size_t policies = m->options->policy_count;
    rp_attack_result *out = m->result;
    const size_t rounds = policies * RP_DEFENCE_COUNT * 2;
    out->attacks = calloc(rounds * 2 * (RP_ATTACK_KIND_COUNT + 2) + 1, sizeof *out->attacks);
    out->benign = calloc(rounds * (m->set->file_count + 1) + 1, sizeof *out->benign);
    uint8_t *decisions = calloc(m->set->pair_count + 1, 1);
    uint8_t *without = calloc(m->set->pair_count + 1, 1);
    rp_status status = out->attacks && out->benign && decisions && without ? RP_OK
                                                                           : no_memory(m->error);
    size_t done = 0;
    for (size_t p = 0; !status && p < policies; p++)
        for (int wrapped = 0; !status && wrapped < 2; wrapped++)
            for (rp_defence defence = 0; !status && defence < RP_DEFENCE_COUNT; defence++) {
                if (m->options->progress)
                    m->options->progress(m->options->context, "attacking", done, rounds);
                done++;
                if (is_wanted(m, defence, wrapped))
                    status = measure_policy(m, m->options->policies[p], defence, wrapped, decisions,
                                            without);
            }
    if (!status && m->options->progress)
        m->options->progress(m->options->context, "attacking", rounds, rounds);
    free(decisions);
    free(without);
    return status;
}

rp_status
rp_attack_measure(rp_attack_set *set, const rp_encoder *encoder, const rp_attack_options *options,
                  rp_attack_result *out, rp_error *error)
{
    rp_attack_result result = { 0 };
    measurement m = { .set = set, .options = options, .result = &result, .error = error };
    rp_scorer_init(&m.scorer, set, encoder);
    rp_arena_init(&m.arena, 0);
    rp_status status = prepare(&m);
    if (!status)
        status = measure_strength(&m);
    if (!status)
        status = measure_detection(&m);
    if (!status)
        status = measure_policies(&m);
    for (size_t i = 0; i < SCENE_COUNT; i++) {
        rp_index_free(m.scenes[i].index);
        free(m.scenes[i].stored);
        free(m.scenes[i].asked);
    }
    rp_template_free(m.template_);
    rp_scorer_fini(&m.scorer);
    rp_arena_fini(&m.arena);
    if (status)
        rp_attack_result_fini(&result);
    else
        *out = result;
    return status;
}
