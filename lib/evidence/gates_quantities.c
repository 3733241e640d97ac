/* gates_quantities.c - numbers and dates: another one, one more, two that changed places, and
 * calculations, whose result hangs on every word. */
#include "comparison.h"

#include "base/bytes.h"

/* Measured: docs/policies.md, "Gates". */
static const float NUMBER_NEAR = 0.6f, ADDED_NEAR = 0.5f, DATE_NEAR = 0.65f,
                   CALCULATION_NEAR = 0.5f, EXCHANGED_NEAR = 0.75f;
enum { CALCULATION_MIN = 2, PARAMETERS_MIN = 3 };

static rp_str
text_of_quantity(const rp_features *features, const rp_quantity *q)
{
    const rp_word *first = &features->words[q->word];
    const rp_word *last = &features->words[q->word + q->words - 1];
    const size_t end = (size_t)last->at + last->size;
    return (rp_str){ features->text.ptr + first->at, end - first->at };
}

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

void
rp_gates_quantities(rp_comparison *c)
{
    compare_quantities(c);
    compare_calculations(c);
}
