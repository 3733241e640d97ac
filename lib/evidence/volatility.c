/* volatility.c - prompts whose answer depends on who asks, where, or when.
 *
 * "What is my balance", "restaurants near me", "latest news": the same words, another
 * answer. Such a prompt may hit only for the same user, and if temporal only for a
 * short time (docs/policies.md, "Personal and volatile prompts"). Erring towards
 * personal costs hits; erring the other way leaks, so short lists of other languages
 * are included and Han text is searched for parts of words. */
#include "base/arena.h"
#include "base/bytes.h"
#include "features.h"

enum { ARENA_SIZE_MAX = 4 << 20 };

/* "am I", "did I", "have I", "I ordered": about the one who asks. "How do I" is not. */
static bool
asks_about_asker(const rp_word *words, size_t count, size_t at)
{
    if (!rp_word_is(&words[at], "i"))
        return false;
    if (at > 0 && rp_word_is_one_of(&words[at - 1], "am did have was had"))
        return true;
    return at + 1 < count
           && rp_word_is_one_of(&words[at + 1], "am was ordered bought paid live lived booked sent received");
}

/* "around me", "for me", "to me": but not "tell me", "give me". */
static bool
is_about_me(const rp_word *words, size_t at)
{
    return at > 0 && (rp_word_is(&words[at], "me") || rp_word_is(&words[at], "us"))
           && rp_word_is_one_of(&words[at - 1], "near around about by to from with of owe owes");
}

/* "this week", "next year", "last month": a time that moves. */
static bool
is_moving_time(const rp_word *words, size_t count, size_t at)
{
    return at + 1 < count && rp_word_is_one_of(&words[at], "this next last past coming previous")
           && rp_word_is_one_of(&words[at + 1], "week weekend month year quarter season morning afternoon "
                                        "evening night hour hours days weeks months years monday "
                                        "tuesday wednesday thursday friday saturday sunday");
}

static bool
text_has(rp_str text, rp_str part)
{
    return text.len >= part.len && memmem(text.ptr, text.len, part.ptr, part.len);
}

/* Words of scripts without spaces. */
static void
look_for_parts(rp_str text, rp_volatility *out)
{
    static const char *const personal[] = { "我的", "我们的", "附近", "私の", "僕の", "近く", "내 ", "나의", "근처" };
    static const char *const temporal[] = { "今天", "明天", "昨天", "现在", "最新", "目前", "今日", "明日", "昨日",
                                            "現在", "오늘", "내일", "어제", "지금", "최신" };
    for (size_t i = 0; i < RP_COUNT(personal); i++)
        out->personal |= text_has(text, rp_str_of(personal[i]));
    for (size_t i = 0; i < RP_COUNT(temporal); i++)
        out->temporal |= text_has(text, rp_str_of(temporal[i]));
}

rp_volatility
rp_prompt_volatility(rp_str text)
{
    rp_volatility out = { false, false };
    rp_arena arena;
    const rp_features *features;
    rp_arena_init(&arena, ARENA_SIZE_MAX);
    /* Not analysed is not harmless: such a prompt is both. */
    if (rp_features_new(text, &arena, &features) != RP_OK) {
        rp_arena_fini(&arena);
        return (rp_volatility){ true, true };
    }
    const rp_word *words = features->words;
    const size_t count = features->words_count;
    for (size_t i = 0; i < count; i++) {
        const uint32_t classes = words[i].lexeme ? words[i].lexeme->classes : 0;
        out.personal |= (classes & RP_LEX_PERSONAL) || asks_about_asker(words, count, i)
                        || is_about_me(words, i) || rp_word_is(&words[i], "here");
        out.temporal |= (classes & RP_LEX_TEMPORAL) || is_moving_time(words, count, i);
    }
    if (features->script[RP_SCRIPT_HAN] + features->script[RP_SCRIPT_KANA]
        + features->script[RP_SCRIPT_HANGUL])
        look_for_parts(features->text, &out);
    rp_arena_fini(&arena);
    return out;
}
