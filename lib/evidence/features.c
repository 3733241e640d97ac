/* features.c - a prompt taken apart once: words with classes, cues, quantities.
 *
 * Splitting: white space separates chunks. A chunk that looks like code (a flag, a
 * path, an address, an identifier, letters mixed with digits) stays one word. In all
 * others letters and digits form words, contractions are opened ("can't" = can + not,
 * "what's" = what + is) and a possessive 's is dropped, so that "what's" and "what
 * is" align. In Han, kana and Thai text every character is a word.
 *
 * Bytes that are not UTF-8 count as letters of no script: they can make two prompts
 * differ, never alike. */
#include "features.h"

#include "base/bytes.h"
#include <math.h>
#include <utf8proc.h>

enum { FOLDED_BLOCK_SIZE = 2048 };

typedef struct analysis {
    rp_arena *arena;
    rp_str text;
    rp_word *words;
    size_t count, capacity;
    char *folded;           /* what is left of the newest block of folded letters */
    size_t folded_left;
    bool first;             /* the next word begins a sentence */
    bool quoted;
    bool failed, is_cut;
    unsigned letters, script[RP_SCRIPT_COUNT];
} analysis;

typedef struct code_point {
    int32_t cp;   /* -1: not UTF-8, one byte */
    unsigned len; /* bytes */
} code_point;

static code_point
read_code_point(rp_str text, size_t at)
{
    const uint8_t byte = (uint8_t)text.ptr[at];
    if (byte < 0x80)
        return (code_point){ byte, 1 };
    utf8proc_int32_t cp;
    const utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text.ptr + at,
                                                   (utf8proc_ssize_t)(text.len - at), &cp);
    return used > 0 ? (code_point){ cp, (unsigned)used } : (code_point){ -1, 1 };
}

static bool
is_ascii_letter(int32_t cp)
{
    return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
}

static bool
is_digit(int32_t cp)
{
    return cp >= '0' && cp <= '9';
}

static bool
is_space(int32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200B) || cp == 0x2028
           || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000 || cp == 0xFEFF;
}

static bool
is_letter(int32_t cp)
{
    if (cp >= 0 && cp < 0x80)
        return is_ascii_letter(cp);
    if (cp < 0)
        return true;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return true;
    default:
        return false;
    }
}

static bool
is_apostrophe(int32_t cp)
{
    return cp == '\'' || cp == 0x2019 || cp == 0x02BC;
}

static bool
is_unspaced(rp_script script)
{
    return script == RP_SCRIPT_HAN || script == RP_SCRIPT_KANA || script == RP_SCRIPT_THAI;
}

/* ---- adding words -------------------------------------------------------------------- */

static rp_word *
push_word(analysis *a, size_t at, size_t size)
{
    if (a->count == RP_WORDS_MAX) {
        a->is_cut = true;
        return NULL;
    }
    if (a->count == a->capacity) {
        const size_t capacity = a->capacity ? a->capacity * 2 : 32;
        rp_word *words = rp_arena_alloc(a->arena, capacity * sizeof *words);
        if (!words) {
            a->failed = true;
            return NULL;
        }
        if (a->count)
            memcpy(words, a->words, a->count * sizeof *words);
        a->words = words;
        a->capacity = capacity;
    }
    rp_word *word = &a->words[a->count++];
    memset(word, 0, sizeof *word);
    word->at = (uint32_t)at;
    word->size = (uint32_t)size;
    return word;
}

static char *
reserve_folded(analysis *a)
{
    if (a->folded_left < RP_WORD_FOLDED_MAX) {
        a->folded = rp_arena_alloc(a->arena, FOLDED_BLOCK_SIZE);
        a->folded_left = a->folded ? FOLDED_BLOCK_SIZE : 0;
        if (!a->folded)
            a->failed = true;
    }
    return a->folded;
}

