/* gates_polarity.c - negations and opposed words: does one prompt ask for what the other
 * excludes? */
#include "comparison.h"

/* Measured: docs/policies.md, "Gates". */
static const float NEGATION_NEAR = 0.7f, ANTONYM_NEAR = 0.65f;

/* `both` says that each is in some opposed pair, which most words are not. */
static bool
is_opposed(const rp_word *a, const rp_word *b, bool both)
{
    if (rp_word_has(a, RP_LEX_NEGATION) || rp_word_has(b, RP_LEX_NEGATION))
        return false; /* counted as a negation already */
    return (both && rp_lexicon_opposed(a->stem, b->stem))
           || rp_words_prefix_opposed(rp_word_letters(a), rp_word_letters(b));
}

static bool
is_lessened(const rp_features *features, size_t at)
{
    return at > 0
           && (rp_word_is(&features->words[at - 1], "least")
               || rp_word_is(&features->words[at - 1], "less"));
}

/* Opposed words, each in one prompt only: if both prompts have both words, they have
 * changed places, which is the role gate's. */
static size_t
count_opposed(rp_comparison *c, const rp_word **seen_a, const rp_word **seen_b)
{
    size_t pairs = 0;
    bool opposable_b[RP_LEFTOVER_MAX];
    for (size_t j = 0; j < c->left_b.count; j++)
        opposable_b[j] = rp_lexicon_has_opposite(c->left_b.words[j]->stem);
    for (size_t i = 0; i < c->left_a.count; i++) {
        if (c->left_a.elsewhere[i])
            continue;
        const bool opposable_a = rp_lexicon_has_opposite(c->left_a.words[i]->stem);
        for (size_t j = 0; j < c->left_b.count; j++) {
            if (c->left_b.used[j] || c->left_b.elsewhere[j]
                || !is_opposed(c->left_a.words[i], c->left_b.words[j],
                               opposable_a && opposable_b[j]))
                continue;
            /* "Least expensive" is "cheapest". */
            if (is_lessened(c->a, c->left_a.index[i]) != is_lessened(c->b, c->left_b.index[j]))
                continue;
            if (!pairs++) {
                *seen_a = c->left_a.words[i];
                *seen_b = c->left_b.words[j];
            }
            c->left_a.used[i] = c->left_b.used[j] = true;
            break;
        }
    }
    return pairs;
}

static unsigned
count_refusals(const rp_leftover *left)
{
    unsigned count = 0;
    for (size_t i = 0; i < left->count; i++)
        count += !left->used[i] && !left->elsewhere[i]
                 && rp_word_has(left->words[i], RP_LEX_REFUSAL | RP_LEX_NEGATIVE);
    return count;
}

static const rp_word *
first_negation(const rp_features *features)
{
    for (size_t i = 0; i < features->words_count; i++)
        if (features->words[i].flags & RP_WORD_NEGATES)
            return &features->words[i];
    return NULL;
}

/* A cue of one side that the other side only misspells ("wihtout") is no difference:
 * leftovers of five letters and more within two edits. */
static bool
is_misspelt_cue(const rp_leftover *left, const rp_leftover *other)
{
    for (size_t i = 0; i < left->count; i++) {
        if (!(left->words[i]->flags & RP_WORD_NEGATES) || left->words[i]->folded_size < 5)
            continue;
        for (size_t j = 0; j < other->count; j++)
            if (!other->words[j]->lexeme /* "ever" is no misspelt "never" */
                && rp_edit_distance(rp_word_letters(left->words[i]),
                                    rp_word_letters(other->words[j]), 2) <= 2)
                return true;
    }
    return false;
}

/* "Not fat" and "thin" agree: an odd number of negations and an odd number of opposed
 * pairs cancel; everything else that is not even is a difference. */
void
rp_gates_polarity(rp_comparison *c)
{
    const rp_word *seen_a = NULL, *seen_b = NULL;
    const size_t pairs = count_opposed(c, &seen_a, &seen_b);
    const unsigned negations_a = c->a->negations + count_refusals(&c->left_a);
    const unsigned negations_b = c->b->negations + count_refusals(&c->left_b);
    const bool odd = (negations_a + negations_b) & 1 && !is_misspelt_cue(&c->left_a, &c->left_b)
                     && !is_misspelt_cue(&c->left_b, &c->left_a);
    if (odd) {
        const rp_word *word_a = first_negation(c->a), *word_b = first_negation(c->b);
        rp_gate_say(c, RP_GATE_NEGATION, c->alignment.ratio >= NEGATION_NEAR && pairs % 2 == 0,
                    rp_word_text(c->a, word_a), rp_word_text(c->b, word_b));
    }
    if (pairs)
        rp_gate_say(c, RP_GATE_ANTONYM, c->alignment.ratio >= ANTONYM_NEAR && !(odd && pairs % 2),
                    rp_word_text(c->a, seen_a), rp_word_text(c->b, seen_b));
}
