/* quantity.c - numbers, units, dates and times among the words of a prompt.
 *
 * Everything becomes a small set of values that can be compared: "2 km" and "2000 m"
 * have one base value, "five" is 5, "January 31" and "2024-01-31" share month 1 and
 * number 31. What cannot be understood ("1.2.3") keeps a value of its own made from
 * its letters: equal to itself and to nothing else. */
#include "features.h"

#include "base/bytes.h"
#include <math.h>

enum { OPAQUE = 255 /* dimension of what was not understood */ };

typedef struct finder {
    rp_str text;
    rp_word *words;
    size_t count;
    rp_quantity *out;
    size_t found;
} finder;

static bool
has_class(const rp_word *word, uint32_t classes)
{
    return word->lexeme && word->lexeme->classes & classes;
}

static inline __attribute__((always_inline)) bool
is_word(const rp_word *word, const char *letters)
{
    return rp_word_is(word, letters);
}

static rp_quantity *
push(finder *f, rp_quantity_kind kind, double value, size_t word, size_t words)
{
    for (size_t i = word; i < word + words; i++)
        f->words[i].flags |= RP_WORD_QUANTITY;
    if (f->found == RP_QUANTITIES_MAX)
        return NULL;
    rp_quantity *q = &f->out[f->found++];
    *q = (rp_quantity){ .value = value, .base = value, .kind = (uint8_t)kind,
                        .word = (uint16_t)word, .words = (uint16_t)words };
    return q;
}

/* ---- one written number -------------------------------------------------------------- */

typedef struct written_number {
    double value;
    size_t digits_end; /* the tail begins here */
    unsigned colons, slashes, dots;
    double part[3];    /* of "10:30", "1/31/2024" */
    bool is_sound;
} written_number;

/* "2,000.5", "10:30", "1/31/2024": folded ASCII letters of one word. */
static written_number
read_written(const char *ptr, size_t len)
{
    written_number n = { .is_sound = true };
    double value = 0, place = 0;
    size_t at = 0, part = 0;
    for (; at < len; at++) {
        const char c = ptr[at];
        if (c >= '0' && c <= '9') {
            if (place > 0) {
                value += (c - '0') * place;
                place /= 10;
            } else {
                value = value * 10 + (c - '0');
            }
        } else if (c == ',') {
            /* A thousands separator; a decimal comma is not understood as one, but
             * then both prompts misunderstand it alike. */
        } else if (c == '.') {
            if (n.dots++)
                n.is_sound = false;
            place = 0.1;
        } else if (c == ':' || c == '/') {
            n.colons += c == ':';
            n.slashes += c == '/';
            if (part < 2)
                n.part[part++] = value;
            else
                n.is_sound = false;
            value = place = 0;
        } else {
            break;
        }
    }
    n.part[part] = value;
    n.digits_end = at;
    n.value = part ? n.part[0] : value;
    if (n.slashes == 1 && !n.colons) {
        n.is_sound = n.is_sound && n.part[1] != 0;
        n.value = n.is_sound ? n.part[0] / n.part[1] : 0;
    }
    if (n.slashes + n.colons > 2 || (n.slashes && n.colons) || !isfinite(value))
        n.is_sound = false;
    return n;
}

static void
set_unit(rp_quantity *q, const rp_lexeme *unit)
{
    if (!q)
        return;
    /* "second" is an ordinal in the table; behind a number it is a unit of 1 s. */
    const double factor = unit->classes & RP_LEX_ORDINAL ? 1 : unit->value;
    q->dimension = unit->dimension;
    q->base = q->value * factor;
    if (unit->dimension == RP_DIMENSION_FAHRENHEIT) {
        q->dimension = RP_DIMENSION_CELSIUS;
        q->base = (q->value - 32) / 1.8;
    } else if (unit->dimension == RP_DIMENSION_KELVIN) {
        q->dimension = RP_DIMENSION_CELSIUS;
        q->base = q->value - 273.15;
    }
}