/* Lower-case the letters of text[at, at + size) into the word; count scripts. */
static bool
fold(analysis *a, rp_word *word)
{
    char *out = reserve_folded(a);
    if (!out)
        return false;
    size_t len = 0;
    uint64_t hash = 0xcbf29ce484222325u;
    unsigned letters = 0, capitals = 0;
    for (size_t at = word->at; at < (size_t)word->at + word->size;) {
        const code_point c = read_code_point(a->text, at);
        char bytes[4];
        size_t bytes_len = c.len;
        if (c.cp >= 0 && c.cp < 0x80) {
            const bool upper = c.cp >= 'A' && c.cp <= 'Z';
            bytes[0] = (char)(upper ? c.cp + 32 : c.cp);
            capitals += upper;
            if (is_ascii_letter(c.cp)) {
                letters++;
                a->script[RP_SCRIPT_LATIN]++;
                a->letters++;
            }
        } else if (c.cp < 0) {
            bytes[0] = a->text.ptr[at];
            a->script[RP_SCRIPT_OTHER]++;
            a->letters++;
        } else {
            const utf8proc_int32_t lower = utf8proc_tolower(c.cp);
            bytes_len = (size_t)utf8proc_encode_char(lower, (utf8proc_uint8_t *)bytes);
            capitals += lower != c.cp;
            letters++;
            const rp_script script = rp_script_of(c.cp);
            a->script[script]++;
            a->letters++;
            if (script != RP_SCRIPT_LATIN)
                word->flags |= RP_WORD_FOREIGN;
        }
        if (at == word->at && capitals)
            word->flags |= RP_WORD_CAPITAL;
        for (size_t i = 0; i < bytes_len; i++)
            hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3u;
        if (len + bytes_len <= RP_WORD_FOLDED_MAX) {
            memcpy(out + len, bytes, bytes_len);
            len += bytes_len;
        }
        at += c.len;
    }
    if (letters >= 2 && capitals == letters)
        word->flags |= RP_WORD_UPPER;
    word->folded = out;
    word->folded_size = (uint16_t)len;
    word->hash = hash;
    a->folded += len;
    a->folded_left -= len;
    return true;
}

static void
finish_word(analysis *a, rp_word *word, unsigned flags)
{
    word->flags |= (uint16_t)(flags | (a->first ? RP_WORD_FIRST : 0)
                              | (a->quoted ? RP_WORD_QUOTED : 0));
    a->first = false;
    if (word->folded_size && is_digit(word->folded[0]))
        word->flags |= RP_WORD_DIGITS;
    word->lexeme = rp_lexicon_find(word->hash);
    if (flags & RP_WORD_CODE) {
        word->exact = rp_word_hash(a->text.ptr + word->at, word->size);
        word->stem = word->hash;
    } else {
        word->stem = rp_word_stem(word->folded, word->folded_size);
    }
}

static void
add_word(analysis *a, size_t at, size_t size, unsigned flags)
{
    rp_word *word = size ? push_word(a, at, size) : NULL;
    if (word && fold(a, word))
        finish_word(a, word, flags);
}

/* A word that stands for the second half of a contraction: same place, own letters. */
static void
add_spelled(analysis *a, size_t at, size_t size, const char *letters)
{
    rp_word *word = push_word(a, at, size);
    if (!word)
        return;
    word->folded = letters;
    word->folded_size = (uint16_t)strlen(letters);
    word->hash = rp_word_hash(letters, word->folded_size);
    finish_word(a, word, 0);
}

/* ---- contractions -------------------------------------------------------------------- */

static bool
tail_is(rp_str tail, const char *ending)
{
    return rp_str_equal_ignoring_case(tail, rp_str_of(ending));
}

/* After which words 's is "is": pronouns, question words, here, there. */
static bool
takes_is(const rp_word *word)
{
    return word->lexeme
           && word->lexeme->classes & (RP_LEX_PRONOUN | RP_LEX_QUESTION)
           && !(word->lexeme->classes & RP_LEX_PERSONAL);
}

static bool
is_one_of_here_there_that(const rp_word *word)
{
    const rp_str folded = { word->folded, word->folded_size };
    return rp_str_equal(folded, RP_STR("here")) || rp_str_equal(folded, RP_STR("there"))
           || rp_str_equal(folded, RP_STR("that")) || rp_str_equal(folded, RP_STR("let"));
}

