/* template.c - fixed beginnings and ends of a scope's prompts.
 *
 * The first prompt gives the candidate words of both ends; each further prompt that
 * shares at least RP_TEMPLATE_FIXED_MIN words of an end shortens that end to what is
 * shared. A prompt that shares less is an outsider; if outsiders outnumber a fifth of
 * the prompts there is no template, and learning starts again from the next prompt. The
 * template is settled after RP_TEMPLATE_PROMPTS_MIN prompts in agreement. Words are runs
 * without white space, compared byte for byte: a template is machine-made text.
 *
 * The shared end of a few questions may hold a word by chance ("?"): at least
 * RP_TEMPLATE_FIXED_MIN words together are fixed or none, and a cut always ends at a
 * word. */
#include "evidence/template.h"

#include "base/bytes.h"
#include "base/hash.h"
#include <stdlib.h>

typedef struct word_end {
    uint64_t words[RP_TEMPLATE_WORDS_MAX]; /* hashes, from the outside inwards */
    size_t count;
} word_end;

struct rp_template {
    word_end front, back;
    size_t agreed, outsiders;
    uint64_t fingerprint; /* 0: not settled */
};

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Take a word off the front (or back) of *rest; false if there is none. */
static bool
take_front(rp_str *rest, rp_str *word)
{
    while (rest->len && is_space(rest->ptr[0]))
        rest->ptr++, rest->len--;
    size_t len = 0;
    while (len < rest->len && !is_space(rest->ptr[len]))
        len++;
    *word = (rp_str){ rest->ptr, len };
    *rest = (rp_str){ rest->ptr + len, rest->len - len };
    return len > 0;
}

static bool
take_back(rp_str *rest, rp_str *word)
{
    while (rest->len && is_space(rest->ptr[rest->len - 1]))
        rest->len--;
    size_t len = 0;
    while (len < rest->len && !is_space(rest->ptr[rest->len - 1 - len]))
        len++;
    *word = (rp_str){ rest->ptr + rest->len - len, len };
    rest->len -= len;
    return len > 0;
}

typedef bool take_word(rp_str *rest, rp_str *word);

static void
fill_end(word_end *end, rp_str text, take_word *take)
{
    rp_str word;
    end->count = 0;
    while (end->count < RP_TEMPLATE_WORDS_MAX && take(&text, &word))
        end->words[end->count++] = rp_hash64(word);
}

/* How many outer words of `text` are those of the end. */
static size_t
count_shared(const word_end *end, rp_str text, take_word *take)
{
    rp_str word;
    size_t shared = 0;
    while (shared < end->count && take(&text, &word) && rp_hash64(word) == end->words[shared])
        shared++;
    return shared;
}

static void
start_again(rp_template *t, rp_str text)
{
    fill_end(&t->front, text, take_front);
    fill_end(&t->back, text, take_back);
    t->agreed = 1;
    t->outsiders = 0;
}

rp_status
rp_template_new(rp_template **out)
{
    rp_template *t = calloc(1, sizeof *t);
    if (!t)
        return RP_ERR_NOMEM;
    *out = t;
    return RP_OK;
}

void
rp_template_free(rp_template *template_)
{
    free(template_);
}

static size_t
worth_cutting(const word_end *end)
{
    return end->count >= RP_TEMPLATE_FIXED_MIN ? end->count : 0;
}

static void
settle(rp_template *t)
{
    t->front.count = worth_cutting(&t->front);
    t->back.count = worth_cutting(&t->back);
    uint64_t hash = 0x7265707269736531u;
    hash = rp_hash64_seeded((rp_str){ (const char *)t->front.words,
                                      t->front.count * sizeof t->front.words[0] }, hash);
    hash = rp_hash64_seeded((rp_str){ (const char *)t->back.words,
                                      t->back.count * sizeof t->back.words[0] }, hash);
    t->fingerprint = hash ? hash : 1;
}

void
rp_template_learn(rp_template *t, rp_str text)
{
    if (t->fingerprint)
        return;
    if (t->agreed == 0) {
        start_again(t, text);
        return;
    }
    const size_t front = count_shared(&t->front, text, take_front);
    const size_t back = count_shared(&t->back, text, take_back);
    if (front < RP_TEMPLATE_FIXED_MIN && back < RP_TEMPLATE_FIXED_MIN) {
        t->outsiders++;
        if (t->outsiders * 5 > t->agreed + t->outsiders)
            start_again(t, text);
        return;
    }
    /* An equal text teaches nothing about what varies. */
    if (front == t->front.count && back == t->back.count && t->agreed == 1)
        return;
    t->front.count = front;
    t->back.count = back;
    if (++t->agreed >= RP_TEMPLATE_PROMPTS_MIN)
        settle(t);
}

uint64_t
rp_template_fingerprint(const rp_template *t)
{
    return t->front.count + t->back.count ? t->fingerprint : 0;
}

rp_str
rp_template_cut(const rp_template *t, rp_str text, bool *fits)
{
    *fits = false;
    if (!rp_template_fingerprint(t))
        return text;
    rp_str rest = text, word;
    for (size_t i = 0; i < t->front.count; i++)
        if (!take_front(&rest, &word) || rp_hash64(word) != t->front.words[i])
            return text;
    for (size_t i = 0; i < t->back.count; i++)
        if (!take_back(&rest, &word) || rp_hash64(word) != t->back.words[i])
            return text;
    rest = rp_str_trimmed(rest);
    if (rest.len == 0)
        return text; /* nothing varies: the whole says more than nothing */
    *fits = true;
    return rest;
}

size_t
rp_template_size_bytes(const rp_template *t)
{
    return sizeof *t;
}
