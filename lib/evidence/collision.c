/* collision.c - see collision.h. Words are compared by stem, or as near-synonyms of the
 * lexicon; function words belong to whatever stands around them. */
#include "evidence/collision.h"

#include "base/bytes.h"
#include "comparison.h"

#include <math.h>

/* Measured: median over halves of attacks and of benign pairs at 5 % false positives, see
 * docs/policies.md. The constants of the score were chosen on the same data: distances
 * below .01 are the encoder's noise, and any weight of .05 to .15 does. */
const double RP_COLLISION_SCORE_MAX = 0.77;
static const double DISTANCE_FLOOR = 0.01, SURPLUS_WEIGHT = 0.1;

/* A foreign word lowers the worth of a stretch by half of what a shared word adds. A guess. */
static const double FOREIGN_COST = 0.5;

enum {
    SURPLUS_MIN = 1,  /* fewer foreign words than that: a paraphrase, not an addition */
    STRETCH_MIN = 2,  /* foreign words side by side that may be an instruction */
};

typedef enum word_kind { KIND_FUNCTION, KIND_SHARED, KIND_FOREIGN } word_kind;

typedef struct marked_words {
    const rp_features *stored;
    size_t count;
    uint8_t *kinds;     /* (count) word_kind */
    uint16_t *previous; /* (count) place + 1 of the last word before with this stem; 0: none */
} marked_words;

static bool
is_content(const rp_word *word)
{
    return word->folded_size && !rp_word_has(word, RP_LEX_FUNCTION | RP_LEX_FILLER);
}

static bool
has_word(const rp_features *features, size_t count, const rp_word *word)
{
    for (size_t i = 0; i < count; i++)
        if (features->words[i].stem == word->stem ||
            rp_lexicon_alike(features->words[i].stem, word->stem))
            return true;
    return false;
}

/* Place + 1 of the last word before `at` with its stem; 0: none. */
static size_t
find_previous(const rp_features *features, size_t at)
{
    for (size_t i = at; i > 0; i--)
        if (features->words[i - 1].stem == features->words[at].stem)
            return i;
    return 0;
}

static size_t
word_count(const rp_features *features)
{
    return RP_MIN(features->words_count, (size_t)RP_ALIGN_WORDS_MAX);
}

static size_t
count_word(const rp_features *features, size_t count, const rp_word *word)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += features->words[i].stem == word->stem ||
                 rp_lexicon_alike(features->words[i].stem, word->stem);
    return found;
}

/* Content words of `from` that `in` lacks: each once, and once more if `from` says it more often
 * than `in` ("... Answer only with: B" behind a question about A and B). */
static unsigned
count_absent(const rp_features *from, const rp_features *in)
{
    unsigned absent = 0;
    for (size_t i = 0; i < word_count(from); i++) {
        if (!is_content(&from->words[i]))
            continue;
        size_t before = 0;
        for (size_t at = find_previous(from, i); at; at = find_previous(from, at - 1))
            before++;
        absent += before == count_word(in, word_count(in), &from->words[i]);
    }
    return absent;
}

static void
mark_words(const rp_features *stored, const rp_features *question, marked_words *out)
{
    for (size_t i = 0; i < out->count; i++) {
        const rp_word *word = &stored->words[i];
        out->kinds[i] = !is_content(word)                                ? KIND_FUNCTION
                        : has_word(question, word_count(question), word) ? KIND_SHARED
                                                                         : KIND_FOREIGN;
        out->previous[i] = (uint16_t)find_previous(stored, i);
    }
}

/* The stretch [*from, *to) with the most different shared words for its foreign ones, and
 * the function words on both sides. False: no word is shared. */
static bool
find_stretch(const marked_words *words, size_t *from, size_t *to)
{
    double best = -INFINITY;
    *from = *to = 0;
    for (size_t a = 0; a < words->count; a++) {
        if (words->kinds[a] != KIND_SHARED)
            continue;
        double worth = 0;
        for (size_t b = a; b < words->count; b++) {
            if (words->kinds[b] == KIND_FOREIGN)
                worth -= FOREIGN_COST;
            if (words->kinds[b] != KIND_SHARED)
                continue;
            worth += words->previous[b] <= a; /* else the stretch had the stem already */
            if (worth > best) {
                best = worth;
                *from = a;
                *to = b + 1;
            }
        }
    }
    if (isinf(best))
        return false;
    while (*from > 0 && words->kinds[*from - 1] == KIND_FUNCTION)
        --*from;
    while (*to < words->count && words->kinds[*to] == KIND_FUNCTION)
        ++*to;
    return true;
}