/* The letters before an apostrophe are a word already; add what the tail means. */
static void
add_contraction_tail(analysis *a, size_t at, size_t size)
{
    const rp_str tail = { a->text.ptr + at, size };
    rp_word *before = &a->words[a->count - 1];
    if (tail_is(tail, "s")) {
        if (takes_is(before) || is_one_of_here_there_that(before))
            add_spelled(a, at, size, "is");
    } else if (tail_is(tail, "m")) {
        add_spelled(a, at, size, "am");
    } else if (tail_is(tail, "re")) {
        add_spelled(a, at, size, "are");
    } else if (tail_is(tail, "ve")) {
        add_spelled(a, at, size, "have");
    } else if (tail_is(tail, "ll")) {
        add_spelled(a, at, size, "will");
    } else if (tail_is(tail, "d")) {
        add_spelled(a, at, size, "would");
    } else {
        add_word(a, at, size, 0);
    }
}

/* "can" + "not" for can't, cannot, cant; the head keeps its own spelling. */
static bool
add_negated_auxiliary(analysis *a, size_t at, size_t size)
{
    static const struct {
        const char *written, *head;
    } forms[] = {
        { "cannot", "can" }, { "can't", "can" },   { "won't", "will" },   { "shan't", "shall" },
        { "dont", "do" },    { "doesnt", "does" }, { "didnt", "did" },    { "isnt", "is" },
        { "arent", "are" },  { "wasnt", "was" },   { "wouldnt", "would" }, { "couldnt", "could" },
        { "shouldnt", "should" }, { "cant", "can" }, { "ain't", "is" },   { "werent", "were" },
        { "hasnt", "has" },  { "havent", "have" }, { "hadnt", "had" },
    };
    const rp_str written = { a->text.ptr + at, size };
    if (size < 4 || (written.ptr[size - 1] | 32) != 't')
        return false; /* all end so; most words do not */
    for (size_t i = 0; i < RP_COUNT(forms); i++)
        if (tail_is(written, forms[i].written)) {
            add_spelled(a, at, size, forms[i].head);
            add_spelled(a, at, size, "not");
            return true;
        }
    if (size > 3 && tail_is((rp_str){ written.ptr + size - 3, 3 }, "n't")) {
        add_word(a, at, size - 3, 0);
        add_spelled(a, at + size - 3, 3, "not");
        return true;
    }
    return false;
}

/* ---- chunks -------------------------------------------------------------------------- */

/* What a chunk is made of, to tell code from prose. */
typedef struct chunk_shape {
    unsigned letters, digits, inner_capitals;
    bool has_underscore, has_slash, has_backslash, has_at, has_double_colon, has_inner_dot,
        has_inner_equals, starts_flag, starts_path, is_ascii;
} chunk_shape;

static chunk_shape
look_at_chunk(rp_str chunk)
{
    chunk_shape shape = { .is_ascii = true };
    for (size_t i = 0; i < chunk.len; i++) {
        const char c = chunk.ptr[i];
        const char next = i + 1 < chunk.len ? chunk.ptr[i + 1] : '\0';
        const char before = i ? chunk.ptr[i - 1] : '\0';
        if ((uint8_t)c >= 0x80)
            shape.is_ascii = false;
        if (is_ascii_letter(c)) {
            shape.letters++;
            shape.inner_capitals += c >= 'A' && c <= 'Z' && before >= 'a' && before <= 'z';
        }
        shape.digits += is_digit(c);
        const bool inner = before && next && (is_ascii_letter(before) || is_digit(before))
                           && (is_ascii_letter(next) || is_digit(next));
        shape.has_underscore |= c == '_' && (is_ascii_letter(before) || is_ascii_letter(next));
        shape.has_slash |= c == '/' && next != '\0';
        shape.has_backslash |= c == '\\' && next != '\0';
        shape.has_at |= c == '@' && next != '\0';
        shape.has_double_colon |= c == ':' && next == ':';
        shape.has_inner_dot |= c == '.' && inner && (is_ascii_letter(before) || is_ascii_letter(next));
        shape.has_inner_equals |= c == '=' && inner;
    }
    if (chunk.len >= 2) {
        const char c = chunk.ptr[0], next = chunk.ptr[1];
        shape.starts_flag = c == '-' && (is_ascii_letter(next) || (next == '-' && chunk.len > 3));
        shape.starts_path = (c == '/' || c == '~' || (c == '.' && next == '/') || c == '$')
                            && (is_ascii_letter(next) || next == '/' || next == '.');
    }
    return shape;
}