/* The currency that stands before a number: a sign or a word. */
static rp_dimension
currency_before(const finder *f, size_t at)
{
    const size_t start = f->words[at].at;
    const char *ptr = f->text.ptr;
    if (start >= 1 && ptr[start - 1] == '$')
        return RP_DIMENSION_DOLLAR;
    if (start >= 3 && memcmp(ptr + start - 3, "\xe2\x82\xac", 3) == 0)
        return RP_DIMENSION_EURO;
    if (start >= 3 && memcmp(ptr + start - 3, "\xe2\x82\xb9", 3) == 0)
        return RP_DIMENSION_RUPEE;
    if (start >= 2 && memcmp(ptr + start - 2, "\xc2\xa3", 2) == 0)
        return RP_DIMENSION_POUND;
    if (start >= 2 && memcmp(ptr + start - 2, "\xc2\xa5", 2) == 0)
        return RP_DIMENSION_YEN;
    if (at > 0 && has_class(&f->words[at - 1], RP_LEX_UNIT)
        && f->words[at - 1].lexeme->dimension >= RP_DIMENSION_DOLLAR
        && f->words[at - 1].lexeme->dimension <= RP_DIMENSION_YUAN
        && !(f->words[at - 1].flags & RP_WORD_QUANTITY))
        return (rp_dimension)f->words[at - 1].lexeme->dimension;
    return RP_DIMENSION_NONE;
}

/* The unit among the words behind a number; returns how many words it takes. */
static size_t
read_unit(finder *f, size_t at, rp_quantity *q)
{
    size_t used = 0;
    if (at < f->count && (is_word(&f->words[at], "degree") || is_word(&f->words[at], "degrees")
                          || is_word(&f->words[at], "square") || is_word(&f->words[at], "sq")))
        used++;
    if (at + used >= f->count)
        return used;
    const rp_word *word = &f->words[at + used];
    if (used && (is_word(word, "c") || is_word(word, "f"))) {
        static const rp_lexeme celsius = { .value = 1, .dimension = RP_DIMENSION_CELSIUS };
        static const rp_lexeme fahrenheit = { .value = 1, .dimension = RP_DIMENSION_FAHRENHEIT };
        set_unit(q, is_word(word, "c") ? &celsius : &fahrenheit);
        return used + 1;
    }
    /* "5 in Texas": a separate "in" is a preposition. */
    if (!has_class(word, RP_LEX_UNIT) || is_word(word, "in"))
        return used;
    set_unit(q, word->lexeme);
    used++;
    /* "km per hour", "km/h" */
    if (q && q->dimension == RP_DIMENSION_LENGTH && at + used < f->count) {
        const bool per = is_word(&f->words[at + used], "per") || is_word(&f->words[at + used], "an");
        const size_t hour = at + used + (per ? 1 : 0);
        if (hour < f->count
            && ((per && is_word(&f->words[hour], "hour")) || is_word(&f->words[hour], "h"))) {
            q->dimension = RP_DIMENSION_SPEED;
            q->base /= 3600;
            return hour + 1 - at;
        }
    }
    return used;
}

static bool
is_pm(const rp_word *word)
{
    return is_word(word, "pm");
}

/* "am" alone is a verb; behind a number it is a time of day. Also "a.m" in two words. */
static size_t
read_half_day(const finder *f, size_t at, bool *pm)
{
    if (at >= f->count)
        return 0;
    const rp_word *word = &f->words[at];
    if (is_pm(word) || is_word(word, "am")) {
        *pm = is_pm(word);
        return 1;
    }
    if (at + 1 < f->count && is_word(&f->words[at + 1], "m")
        && (is_word(word, "p") || is_word(word, "a"))) {
        *pm = is_word(word, "p");
        return 2;
    }
    if (is_word(word, "o'clock") || is_word(word, "oclock")) {
        *pm = false;
        return 1;
    }
    return 0;
}

static double
clock_minutes(double hour, double minute, bool has_half, bool pm)
{
    if (has_half && pm && hour < 12)
        hour += 12;
    if (has_half && !pm && hour == 12)
        hour = 0;
    return hour * 60 + minute;
}

/* A date in three numbers becomes year, month and day, as "31 January 2024" does. */
static void
push_date(finder *f, double year, double month, double day, size_t at, size_t words)
{
    push(f, RP_QUANTITY_NUMBER, year, at, words);
    push(f, RP_QUANTITY_MONTH, month, at, words);
    push(f, RP_QUANTITY_NUMBER, day, at, words);
}

