/* gates.c - what differs between two analysed prompts; the contract is in gates.h.
 *
 * A gate fires only where both prompts are nearly the same sentence (alignment at
 * least what its threshold says): there a changed number is a changed question, while on loose
 * paraphrases it is noise (docs/policies.md has what each gate wins and costs). A
 * difference too weak or too loose for a veto is noted. */
#include "evidence_internal.h"

#include "base/bytes.h"
#include <math.h>
#include <stdio.h>

/* Measured: docs/policies.md, "Gates". */
static const float NUMBER_NEAR = 0.6f, ADDED_NEAR = 0.5f, DATE_NEAR = 0.65f, NEGATION_NEAR = 0.7f,
                   ANTONYM_NEAR = 0.65f, CALCULATION_NEAR = 0.5f, EXCHANGED_NEAR = 0.75f;
enum { CALCULATION_MIN = 2, PARAMETERS_MIN = 3, FRAME_SENTENCE = 6 };

const uint32_t RP_GATES_DEFAULT = ((1u << RP_GATE_COUNT) - 1) & ~(1u << RP_GATE_STRICT);

static void
collect_leftover(const rp_features *features, const int16_t *partner, size_t count, bool own_place,
                 rp_leftover *out)
{
    int16_t place = -1;
    out->count = 0;
    out->is_cut = false;
    for (size_t i = 0; i < count; i++) {
        if (partner[i] >= 0) {
            place = own_place ? (int16_t)i : partner[i];
            continue;
        }
        if (out->count == RP_LEFTOVER_MAX) {
            out->is_cut = true;
            return;
        }
        out->words[out->count] = &features->words[i];
        out->index[out->count] = (uint16_t)i;
        out->place[out->count] = place;
        out->elsewhere[out->count] = false;
        out->used[out->count++] = false;
    }
}

/* Which leftovers stand elsewhere in the other prompt: a leftover of the other side
 * with the same stem is the same word moved. */
static void
find_moved(rp_comparison *c)
{
    size_t moved = 0;
    bool taken[RP_LEFTOVER_MAX] = { false };
    for (size_t i = 0; i < c->left_a.count; i++)
        for (size_t j = 0; j < c->left_b.count; j++)
            if (!taken[j] && c->left_a.words[i]->stem == c->left_b.words[j]->stem) {
                c->left_a.elsewhere[i] = c->left_b.elsewhere[j] = taken[j] = true;
                moved++;
                break;
            }
    const size_t total = c->alignment.a_count + c->alignment.b_count;
    c->bag = total ? 2.0f * (float)(c->alignment.matches + moved) / (float)total : 1.0f;
}

void
rp_gate_say(rp_comparison *c, rp_gate gate, bool fires, rp_str seen_a, rp_str seen_b)
{
    rp_gate_report *out = c->report;
    if (fires)
        out->fired |= 1u << gate;
    else
        out->noted |= 1u << gate;
    if (c->swapped) {
        const rp_str seen = seen_a;
        seen_a = seen_b;
        seen_b = seen;
    }
    if (c->with_detail && !out->detail[gate][0])
        snprintf(out->detail[gate], RP_GATE_DETAIL_SIZE, "%.*s | %.*s",
                 (int)RP_MIN(seen_a.len, 44), seen_a.ptr ? seen_a.ptr : "",
                 (int)RP_MIN(seen_b.len, 44), seen_b.ptr ? seen_b.ptr : "");
}

static rp_str
text_of_quantity(const rp_features *features, const rp_quantity *q)
{
    const rp_word *first = &features->words[q->word];
    const rp_word *last = &features->words[q->word + q->words - 1];
    const size_t end = (size_t)last->at + last->size;
    return (rp_str){ features->text.ptr + first->at, end - first->at };
}

/* ---- numbers and dates --------------------------------------------------------------- */