/* Number with something attached that belongs to it: 5km, 3pm, 1st, 10k, 90s, 2x. */
static bool
is_number_with_tail(rp_str chunk)
{
    size_t at = 0;
    while (at < chunk.len && (is_digit(chunk.ptr[at]) || chunk.ptr[at] == '.' || chunk.ptr[at] == ','
                              || chunk.ptr[at] == ':'))
        at++;
    if (at == 0 || !is_digit(chunk.ptr[0]))
        return false;
    const rp_str tail = { chunk.ptr + at, chunk.len - at };
    if (tail.len > 12)
        return false;
    char lower[12];
    for (size_t i = 0; i < tail.len; i++) {
        if (!is_ascii_letter(tail.ptr[i]))
            return false;
        lower[i] = (char)(tail.ptr[i] | 32);
    }
    const rp_str word = { lower, tail.len };
    static const char *const tails[] = { "", "st", "nd", "rd", "th", "k", "m", "b", "bn", "am", "pm",
                                         "s", "x", "h", "d", "g", "l", "c", "f", "a", "p" };
    for (size_t i = 0; i < RP_COUNT(tails); i++)
        if (rp_str_equal(word, rp_str_of(tails[i])))
            return true;
    const rp_lexeme *lexeme = rp_lexicon_find(rp_word_hash(lower, tail.len));
    return lexeme && lexeme->classes & RP_LEX_UNIT;
}

static bool
is_code(rp_str chunk)
{
    const chunk_shape s = look_at_chunk(chunk);
    if (s.starts_flag || s.has_underscore || s.has_backslash || s.has_double_colon
        || (s.has_at && s.letters) || (s.has_inner_equals && s.letters))
        return true;
    if (s.starts_path && s.letters)
        return true;
    if (s.has_slash) {
        /* and/or, 2/5, km/h are prose; a/b/c, http://x are not. */
        unsigned slashes = 0;
        for (size_t i = 0; i < chunk.len; i++)
            slashes += chunk.ptr[i] == '/';
        if (slashes > 1 && s.letters)
            return true;
    }
    if (s.has_inner_dot) {
        /* file.txt, v1.2b, example.com; not "e.g", "p.m", "U.S": single letters. */
        unsigned run = 0, longest = 0;
        for (size_t i = 0; i < chunk.len; i++) {
            run = chunk.ptr[i] == '.' ? 0 : run + 1;
            longest = RP_MAX(longest, run);
        }
        if (longest > 1)
            return true;
    }
    if (s.letters && s.digits)
        return !is_number_with_tail(chunk);
    /* camelCase, but not "McDonald" or "iPhone": two humps at least, or a lower start. */
    return s.inner_capitals >= 2
           || (s.inner_capitals == 1 && chunk.ptr[0] >= 'a' && chunk.ptr[0] <= 'z' && s.letters > 6);
}

static bool
is_opening(int32_t cp)
{
    return cp == '(' || cp == '[' || cp == '{' || cp == '<' || cp == '"' || cp == '\'' || cp == '`'
           || cp == 0x201C || cp == 0x2018 || cp == 0xAB || cp == '*' || cp == '#' || cp == 0xBF
           || cp == 0xA1;
}

static bool
is_closing(int32_t cp)
{
    return cp == ')' || cp == ']' || cp == '}' || cp == '>' || cp == '"' || cp == '\'' || cp == '`'
           || cp == 0x201D || cp == 0x2019 || cp == 0xBB || cp == ',' || cp == '.' || cp == ';'
           || cp == ':' || cp == '?' || cp == '!' || cp == '*' || cp == 0x3002 || cp == 0xFF1F
           || cp == 0xFF01 || cp == 0xFF0C || cp == 0x2026;
}

static bool
is_double_quote(int32_t cp)
{
    return cp == '"' || cp == 0x201C || cp == 0x201D || cp == '`';
}

/* The end of a number that starts at `at`: digits with inner . , : / and a tail of
 * letters or % ("2,000", "10:30", "2/5", "5km", "50%"). */
