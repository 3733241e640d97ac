/* gates_order.c - the same words, but who does what to whom, which way, or what is
 * asked has changed.
 *
 * The role gate fires where two participants have changed places and nothing else has:
 * P x M y S against P y M x S, unless what stands between joins equals ("A and B") or
 * the relation holds both ways ("A is married to B"). Any other order of the same words
 * ("to Boston from Denver", a time moved to the front) mostly means the same: noted. A
 * direction turned round ("to Boston", "from Boston") is the same error with one
 * participant. */
#include "comparison.h"

#include "base/bytes.h"

/* Measured: docs/policies.md, "Gates". */
static const float BAG_NEAR = 0.8f;       /* the same words */
static const float DIRECTION_NEAR = 0.5f;
static const float QUESTION_NEAR = 0.85f;

enum { EXCHANGE_MAX = 4 /* words of a participant: "the United States" */ };

static bool
is_participant(const rp_word *word)
{
    return !rp_word_has(word, RP_LEX_FUNCTION | RP_LEX_FILLER | RP_LEX_MODIFIER)
           && !(word->flags & RP_WORD_QUANTITY);
}

/* ---- exchanged participants ---------------------------------------------------------- */

/* Both prompts between their common beginning and end: P x M y S and P y M x S. */
typedef struct exchange {
    size_t begin;              /* of x in a and of y in b */
    size_t x_size, y_size, size; /* words; size = x + M + y */
} exchange;

static bool
equal_words(const rp_word *a, const rp_word *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (a[i].stem != b[i].stem)
            return false;
    return true;
}

static bool
has_participant(const rp_word *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_participant(&words[i]))
            return true;
    return false;
}

static bool
has_quantity(const rp_word *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (words[i].flags & RP_WORD_QUANTITY)
            return true;
    return false;
}

/* Both take part, or both are numbers: "from version 2 to 3", "from 10 km to 5 miles". */
static bool
may_change_places(const rp_word *x, size_t x_size, const rp_word *y, size_t y_size)
{
    return (has_participant(x, x_size) && has_participant(y, y_size))
           || (has_quantity(x, x_size) && has_quantity(y, y_size));
}

/* "3 plus 4" is "4 plus 3". */
static bool
has_commutative(const rp_features *features)
{
    for (size_t i = 0; i < features->words_count && i < RP_ALIGN_WORDS_MAX; i++)
        if (rp_word_is_one_of(&features->words[i],
                              "plus times add adding sum product multiply multiplied average mean "
                              "gcd lcm x"))
            return true;
    return false;
}

static bool
find_exchange(const rp_comparison *c, exchange *out)
{
    const rp_word *a = c->a->words, *b = c->b->words;
    const size_t count = c->alignment.a_count;
    if (count != c->alignment.b_count || c->a->is_cut || c->b->is_cut)
        return false;
    size_t begin = 0, end = count;
    while (begin < end && a[begin].stem == b[begin].stem)
        begin++;
    while (end > begin && a[end - 1].stem == b[end - 1].stem)
        end--;
    const size_t size = end - begin;
    for (size_t x = 1; x <= EXCHANGE_MAX && x < size; x++)
        for (size_t y = 1; y <= EXCHANGE_MAX && x + y < size; y++)
            if (equal_words(a + begin, b + end - x, x) && equal_words(a + end - y, b + begin, y)
                && equal_words(a + begin + x, b + begin + y, size - x - y)
                && may_change_places(a + begin, x, a + end - y, y)) {
                *out = (exchange){ begin, x, y, size };
                return true;
            }
    return false;
}

/* "A and B", "A, B", "between A and B": what stands between joins equals. */
static bool
joins_equals(const rp_word *words, const exchange *e)
{
    for (size_t i = e->begin + e->x_size - 1; i < e->begin + e->size - e->y_size; i++)
        if (words[i].flags & RP_WORD_COMMA
            || (i >= e->begin + e->x_size && rp_word_has(&words[i], RP_LEX_COORDINATOR)))
            return true;
    return false;
}

/* Something stands between two numbers that tells them apart: "on May 3 and back on June 9". */
static bool
has_content_between(const rp_word *words, const exchange *e)
{
    for (size_t i = e->begin + e->x_size; i < e->begin + e->size - e->y_size; i++)
        if (!rp_word_has(&words[i], RP_LEX_FUNCTION | RP_LEX_COORDINATOR | RP_LEX_UNIT))
            return true;
    return false;
}

static bool
has_symmetric(const rp_features *features)
{
    for (size_t i = 0; i < features->words_count && i < RP_ALIGN_WORDS_MAX; i++)
        if (rp_word_has(&features->words[i], RP_LEX_SYMMETRIC))
            return true;
    return false;
}

/* ---- passive ------------------------------------------------------------------------- */

static bool
is_be(const rp_word *word)
{
    return rp_word_is(word, "is") || rp_word_is(word, "was") || rp_word_is(word, "are")
           || rp_word_is(word, "were") || rp_word_is(word, "be") || rp_word_is(word, "been");
}

