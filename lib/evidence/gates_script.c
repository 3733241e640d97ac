/* gates_script.c - prompts in two languages, and text the encoder cannot read.
 *
 * A question and its translation want answers in two languages, however near their
 * vectors. Scripts are told apart by their letters, languages of the Latin script by
 * their function words, and only if both prompts show a language clearly: names, code
 * and short queries show none. These two gates fire at any alignment.
 *
 * An English vocabulary turns Chinese into unknown tokens, and then every question is
 * like every other (GPTCache issues 317, 634). The tokenizer knows the share exactly;
 * where the caller does not pass it on, letters of scripts that such a vocabulary does
 * not spell are counted. And what little was not read must be equal (script.h). */
#include "comparison.h"

#include "base/bytes.h"

/* Guesses: half a text unread is unread; a language needs two function words more
 * than any other. */
static const float UNKNOWN_SHARE_MAX = 0.5f;
enum { LANGUAGE_LEAD = 2, SCRIPT_LETTERS_MIN = 4 };

/* The script of most letters, or COUNT if none has 60 %. */
static rp_script
main_script(const rp_features *features)
{
    for (unsigned s = 0; s < RP_SCRIPT_COUNT; s++)
        if (features->letters >= SCRIPT_LETTERS_MIN
            && features->script[s] * 10 >= features->letters * 6)
            return (rp_script)s;
    return RP_SCRIPT_COUNT;
}

static rp_language
main_language(const rp_features *features)
{
    unsigned best = 0, second = 0;
    rp_language language = RP_LANGUAGE_COUNT;
    for (unsigned l = 0; l < RP_LANGUAGE_COUNT; l++) {
        const unsigned count = features->language[l];
        if (count > best) {
            second = best;
            best = count;
            language = (rp_language)l;
        } else if (count > second) {
            second = count;
        }
    }
    return best >= second + LANGUAGE_LEAD ? language : RP_LANGUAGE_COUNT;
}

/* Share of letters that an English WordPiece vocabulary does not spell. It has the
 * letters of Cyrillic, Greek, Arabic, Hebrew and Devanagari one by one: poorly read,
 * but not unknown; of Han, Hangul, kana and Thai it has few. */
static float
estimated_unknown(const rp_features *features)
{
    if (features->letters < SCRIPT_LETTERS_MIN / 2)
        return 0;
    const unsigned unread = features->script[RP_SCRIPT_HAN] + features->script[RP_SCRIPT_KANA]
                            + features->script[RP_SCRIPT_HANGUL]
                            + features->script[RP_SCRIPT_THAI] + features->script[RP_SCRIPT_OTHER];
    return (float)unread / (float)features->letters;
}

void
rp_gates_script(rp_comparison *c)
{
    const rp_script script_a = main_script(c->a), script_b = main_script(c->b);
    if (script_a != script_b && script_a != RP_SCRIPT_COUNT && script_b != RP_SCRIPT_COUNT)
        rp_gate_say(c, RP_GATE_LANGUAGE, true, RP_STR("script"), RP_STR("another"));
    else if (script_a == RP_SCRIPT_LATIN) {
        const rp_language a = main_language(c->a), b = main_language(c->b);
        if (a != b && a != RP_LANGUAGE_COUNT && b != RP_LANGUAGE_COUNT)
            rp_gate_say(c, RP_GATE_LANGUAGE, true, RP_STR("language"), RP_STR("another"));
    }
    const float unknown = c->options->unknown_share > 0
                              ? c->options->unknown_share
                              : RP_MAX(estimated_unknown(c->a), estimated_unknown(c->b));
    /* Words that nobody read must be equal: on one side only they are unread all the same.
     * Signs decorate more often than not, so only two different ones count. */
    const rp_unread *a = &c->a->unread, *b = &c->b->unread;
    if (a->words != b->words || (a->signs && b->signs && a->signs != b->signs))
        rp_gate_say(c, RP_GATE_UNKNOWN, true, RP_STR("unread"), RP_STR("unread"));
    /* Equal words need no reading. */
    if (unknown > UNKNOWN_SHARE_MAX && c->alignment.ratio < 1)
        rp_gate_say(c, RP_GATE_UNKNOWN, true, RP_STR("unread"), RP_STR("unread"));
}