/* Mark the quantities of each side that the other side lacks. */
static void
match_quantities(const rp_features *a, const rp_features *b, bool *lacks_a, bool *lacks_b)
{
    for (size_t j = 0; j < b->quantities_count; j++)
        lacks_b[j] = true;
    for (size_t i = 0; i < a->quantities_count; i++) {
        lacks_a[i] = true;
        for (size_t j = 0; j < b->quantities_count; j++)
            if (lacks_b[j] && rp_quantities_equal(&a->quantities[i], &b->quantities[j])) {
                lacks_a[i] = lacks_b[j] = false;
                break;
            }
    }
}

static bool
is_date(const rp_quantity *q)
{
    return q->kind != RP_QUANTITY_NUMBER;
}

/* Words that a quantity may replace or bring along without adding a meaning of its own:
 * grammar, units, "some", "other". */
static bool
is_beside_quantity(const rp_word *word)
{
    return word->flags & RP_WORD_QUANTITY
           || rp_word_has(word, RP_LEX_FUNCTION | RP_LEX_PREPOSITION | RP_LEX_AUXILIARY
                                    | RP_LEX_FILLER | RP_LEX_MODIFIER | RP_LEX_UNIT)
           || rp_word_is_one_of(word, "some several many few certain other another");
}

/* A repair ("in 1999, no wait, 1989") brings a number that does not count. */
static bool
is_repair(const rp_word *word)
{
    return rp_word_is_one_of(word, "no sorry uh um er wait rather oops");
}

static bool
has_only_such_words(const rp_leftover *left)
{
    if (left->is_cut)
        return false;
    for (size_t i = 0; i < left->count; i++)
        if (!left->elsewhere[i]
            && (!is_beside_quantity(left->words[i]) || is_repair(left->words[i])))
            return false;
    return true;
}

/* One side has a number more, and nothing else differs: "in 30 days", "12 red cars". A
 * date more often narrows nothing ("this year"): noted. */
static bool
is_added(const rp_comparison *c, const rp_quantity *single)
{
    return !single->weak && !is_date(single) && c->alignment.ratio >= ADDED_NEAR
           && has_only_such_words(&c->left_a) && has_only_such_words(&c->left_b);
}

static size_t
count_numbers(const rp_features *features, bool with_weak)
{
    size_t count = 0;
    for (size_t i = 0; i < features->quantities_count; i++)
        count += (with_weak || !features->quantities[i].weak) && !is_date(&features->quantities[i]);
    return count;
}

/* "How many", "how long", "the total": the answer is a number. */
static bool
asks_for_number(const rp_features *features)
{
    for (size_t i = 0; i < features->words_count; i++) {
        const rp_word *word = &features->words[i];
        if (rp_word_is(word, "how") && i + 1 < features->words_count
            && rp_word_is_one_of(word + 1, "many much long far old tall fast often heavy big"))
            return true;
        if (rp_word_is_one_of(word, "calculate compute total average percentage"))
            return true;
    }
    return false;
}

/* A prompt of several numbers that asks for another: its result hangs on every one of
 * them, wherever it stands, also on one that is only left out or brought along. */
static bool
is_calculation(const rp_comparison *c)
{
    return c->alignment.ratio >= CALCULATION_NEAR
           && RP_MAX(count_numbers(c->a, true), count_numbers(c->b, true)) >= CALCULATION_MIN
           && asks_for_number(c->a) && asks_for_number(c->b);
}

/* So are many numbers a list of parameters. */
static bool
has_many_numbers(const rp_comparison *c)
{
    return c->alignment.ratio >= NUMBER_NEAR
           && RP_MAX(count_numbers(c->a, false), count_numbers(c->b, false)) >= PARAMETERS_MIN;
}

/* The same numbers in other roles: "3 apples and 5 pears", "5 apples and 3 pears". In one
 * gap of the alignment stand two different numbers. Two that changed places around
 * words of their own are the role gate's. */
