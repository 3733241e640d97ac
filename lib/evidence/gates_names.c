/* gates_names.c - names, codes and the strict gate.
 *
 * A name is a word with a capital where grammar wants none, an acronym, a place, or a
 * member of a set whose members exclude each other (colours, languages, systems). The
 * entity gate fires on a swap: each prompt has a name that the other has in no form -
 * neither moved, misspelt, abbreviated nor derived (India, Indian). One name more is
 * too often "in India" added to a question about India: noted. */
#include "comparison.h"

#include "base/bytes.h"
#include <stdlib.h>

/* Measured: docs/policies.md, "Gates". */
static const float NEAR = 0.6f, ENTITY_NEAR = 0.7f;

enum { EDIT_MAX = 24 /* bytes of a word beyond which no typo is looked for */ };

unsigned
rp_edit_distance(rp_str a, rp_str b, unsigned limit)
{
    if (a.len > EDIT_MAX || b.len > EDIT_MAX
        || (a.len > b.len ? a.len - b.len : b.len - a.len) > limit)
        return limit + 1;
    uint8_t rows[3][EDIT_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = (uint8_t)j;
    for (size_t i = 1; i <= a.len; i++) {
        uint8_t *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (uint8_t)i;
        for (size_t j = 1; j <= b.len; j++) {
            unsigned best = above[j - 1] + (a.ptr[i - 1] != b.ptr[j - 1]);
            best = RP_MIN(best, (unsigned)above[j] + 1);
            best = RP_MIN(best, (unsigned)row[j - 1] + 1);
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1])
                best = RP_MIN(best, (unsigned)above2[j - 2] + 1);
            row[j] = (uint8_t)best;
        }
    }
    return rows[a.len % 3][b.len];
}

/* One word may be a misspelling of the other: few edits for its length, and not two
 * words that the lexicon tells apart. */
static bool
is_typo(const rp_word *a, const rp_word *b)
{
    const size_t shorter = RP_MIN(a->folded_size, b->folded_size);
    if (shorter < 4 || (a->flags | b->flags) & (RP_WORD_CODE | RP_WORD_DIGITS))
        return false;
    if (a->flags & b->flags & RP_WORD_UPPER)
        return false; /* DAL and DEN are two codes */
    if (rp_word_has(a, RP_LEX_PLACE | RP_LEX_EXCLUSIVE)
        && rp_word_has(b, RP_LEX_PLACE | RP_LEX_EXCLUSIVE))
        return false; /* Iran and Iraq */
    const unsigned limit = shorter >= 8 ? 2 : 1;
    return rp_edit_distance(rp_word_letters(a), rp_word_letters(b), limit) <= limit;
}

/* India and Indian, Canada and Canadian, depress and depression: one begins as the
 * other does for most of its length. */
static bool
is_derived(const rp_word *a, const rp_word *b)
{
    const size_t shorter = RP_MIN(a->folded_size, b->folded_size);
    size_t same = 0;
    while (same < shorter && a->folded[same] == b->folded[same])
        same++;
    return same >= 4 && same + 2 >= shorter && same * 10 >= RP_MAX(a->folded_size, b->folded_size) * 5
           && !((a->flags | b->flags) & (RP_WORD_CODE | RP_WORD_DIGITS));
}

static bool
are_partners(const rp_word *a, const rp_word *b)
{
    return a->stem == b->stem || rp_lexicon_alike(a->stem, b->stem) || is_derived(a, b)
           || is_typo(a, b);
}

/* "US" and "United States": the letters of a short word in capitals are the initials
 * of words that follow each other in the other prompt. */
static bool
is_acronym_of(const rp_word *word, const rp_features *other)
{
    const size_t size = word->folded_size;
    if (!(word->flags & RP_WORD_UPPER) || size < 2 || size > 6)
        return false;
    for (size_t at = 0; at + size <= other->words_count; at++) {
        size_t i = 0;
        while (i < size && other->words[at + i].folded_size
               && other->words[at + i].folded[0] == word->folded[i])
            i++;
        if (i == size)
            return true;
    }
    return false;
}

static bool
is_initial_of_acronym(const rp_word *word, const rp_features *own, const rp_features *other)
{
    const size_t index = (size_t)(word - own->words);
    for (size_t i = 0; i < other->words_count; i++) {
        const rp_word *acronym = &other->words[i];
        if (!(acronym->flags & RP_WORD_UPPER) || acronym->folded_size < 2
            || acronym->folded_size > 6)
            continue;
        for (size_t k = 0; k < acronym->folded_size; k++) {
            if (acronym->folded[k] != word->folded[0] || index < k)
                continue;
            size_t m = 0;
            while (m < acronym->folded_size && index - k + m < own->words_count
                   && own->words[index - k + m].folded[0] == acronym->folded[m])
                m++;
            if (m == acronym->folded_size)
                return true;
        }
    }
    return false;
}

static bool
occurs_in(const rp_word *word, const rp_features *other)
{
    const size_t count = RP_MIN(other->words_count, (size_t)RP_ALIGN_WORDS_MAX);
    for (size_t i = 0; i < count; i++)
        if (are_partners(word, &other->words[i]))
            return true;
    return false;
}

static bool
is_content(const rp_word *word)
{
    return !rp_word_has(word, RP_LEX_FUNCTION | RP_LEX_FILLER) && word->folded_size > 0;
}

static bool
is_name(const rp_features *features, const rp_word *word)
{
    if (word->flags & (RP_WORD_QUANTITY | RP_WORD_CODE | RP_WORD_DIGITS) || !is_content(word))
        return false;
    if (rp_word_has(word, RP_LEX_PLACE | RP_LEX_EXCLUSIVE))
        return true;
    if (features->is_capitalised)
        return false;
    if (word->flags & RP_WORD_UPPER)
        return true;
    return (word->flags & (RP_WORD_CAPITAL | RP_WORD_FIRST)) == RP_WORD_CAPITAL;
}