/* Leftovers that are auxiliaries and, in the passive, "by" and nothing else. */
static bool
is_voice_only(const rp_leftover *left, bool *has_by)
{
    bool be = false, by = false;
    for (size_t i = 0; i < left->count; i++) {
        be |= is_be(left->words[i]);
        if (rp_word_is(left->words[i], "by"))
            by = true;
        else if (!rp_word_has(left->words[i], RP_LEX_AUXILIARY))
            return false;
    }
    *has_by = be && by;
    return be || !by;
}

/* One prompt is passive, the other active, yet nobody changed places: "did A hit B",
 * "was A hit by B". */
static bool
is_wrong_passive(const rp_comparison *c)
{
    bool by_a, by_b;
    return c->left_a.count && c->left_b.count && is_voice_only(&c->left_a, &by_a)
           && is_voice_only(&c->left_b, &by_b) && by_a != by_b;
}

static void
compare_roles(rp_comparison *c)
{
    exchange e;
    if (find_exchange(c, &e)) {
        const bool numbers = has_quantity(c->a->words + e.begin, e.x_size)
                             && has_quantity(c->b->words + e.begin, e.y_size);
        const bool joined = joins_equals(c->a->words, &e) || joins_equals(c->b->words, &e);
        const bool fires = (!joined || (numbers && has_content_between(c->a->words, &e)))
                           && !(numbers ? has_commutative(c->a) : has_symmetric(c->a));
        rp_gate_say(c, RP_GATE_ROLE, fires, rp_word_text(c->a, &c->a->words[e.begin]),
                    rp_word_text(c->b, &c->b->words[e.begin]));
    } else if (is_wrong_passive(c)) {
        rp_gate_say(c, RP_GATE_ROLE, true, RP_STR("voice"), RP_STR("voice"));
    } else if (c->bag >= BAG_NEAR && c->alignment.ratio < c->bag) {
        rp_gate_say(c, RP_GATE_ROLE, false, RP_STR("order"), RP_STR("order"));
    }
}

/* ---- directions ---------------------------------------------------------------------- */

/* The direction word before word `at`, over articles and possessives; NULL: none. */
static const rp_word *
direction_before(const rp_features *features, size_t at)
{
    while (at-- > 0) {
        const rp_word *word = &features->words[at];
        if (rp_word_has(word, RP_LEX_DIRECTION))
            return word;
        if (rp_word_has(word, RP_LEX_PREPOSITION | RP_LEX_AUXILIARY | RP_LEX_COORDINATOR)
            || !rp_word_has(word, RP_LEX_FUNCTION))
            return NULL;
    }
    return NULL;
}

/* The same word behind opposed directions. Words that occur twice are left alone. */
static void
compare_directions(rp_comparison *c)
{
    if (c->bag < DIRECTION_NEAR)
        return;
    for (size_t i = 1; i < c->alignment.a_count; i++) {
        const rp_word *word = &c->a->words[i];
        if (!is_participant(word) || !rp_word_has(&c->a->words[i - 1], RP_LEX_FUNCTION))
            continue;
        const rp_word *direction = direction_before(c->a, i);
        if (!direction)
            continue;
        const rp_word *opposite = NULL;
        size_t found = 0;
        for (size_t j = 1; j < c->alignment.b_count; j++)
            if (c->b->words[j].stem == word->stem) {
                found++;
                opposite = direction_before(c->b, j);
            }
        if (found == 1 && opposite && rp_lexicon_opposed(direction->stem, opposite->stem)) {
            rp_gate_say(c, RP_GATE_ROLE, true, rp_word_text(c->a, direction),
                        rp_word_text(c->b, opposite));
            return;
        }
    }
}

/* ---- type of question ---------------------------------------------------------------- */

/* "What" may ask for anything, and "how" for a way that "what is the way" asks for too. */
static bool
is_specific(rp_question_type type)
{
    return type != RP_QUESTION_NONE && type != RP_QUESTION_WHAT && type != RP_QUESTION_HOW;
}

static void
compare_questions(rp_comparison *c)
{
    const rp_question_type a = c->a->question, b = c->b->question;
    if (a == b || (!is_specific(a) && !is_specific(b)))
        return;
    const bool open_yes_no = (a == RP_QUESTION_YES_NO && !is_specific(b))
                             || (b == RP_QUESTION_YES_NO && !is_specific(a));
    const bool fires = c->alignment.ratio >= QUESTION_NEAR && a != RP_QUESTION_NONE
                       && b != RP_QUESTION_NONE && !open_yes_no;
    rp_gate_say(c, RP_GATE_QUESTION, fires, RP_STR("type of question"), RP_STR("another"));
}

void
rp_gates_order(rp_comparison *c)
{
    compare_roles(c);
    compare_directions(c);
    compare_questions(c);
}