static size_t
number_end(rp_str chunk, size_t at)
{
    while (at < chunk.len) {
        const char c = chunk.ptr[at];
        const bool inner = (c == '.' || c == ',' || c == ':' || c == '/') && at + 1 < chunk.len
                           && is_digit(chunk.ptr[at + 1]);
        if (!is_digit(c) && !inner && !is_ascii_letter(c))
            break;
        at++;
    }
    if (at < chunk.len && chunk.ptr[at] == '%')
        at++;
    return at;
}

/* Split a chunk of prose into words. `base` is its offset in the text. */
static void
split_prose(analysis *a, rp_str chunk, size_t base)
{
    for (size_t at = 0; at < chunk.len && !a->failed && !a->is_cut;) {
        const code_point c = read_code_point(chunk, at);
        if (is_digit(c.cp)) {
            const size_t end = number_end(chunk, at);
            /* The currency sign or minus before it belongs to it. */
            add_word(a, base + at, end - at, 0);
            at = end;
            continue;
        }
        if (!is_letter(c.cp)) {
            at += c.len;
            continue;
        }
        if (is_unspaced(rp_script_of(c.cp))) {
            add_word(a, base + at, c.len, 0);
            at += c.len;
            continue;
        }
        /* Letters; with inner apostrophes kept for the look at contractions, and
         * "U.S", "p.m" as one word. */
        size_t end = at, apostrophe = 0, after_apostrophe = 0;
        while (end < chunk.len) {
            const code_point d = read_code_point(chunk, end);
            if (is_apostrophe(d.cp) && !apostrophe && end + d.len < chunk.len
                && is_letter(read_code_point(chunk, end + d.len).cp)) {
                apostrophe = end;
                after_apostrophe = end + d.len;
            } else if (!is_letter(d.cp) || is_unspaced(rp_script_of(d.cp))) {
                break;
            }
            end += d.len;
        }
        if (add_negated_auxiliary(a, base + at, end - at)) {
        } else if (apostrophe && end - at >= 4
                   && tail_is((rp_str){ chunk.ptr + after_apostrophe, end - after_apostrophe }, "t")
                   && (chunk.ptr[apostrophe - 1] | 32) == 'n') {
            /* a typographic n't */
            add_word(a, base + at, apostrophe - 1 - at, 0);
            add_spelled(a, base + at, end - at, "not");
        } else if (apostrophe) {
            const size_t words_before = a->count;
            add_word(a, base + at, apostrophe - at, 0);
            if (a->count > words_before)
                add_contraction_tail(a, base + after_apostrophe, end - after_apostrophe);
        } else {
            add_word(a, base + at, end - at, 0);
        }
        at = end;
    }
}

/* One run without white space. */
static void
take_chunk(analysis *a, size_t at, size_t end)
{
    bool opens_quote = false, closes_quote = false, ends_sentence = false, comma = false;
    while (at < end) {
        const code_point c = read_code_point(a->text, at);
        if (!is_opening(c.cp))
            break;
        opens_quote |= is_double_quote(c.cp);
        at += c.len;
    }
    size_t last = end;
    while (last > at) {
        size_t start = last - 1;
        while (start > at && ((uint8_t)a->text.ptr[start] & 0xC0) == 0x80)
            start--;
        const code_point c = read_code_point(a->text, start);
        if (!is_closing(c.cp) || start + c.len != last)
            break;
        closes_quote |= is_double_quote(c.cp);
        ends_sentence |= c.cp == '.' || c.cp == '?' || c.cp == '!' || c.cp == ':' || c.cp == 0x3002;
        comma |= c.cp == ',' || c.cp == ';';
        last = start;
    }
    if (opens_quote && at == last) { /* a lone quotation mark toggles */
        a->quoted = !a->quoted;
        return;
    }
    if (opens_quote)
        a->quoted = true;
    const size_t words_before = a->count;
    if (last > at) {
        const rp_str chunk = { a->text.ptr + at, last - at };
        if (is_code(chunk))
            add_word(a, at, chunk.len, RP_WORD_CODE);
        else
            split_prose(a, chunk, at);
    }
    if (closes_quote)
        a->quoted = false;
    if (comma && a->count > words_before)
        a->words[a->count - 1].flags |= RP_WORD_COMMA;
    if (ends_sentence)
        a->first = true;
}