static const rp_quantity *
quantity_in_gap(const rp_features *features, const rp_leftover *left, int16_t place, bool dates)
{
    for (size_t i = 0; i < left->count; i++)
        if (left->place[i] == place && left->words[i]->flags & RP_WORD_QUANTITY)
            for (size_t k = 0; k < features->quantities_count; k++) {
                const rp_quantity *q = &features->quantities[k];
                if (q->word <= left->index[i] && left->index[i] < q->word + q->words && !q->weak
                    && is_date(q) == dates)
                    return q;
            }
    return NULL;
}

static bool
find_exchanged(const rp_comparison *c, bool dates, const rp_quantity **seen_a,
               const rp_quantity **seen_b)
{
    size_t gaps = 0;
    for (size_t i = 0; i < c->left_a.count; i++) {
        const int16_t place = c->left_a.place[i];
        if (i > 0 && c->left_a.place[i - 1] == place)
            continue; /* this gap was looked at */
        const rp_quantity *a = quantity_in_gap(c->a, &c->left_a, place, dates);
        const rp_quantity *b = a ? quantity_in_gap(c->b, &c->left_b, place, dates) : NULL;
        if (!b || rp_quantities_equal(a, b))
            continue;
        *seen_a = a;
        *seen_b = b;
        gaps++;
    }
    return gaps >= 2;
}

/* In a calculation a sentence more or less changes the result as a number does ("and sells
 * half of them"), and which one does is beyond words: all of them count. */
static void
compare_calculations(rp_comparison *c)
{
    if (!is_calculation(c))
        return;
    const rp_word *word_a = rp_gates_first_unexplained(&c->left_a, c->b);
    const rp_word *word_b = rp_gates_first_unexplained(&c->left_b, c->a);
    if (word_a || word_b || c->left_a.is_cut || c->left_b.is_cut)
        rp_gate_say(c, RP_GATE_NUMBER, true, rp_word_text(c->a, word_a),
                    rp_word_text(c->b, word_b));
}

/* A swap: each side has a quantity of this gate that the other lacks. "One" and
 * "first" are often no numbers: they count only against another in the same place,
 * which is approximated by a partner that is not weak as well. */
static void
compare_quantities(rp_comparison *c)
{
    const rp_features *a = c->a, *b = c->b;
    if (a->quantities_count + b->quantities_count == 0)
        return;
    bool lacks_a[RP_QUANTITIES_MAX], lacks_b[RP_QUANTITIES_MAX];
    match_quantities(a, b, lacks_a, lacks_b);
    for (unsigned dates = 0; dates < 2; dates++) {
        const rp_quantity *extra_a = NULL, *extra_b = NULL;
        for (size_t i = 0; i < a->quantities_count; i++)
            if (lacks_a[i] && is_date(&a->quantities[i]) == dates
                && (!extra_a || extra_a->weak))
                extra_a = &a->quantities[i];
        for (size_t j = 0; j < b->quantities_count; j++)
            if (lacks_b[j] && is_date(&b->quantities[j]) == dates
                && (!extra_b || extra_b->weak))
                extra_b = &b->quantities[j];
        if (!extra_a && !extra_b) {
            if (c->alignment.ratio >= EXCHANGED_NEAR
                && find_exchanged(c, dates, &extra_a, &extra_b))
                rp_gate_say(c, dates ? RP_GATE_DATE : RP_GATE_NUMBER, true,
                            text_of_quantity(a, extra_a), text_of_quantity(b, extra_b));
            continue;
        }
        const bool swapped = extra_a && extra_b && !(extra_a->weak && extra_b->weak);
        const bool near = c->alignment.ratio >= (dates ? DATE_NEAR : NUMBER_NEAR);
        const rp_quantity *single = extra_a && extra_b ? NULL : extra_a ? extra_a : extra_b;
        const bool added = single && is_added(c, single);
        const bool is_strong = (extra_a && !extra_a->weak) || (extra_b && !extra_b->weak);
        const bool counts = !dates
                            && ((is_strong && has_many_numbers(c)) || is_calculation(c));
        rp_gate_say(c, dates ? RP_GATE_DATE : RP_GATE_NUMBER, (near && swapped) || added || counts,
               extra_a ? text_of_quantity(a, extra_a) : RP_STR(""),
               extra_b ? text_of_quantity(b, extra_b) : RP_STR(""));
    }
}