/* 2024-01-31 arrives as three words joined by '-'. */
static bool
take_iso_date(finder *f, size_t at)
{
    if (at + 2 >= f->count || f->words[at].folded_size != 4 || f->words[at + 1].folded_size != 2
        || f->words[at + 2].folded_size != 2)
        return false;
    for (size_t i = at; i < at + 2; i++) {
        const size_t end = f->words[i].at + f->words[i].size;
        if (end >= f->text.len || f->text.ptr[end] != '-' || f->words[i + 1].at != end + 1)
            return false;
    }
    const written_number y = read_written(f->words[at].folded, 4);
    const written_number m = read_written(f->words[at + 1].folded, 2);
    const written_number d = read_written(f->words[at + 2].folded, 2);
    if (y.digits_end != 4 || m.digits_end != 2 || d.digits_end != 2 || m.value < 1 || m.value > 12)
        return false;
    push_date(f, y.value, m.value, d.value, at, 3);
    return true;
}

/* A word of digits, perhaps with a tail and with words behind it. Returns words used. */
static size_t
take_digits(finder *f, size_t at)
{
    const rp_word *word = &f->words[at];
    if (take_iso_date(f, at))
        return 3;
    const written_number n = read_written(word->folded, word->folded_size);
    const rp_str tail = { word->folded + n.digits_end, word->folded_size - n.digits_end };
    bool pm = false;
    size_t half_words = read_half_day(f, at + 1, &pm);
    const bool tail_half = rp_str_equal(tail, RP_STR("am")) || rp_str_equal(tail, RP_STR("pm"));
    if (tail_half)
        pm = tail.ptr[0] == 'p', half_words = 0;

    if (!n.is_sound) {
        rp_quantity *q = push(f, RP_QUANTITY_NUMBER, (double)(word->hash >> 12), at, 1);
        if (q)
            q->dimension = OPAQUE;
        return 1;
    }
    if (n.slashes == 2) {
        const bool day_first = n.part[0] > 12;
        if (n.part[0] > 31) /* 2024/01/31 */
            push_date(f, n.part[0], n.part[1], n.part[2], at, 1);
        else
            push_date(f, n.part[2], n.part[day_first ? 1 : 0], n.part[day_first ? 0 : 1], at, 1);
        return 1;
    }
    if (n.colons || tail_half || half_words) {
        push(f, RP_QUANTITY_CLOCK,
             clock_minutes(n.part[0], n.colons ? n.part[1] : 0, tail_half || half_words, pm), at,
             1 + half_words);
        return 1 + half_words;
    }

    const rp_dimension currency = currency_before(f, at);
    const bool negative = word->at > 0 && f->text.ptr[word->at - 1] == '-'
                          && (word->at == 1 || f->text.ptr[word->at - 2] == ' ');
    rp_quantity *q = push(f, RP_QUANTITY_NUMBER, negative ? -n.value : n.value, at, 1);
    if (!q)
        return 1;
    size_t used = 1;
    if (rp_str_equal(tail, RP_STR("%"))) {
        q->dimension = RP_DIMENSION_PERCENT;
        return used;
    }
    if (rp_str_equal(tail, RP_STR("k")))
        q->value *= 1e3, q->base = q->value;
    else if (rp_str_equal(tail, RP_STR("bn")))
        q->value *= 1e9, q->base = q->value;
    else if (tail.len && !rp_str_equal(tail, RP_STR("st")) && !rp_str_equal(tail, RP_STR("nd"))
             && !rp_str_equal(tail, RP_STR("rd")) && !rp_str_equal(tail, RP_STR("th"))) {
        const rp_lexeme *unit = rp_lexicon_find(rp_word_hash(tail.ptr, tail.len));
        if (unit && unit->classes & RP_LEX_UNIT) {
            set_unit(q, unit);
        } else {
            q->dimension = OPAQUE;
            q->value = q->base = (double)(word->hash >> 12);
        }
        return used;
    }
    while (at + used < f->count && has_class(&f->words[at + used], RP_LEX_SCALE)) {
        q->value *= f->words[at + used].lexeme->value;
        q->base = q->value;
        used++;
    }
    if (currency) {
        q->dimension = (uint8_t)currency;
    } else if (!tail.len) {
        used += read_unit(f, at + used, q);
    }
    q->words = (uint16_t)used;
    for (size_t i = at; i < at + used; i++)
        f->words[i].flags |= RP_WORD_QUANTITY;
    return used;
}