static void
split_text(analysis *a)
{
    a->first = true;
    for (size_t at = 0; at < a->text.len && !a->failed && !a->is_cut;) {
        const code_point c = read_code_point(a->text, at);
        if (is_space(c.cp)) {
            if (c.cp == '\n')
                a->first = true;
            at += c.len;
            continue;
        }
        size_t end = at;
        while (end < a->text.len) {
            const code_point d = read_code_point(a->text, end);
            if (is_space(d.cp))
                break;
            end += d.len;
        }
        take_chunk(a, at, end);
        at = end;
    }
}

/* ---- cues ---------------------------------------------------------------------------- */

static bool
has_class(const rp_word *word, uint32_t classes)
{
    return word->lexeme && word->lexeme->classes & classes;
}

bool
rp_word_is_one_of(const rp_word *word, const char *list)
{
    const rp_str own = { word->folded, word->folded_size };
    for (rp_str rest = rp_str_of(list); rest.len;)
        if (rp_str_equal(own, rp_str_split(&rest, ' ')))
            return true;
    return false;
}

/* "No" as a determiner ("has no friends") negates; in "what do geologists no what do
 * farmers grow" or "how many Mongols uh no Khitans" it takes back what was said. A
 * determiner stands behind grammar or a verb and before a content word. */
static bool
no_is_repair(const rp_word *words, size_t count, size_t at)
{
    if (at + 1 >= count || words[at].flags & RP_WORD_COMMA)
        return true;
    const rp_word *next = &words[at + 1];
    if (rp_word_is_one_of(next, "one other such more longer"))
        return false;
    if (has_class(next, RP_LEX_FUNCTION | RP_LEX_FILLER) || rp_word_is_one_of(next, "make rather scratch"))
        return true;
    if (at == 0)
        return false;
    const rp_word *before = &words[at - 1];
    if (rp_word_is(before, "or") || has_class(before, RP_LEX_FILLER))
        return true;
    return !has_class(before, RP_LEX_FUNCTION)
           && !(before->folded_size > 4
                && memcmp(before->folded + before->folded_size - 2, "ed", 2) == 0)
           && !rp_word_is_one_of(before, "need needs want wants make makes made found take took see say says "
                                 "said left know knows almost absolutely practically virtually "
                                 "leave show shows require requires find contain contains");
}

/* "Aren't we?", "didn't he?" behind a statement ask for agreement and negate nothing. */
static bool
is_tag_question(const rp_word *words, size_t count, size_t at)
{
    return at >= 2 && at + 2 == count && has_class(&words[at - 1], RP_LEX_AUXILIARY)
           && words[at - 2].flags & RP_WORD_COMMA && has_class(&words[at + 1], RP_LEX_PRONOUN);
}

static unsigned
mark_negations(rp_word *words, size_t count)
{
    unsigned negations = 0;
    for (size_t i = 0; i < count; i++) {
        if (!has_class(&words[i], RP_LEX_NEGATION))
            continue;
        if (rp_word_is(&words[i], "no") && no_is_repair(words, count, i))
            continue;
        /* "or not", "or why not": both cases are meant. "not only": emphasis. */
        if (rp_word_is(&words[i], "not")
            && ((i > 0 && rp_word_is(&words[i - 1], "or"))
                || (i > 1 && rp_word_is(&words[i - 1], "why") && rp_word_is(&words[i - 2], "or"))
                || (i + 1 < count && rp_word_is(&words[i + 1], "only"))
                || is_tag_question(words, count, i)))
            continue;
        words[i].flags |= RP_WORD_NEGATES;
        negations++;
    }
    return negations;
}

static rp_question_type
question_after_how(const rp_word *next)
{
    static const struct {
        const char *word;
        rp_question_type type;
    } after[] = {
        { "many", RP_QUESTION_HOW_MANY }, { "much", RP_QUESTION_HOW_MUCH },
        { "long", RP_QUESTION_HOW_LONG }, { "often", RP_QUESTION_HOW_OFTEN },
        { "frequently", RP_QUESTION_HOW_OFTEN }, { "far", RP_QUESTION_HOW_FAR },
        { "old", RP_QUESTION_HOW_OLD },
    };
    for (size_t i = 0; i < RP_COUNT(after); i++)
        if (rp_word_is(next, after[i].word))
            return after[i].type;
    return RP_QUESTION_HOW;
}