/* ---- negation and antonyms ----------------------------------------------------------- */

/* `both` says that each is in some opposed pair, which most words are not. */
static bool
is_opposed(const rp_word *a, const rp_word *b, bool both)
{
    if (rp_word_has(a, RP_LEX_NEGATION) || rp_word_has(b, RP_LEX_NEGATION))
        return false; /* counted as a negation already */
    return (both && rp_lexicon_opposed(a->stem, b->stem))
           || rp_words_prefix_opposed(rp_word_letters(a), rp_word_letters(b));
}

/* Opposed words, each in one prompt only: if both prompts have both words, they have
 * changed places, which is the role gate's. */
static bool
is_lessened(const rp_features *features, size_t at)
{
    return at > 0
           && (rp_word_is(&features->words[at - 1], "least")
               || rp_word_is(&features->words[at - 1], "less"));
}

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
static void
compare_polarity(rp_comparison *c)
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
               word_a ? rp_word_text(c->a, word_a) : RP_STR(""),
               word_b ? rp_word_text(c->b, word_b) : RP_STR(""));
    }
    if (pairs)
        rp_gate_say(c, RP_GATE_ANTONYM, c->alignment.ratio >= ANTONYM_NEAR && !(odd && pairs % 2), rp_word_text(c->a, seen_a),
               rp_word_text(c->b, seen_b));
}

/* The ratio as if the shorter text had been a sentence: what it lacks to FRAME_SENTENCE
 * words stands in the frame. Not all of the frame counts: a long instruction would
 * make everything near (docs/policies.md, "Templates"). */
static float
framed_ratio(const rp_alignment *alignment)
{
    const size_t shorter = RP_MIN(alignment->a_count, alignment->b_count);
    const size_t frame = shorter < FRAME_SENTENCE ? FRAME_SENTENCE - shorter : 0;
    const size_t total = alignment->a_count + alignment->b_count + 2 * frame;
    return 2.0f * (float)(alignment->matches + frame) / (float)total;
}

void
rp_gates_compare(const rp_features *a, const rp_features *b, const rp_gate_options *options,
                 bool with_detail, rp_gate_report *out)
{
    rp_comparison c;
    /* Several alignments can be equally long, and which is found depends on the order of
     * the two. A fixed order makes the comparison symmetric. */
    c.swapped = rp_str_compare(a->text, b->text) > 0;
    c.a = c.swapped ? b : a;
    c.b = c.swapped ? a : b;
    c.options = options;
    c.with_detail = with_detail;
    c.report = out;
    out->fired = out->noted = 0;
    if (with_detail)
        memset(out->detail, 0, sizeof out->detail);
    rp_align(c.a, c.b, &c.alignment);
    if (options->in_frame)
        c.alignment.ratio = framed_ratio(&c.alignment);
    out->alignment = c.alignment.ratio;
    collect_leftover(c.a, c.alignment.a_to_b, c.alignment.a_count, false, &c.left_a);
    collect_leftover(c.b, c.alignment.b_to_a, c.alignment.b_count, true, &c.left_b);
    find_moved(&c);
    compare_quantities(&c);
    compare_calculations(&c);
    compare_polarity(&c);
    rp_gates_names(&c);
    rp_gates_order(&c);
    rp_gates_script(&c);
    const uint32_t enabled = options->enabled | (options->strict ? 1u << RP_GATE_STRICT : 0);
    out->fired &= enabled;
    out->noted &= enabled;
}