/* "two hundred and fifty", "twenty five", "five". Returns words used, 0: none. */
static size_t
take_number_words(finder *f, size_t at)
{
    double total = 0, current = 0;
    bool any = false, weak = true;
    size_t i = at;
    for (; i < f->count; i++) {
        const rp_word *word = &f->words[i];
        if (has_class(word, RP_LEX_NUMBER)) {
            const double value = word->lexeme->value;
            /* "five six" are two numbers, "twenty five" and "hundred five" are one. */
            const bool joins = !any || (current >= 20 && fmod(current, 10) == 0 && value < 10
                                        && value >= 1)
                               || (current >= 100 && fmod(current, 100) == 0 && value < 100);
            if (!joins)
                break;
            current += value;
            weak &= (word->lexeme->classes & RP_LEX_WEAK) != 0 && !any;
            any = true;
        } else if (has_class(word, RP_LEX_SCALE)) {
            if (!any && i > at)
                break;
            current = (any ? current : 1) * word->lexeme->value;
            if (word->lexeme->value >= 1000) {
                total += current;
                current = 0;
            }
            /* "hundreds of people" is no number, but "a hundred" is. */
            weak = !any && word->folded[word->folded_size - 1] == 's';
            any = true;
        } else if (any && is_word(word, "and") && current >= 100 && i + 1 < f->count
                   && has_class(&f->words[i + 1], RP_LEX_NUMBER)) {
            continue;
        } else {
            break;
        }
    }
    if (!any)
        return 0;
    rp_quantity *q = push(f, RP_QUANTITY_NUMBER, total + current, at, i - at);
    if (q) {
        q->weak = weak;
        const size_t unit_words = read_unit(f, i, q);
        q->words = (uint16_t)(i - at + unit_words);
        for (size_t w = i; w < i + unit_words; w++)
            f->words[w].flags |= RP_WORD_QUANTITY;
        i += unit_words;
    }
    return i - at;
}

/* "may" and "march" are months next to a number, or with a capital inside a sentence. */
static bool
is_month(const finder *f, size_t at)
{
    const rp_word *word = &f->words[at];
    if (!has_class(word, RP_LEX_AMBIGUOUS))
        return true;
    if ((word->flags & (RP_WORD_CAPITAL | RP_WORD_FIRST)) == RP_WORD_CAPITAL)
        return true;
    return (at > 0 && f->words[at - 1].flags & RP_WORD_DIGITS)
           || (at + 1 < f->count && f->words[at + 1].flags & RP_WORD_DIGITS);
}

static size_t
take_word(finder *f, size_t at)
{
    const rp_word *word = &f->words[at];
    if (has_class(word, RP_LEX_MONTH) && is_month(f, at)) {
        push(f, RP_QUANTITY_MONTH, word->lexeme->value, at, 1);
        return 1;
    }
    if (has_class(word, RP_LEX_WEEKDAY)) {
        push(f, RP_QUANTITY_WEEKDAY, word->lexeme->value, at, 1);
        return 1;
    }
    if (has_class(word, RP_LEX_WHEN)) {
        const bool verb = (is_word(word, "fall") || is_word(word, "spring"))
                          && !(at > 0 && has_class(&f->words[at - 1], RP_LEX_PREPOSITION));
        if (!verb) {
            push(f, RP_QUANTITY_WHEN, word->lexeme->value, at, 1);
            return 1;
        }
    }
    if (has_class(word, RP_LEX_ORDINAL)) {
        rp_quantity *q = push(f, RP_QUANTITY_NUMBER, word->lexeme->value, at, 1);
        if (q)
            q->weak = has_class(word, RP_LEX_WEAK);
        return 1;
    }
    const size_t used = take_number_words(f, at);
    return used ? used : 1;
}

size_t
rp_quantities_find(rp_str text, rp_word *words, size_t words_count, rp_quantity *out)
{
    finder f = { .text = text, .words = words, .count = words_count, .out = out };
    for (size_t at = 0; at < words_count;) {
        if (words[at].flags & RP_WORD_CODE)
            at++;
        else if (words[at].flags & RP_WORD_DIGITS)
            at += take_digits(&f, at);
        else if (words[at].lexeme)
            at += take_word(&f, at);
        else
            at++;
    }
    return f.found;
}

static bool
nearly(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b));
}

bool
rp_quantities_equal(const rp_quantity *a, const rp_quantity *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->dimension == OPAQUE || b->dimension == OPAQUE)
        return a->dimension == b->dimension && a->base == b->base;
    if (a->dimension && b->dimension)
        return a->dimension == b->dimension && nearly(a->base, b->base);
    /* A unit that only one side states is not a difference: "5" may be "5 days". */
    return nearly(a->value, b->value);
}