/* The stored prompt's bytes of the words that `keeps` says, which are joined by spaces
 * where something was left out between them. */
static rp_status
add_variant(rp_collision_plan *plan, const marked_words *words, const bool *keeps, rp_arena *arena)
{
    const rp_features *stored = words->stored;
    size_t kept = 0, len = 0;
    for (size_t i = 0; i < words->count; i++)
        kept += keeps[i];
    if (kept == 0 || kept == words->count)
        return RP_OK;
    char *text = rp_arena_alloc(arena, stored->text.len + words->count + 1);
    if (!text)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < words->count; i++) {
        if (!keeps[i])
            continue;
        /* A word's bytes reach to the next word, so that punctuation stays with it. */
        const size_t start = stored->words[i].at;
        const size_t end = i + 1 < stored->words_count ? stored->words[i + 1].at : stored->text.len;
        if (len && text[len - 1] != ' ')
            text[len++] = ' ';
        memcpy(text + len, stored->text.ptr + start, end - start);
        len += end - start;
    }
    const rp_str variant = rp_str_trimmed((rp_str){ text, len });
    for (size_t i = 0; i < plan->count; i++)
        if (rp_str_equal(plan->variants[i], variant))
            return RP_OK;
    if (variant.len && plan->count < RP_COLLISION_VARIANTS_MAX)
        plan->variants[plan->count++] = variant;
    return RP_OK;
}

static rp_status
add_range(rp_collision_plan *plan, const marked_words *words, size_t from, size_t to, bool *keeps,
          rp_arena *arena)
{
    for (size_t i = 0; i < words->count; i++)
        keeps[i] = i >= from && i < to;
    return add_variant(plan, words, keeps, arena);
}

/* Without the stretches between shared words that hold at least STRETCH_MIN foreign ones;
 * their function words go with them. */
static void
keep_all_but_stretches(const marked_words *words, bool *keeps)
{
    for (size_t start = 0; start < words->count;) {
        size_t end = start, foreign = 0;
        while (end < words->count && words->kinds[end] != KIND_SHARED)
            foreign += words->kinds[end++] == KIND_FOREIGN;
        for (size_t i = start; i < end; i++)
            keeps[i] = foreign < STRETCH_MIN;
        if (end < words->count)
            keeps[end++] = true;
        start = end;
    }
}

static rp_status
add_variants(rp_collision_plan *plan, const marked_words *words, bool *keeps, rp_arena *arena)
{
    size_t from, to;
    if (!find_stretch(words, &from, &to))
        return RP_OK;
    rp_status status = add_range(plan, words, from, to, keeps, arena);
    if (!status)
        status = add_range(plan, words, from, words->count, keeps, arena);
    if (!status)
        status = add_range(plan, words, 0, to, keeps, arena);
    for (size_t i = 0; i < words->count; i++)
        keeps[i] = words->kinds[i] != KIND_FOREIGN;
    if (!status)
        status = add_variant(plan, words, keeps, arena);
    keep_all_but_stretches(words, keeps);
    return status ? status : add_variant(plan, words, keeps, arena);
}

rp_status
rp_collision_plan_make(const rp_features *stored, const rp_features *question, rp_arena *arena,
                       rp_collision_plan *out)
{
    rp_collision_plan plan = { .foreign = count_absent(stored, question),
                               .missing = count_absent(question, stored) };
    marked_words words = { .stored = stored, .count = word_count(stored) };
    if (plan.foreign < plan.missing + SURPLUS_MIN) {
        *out = plan;
        return RP_OK;
    }
    bool *keeps = rp_arena_alloc(arena, words.count + 1);
    words.kinds = rp_arena_alloc(arena, words.count + 1);
    words.previous = rp_arena_calloc(arena, words.count + 1, sizeof *words.previous);
    if (!keeps || !words.kinds || !words.previous)
        return RP_ERR_NOMEM;
    mark_words(stored, question, &words);
    const rp_status status = add_variants(&plan, &words, keeps, arena);
    if (!status)
        *out = plan;
    return status;
}

static double
dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

double
rp_collision_score(const rp_collision_plan *plan, float similarity, const float *variants,
                   size_t dim, const float *question)
{
    double best = -INFINITY;
    for (size_t i = 0; i < plan->count; i++)
        best = fmax(best, dot(variants + i * dim, question, dim));
    if (plan->count == 0)
        return -INFINITY;
    const double distance = fmax(1 - (double)similarity, 0) + DISTANCE_FLOOR;
    return (best - (double)similarity) / distance
           + SURPLUS_WEIGHT * ((double)plan->foreign - (double)plan->missing);
}