/* "Or rather", "I mean", "sorry", "no wait": a repair inside the prompt. */
static bool
takes_back(const rp_word *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const bool after_or = i > 0 && rp_word_is(&words[i - 1], "or");
        const bool after_i = i > 0 && rp_word_is(&words[i - 1], "i");
        if (rp_word_is_one_of(&words[i], "sorry um uh er") || (after_or && rp_word_is(&words[i], "rather"))
            || (after_i && rp_word_is(&words[i], "mean"))
            || (i > 0 && rp_word_is(&words[i], "no") && !(words[i].flags & RP_WORD_NEGATES)))
            return true;
    }
    return false;
}

/* The type of the first question; a prompt of several questions has the first's. */
static rp_question_type
find_question(const rp_word *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (has_class(&words[i], RP_LEX_QUESTION)) {
            /* "the man who", "the day when": a relative clause, unless at the start. */
            if (i > 0 && !(words[i].flags & RP_WORD_FIRST)
                && !has_class(&words[i - 1], RP_LEX_FUNCTION) && i > 2)
                continue;
            const rp_question_type type = (rp_question_type)words[i].lexeme->question;
            return type == RP_QUESTION_HOW && i + 1 < count ? question_after_how(&words[i + 1])
                                                            : type;
        }
        if (i == 0 && has_class(&words[0], RP_LEX_AUXILIARY))
            return RP_QUESTION_YES_NO;
    }
    return RP_QUESTION_NONE;
}

rp_status
rp_features_new(rp_str text, rp_arena *arena, const rp_features **out)
{
    if (text.len > RP_TEXT_SIZE_MAX)
        text.len = RP_TEXT_SIZE_MAX;
    analysis a = { .arena = arena, .text = text };
    rp_features *features = rp_arena_calloc(arena, 1, sizeof *features);
    if (!features)
        return RP_ERR_NOMEM;
    split_text(&a);
    if (a.failed)
        return RP_ERR_NOMEM;

    rp_quantity found[RP_QUANTITIES_MAX];
    const size_t quantities_count = rp_quantities_find(text, a.words, a.count, found);
    if (quantities_count) {
        rp_quantity *quantities = rp_arena_alloc(arena, quantities_count * sizeof *quantities);
        if (!quantities)
            return RP_ERR_NOMEM;
        memcpy(quantities, found, quantities_count * sizeof *quantities);
        features->quantities = quantities;
    }
    /* Title Case and CAPITALS: where grammar has capitals too, they mean nothing. */
    unsigned capitals = 0, plain = 0, grammar_capitals = 0, grammar = 0;
    for (size_t i = 0; i < a.count; i++) {
        if (!(a.words[i].flags & (RP_WORD_DIGITS | RP_WORD_CODE))) {
            const bool capital = a.words[i].flags & RP_WORD_CAPITAL;
            const bool is_grammar = has_class(&a.words[i], RP_LEX_FUNCTION);
            capitals += capital && !is_grammar;
            plain += !is_grammar;
            if (is_grammar && !(a.words[i].flags & RP_WORD_FIRST) && !rp_word_is(&a.words[i], "i")) {
                grammar++;
                grammar_capitals += capital;
            }
        }
        if (a.words[i].lexeme)
            for (unsigned l = 0; l < RP_LANGUAGE_COUNT; l++)
                features->language[l] += a.words[i].lexeme->languages >> l & 1;
    }
    features->text = text;
    features->unread = rp_unread_of(text);
    features->words = a.words;
    features->words_count = a.count;
    features->quantities_count = quantities_count;
    features->negations = mark_negations(a.words, a.count);
    features->is_capitalised = grammar ? grammar_capitals * 2 > grammar
                                       : plain > 4 && capitals == plain;
    features->is_cut = a.is_cut;
    features->letters = a.letters;
    memcpy(features->script, a.script, sizeof a.script);
    /* Who takes a question back asks another: its type is not its first word's. */
    features->question = takes_back(a.words, a.count) ? RP_QUESTION_NONE
                                                      : find_question(a.words, a.count);
    *out = features;
    return RP_OK;
}