/* A name of one side that the other side has in no form. */
static bool
is_missing(const rp_word *word, const rp_features *own, const rp_features *other)
{
    return !occurs_in(word, other) && !is_acronym_of(word, other)
           && !is_initial_of_acronym(word, own, other);
}

/* The first unexplained name of one side that the other side has in no form. */
static const rp_word *
missing_name(const rp_features *own, const rp_leftover *left, const rp_features *other)
{
    for (size_t i = 0; i < left->count; i++)
        if (!left->used[i] && !left->elsewhere[i] && is_name(own, left->words[i])
            && is_missing(left->words[i], own, other))
            return left->words[i];
    return NULL;
}

/* Two names in the same gap that are no partners: one has replaced the other, even if
 * a form of one stands elsewhere ("Japan ... Japanese" with "Togo ... Japanese"). */
static bool
find_replaced_name(const rp_comparison *c, const rp_word **name_a, const rp_word **name_b)
{
    for (size_t i = 0; i < c->left_a.count; i++) {
        const rp_word *a = c->left_a.words[i];
        if (c->left_a.used[i] || c->left_a.elsewhere[i] || !is_name(c->a, a))
            continue;
        for (size_t j = 0; j < c->left_b.count; j++) {
            const rp_word *b = c->left_b.words[j];
            if (c->left_b.place[j] != c->left_a.place[i] || c->left_b.used[j]
                || c->left_b.elsewhere[j] || !is_name(c->b, b) || are_partners(a, b)
                || is_acronym_of(a, c->b) || is_acronym_of(b, c->a)
                || is_initial_of_acronym(a, c->a, c->b) || is_initial_of_acronym(b, c->b, c->a))
                continue;
            *name_a = a;
            *name_b = b;
            return true;
        }
    }
    return false;
}

static void
compare_entities(rp_comparison *c)
{
    const rp_word *name_a, *name_b;
    if (!find_replaced_name(c, &name_a, &name_b)) {
        name_a = missing_name(c->a, &c->left_a, c->b);
        name_b = missing_name(c->b, &c->left_b, c->a);
    }
    if (name_a || name_b)
        rp_gate_say(c, RP_GATE_ENTITY, name_a && name_b && c->alignment.ratio >= ENTITY_NEAR,
                    rp_word_text(c->a, name_a), rp_word_text(c->b, name_b));
}

/* ---- codes --------------------------------------------------------------------------- */

static bool
is_code(const rp_word *word)
{
    return word->flags & (RP_WORD_CODE | RP_WORD_QUOTED) && word->folded_size > 0;
}

static const rp_word *
missing_code(const rp_leftover *left, const rp_features *other)
{
    for (size_t i = 0; i < left->count; i++) {
        if (left->elsewhere[i] || !is_code(left->words[i]))
            continue;
        /* A quoted word may be unquoted on the other side. */
        bool found = false;
        for (size_t j = 0; j < other->words_count && !found; j++)
            found = other->words[j].hash == left->words[i]->hash;
        if (!found)
            return left->words[i];
    }
    return NULL;
}

/* "-r" and "-R" align, because case is folded, and mean different things. */
static const rp_word *
flag_of_other_case(const rp_comparison *c, const rp_word **other)
{
    for (size_t i = 0; i < c->alignment.a_count; i++) {
        const int16_t j = c->alignment.a_to_b[i];
        const rp_word *a = &c->a->words[i];
        if (j < 0 || !(a->flags & RP_WORD_CODE) || a->size > 3 || a->folded[0] != '-')
            continue;
        *other = &c->b->words[j];
        if ((*other)->flags & RP_WORD_CODE && a->exact != (*other)->exact)
            return a;
    }
    return NULL;
}

static void
compare_codes(rp_comparison *c)
{
    const rp_word *code_b = NULL, *code_a = flag_of_other_case(c, &code_b);
    if (!code_a) {
        code_a = missing_code(&c->left_a, c->b);
        code_b = missing_code(&c->left_b, c->a);
    }
    if (code_a || code_b)
        rp_gate_say(c, RP_GATE_CODE, code_a && code_b && c->alignment.ratio >= NEAR,
                    rp_word_text(c->a, code_a), rp_word_text(c->b, code_b));
}

/* ---- strict -------------------------------------------------------------------------- */

const rp_word *
rp_gates_first_unexplained(const rp_leftover *left, const rp_features *other)
{
    for (size_t i = 0; i < left->count; i++)
        if (!left->elsewhere[i] && is_content(left->words[i])
            && !(left->words[i]->flags & RP_WORD_QUANTITY) && !occurs_in(left->words[i], other))
            return left->words[i];
    return NULL;
}

/* Opt-in: any content word without a partner (stem, synonym, typo) fires, at any
 * alignment. For scopes of commands, identifiers and drugs, where every word is one. */
static void
compare_strictly(rp_comparison *c)
{
    if (!c->options->strict && !(c->options->enabled >> RP_GATE_STRICT & 1))
        return;
    const rp_word *word_a = rp_gates_first_unexplained(&c->left_a, c->b);
    const rp_word *word_b = rp_gates_first_unexplained(&c->left_b, c->a);
    const bool cut = c->left_a.is_cut || c->left_b.is_cut || c->a->is_cut || c->b->is_cut;
    if (word_a || word_b || cut)
        rp_gate_say(c, RP_GATE_STRICT, true, rp_word_text(c->a, word_a),
                    rp_word_text(c->b, word_b));
}

void
rp_gates_names(rp_comparison *c)
{
    compare_entities(c);
    compare_codes(c);
    compare_strictly(c);
}
