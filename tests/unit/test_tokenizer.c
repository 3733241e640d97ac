/* test_tokenizer.c - ids are those of Hugging Face tokenizers, and no file or text breaks us.
 *
 * The comparison with the package itself on all of Unicode is the integration test
 * (tests/integration/test_tokenizer.py). Here: small tokenizers written below, whose
 * right answers can be worked out by hand, and a merge loop straight from the
 * definition as the oracle of the fast one. Texts end at an unreadable page and so do
 * results, so that one byte too far is a crash. The ids of the byte-level cases are those
 * that the package (0.21.4) gives for the same file. What could go wrong: a word border,
 * a normaliser setting, a long word taking another way than a short one, a count
 * beyond `max`, a file that contradicts itself or asks for what we lack. */
#include "text/tokenizer.h"

#include "base/random.h"
#include "base/buffer.h"
#include "test_support.h"
#include <pthread.h>

#define BERT_VOCAB                                                                                 \
    "{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"un\":5,\"##aff\":6,"          \
    "\"##able\":7,\"cafe\":8,\"caf\\u00e9\":9,\"\\u4e2d\":10,\"i\":11,\"i\\u0307\":12,\",\":13,"   \
    "\"a\":14,\"##a\":15,\"b\":16,\"##b\":17,\"A\":18,\"#\":19,\"##able##\":20,\"\\u1100\":21,"    \
    "\"##\\u1161\":22}"
#define BERT_TEMPLATE                                                                              \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\","            \
    "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":"       \
    "\"[SEP]\",\"type_id\":0}}],\"pair\":[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"     \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":" \
    "0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}},{\"SpecialToken\":{\"id\":\"[SEP]\","         \
    "\"type_id\":1}}],\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":"     \
    "[\"[CLS]\"]},\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}}"
#define MASK_TOKEN(flags)                                                                          \
    "[{\"id\":4,\"content\":\"[MASK]\",\"special\":true," flags "\"normalized\":false}]"

/* A WordPiece file; parts that matter to a test are arguments. */
static rp_str
bert_json(const char *normalizer, const char *added, const char *post, const char *model)
{
    static char text[8192];
    const int len = snprintf(
        text, sizeof text,
        "{\"truncation\":{\"max_length\":3},\"padding\":{\"strategy\":{\"Fixed\":9}},"
        "\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"post_processor\":%s,\"model\":{\"type\":\"WordPiece\",%s,\"vocab\":" BERT_VOCAB "}}",
        added, normalizer, post, model);
    return (rp_str){ rp_test_guarded(text, (size_t)len), (size_t)len };
}

#define MODEL_DEFAULT                                                                              \
    "\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":10"
#define BERT_NORMALIZER(clean, chinese, strip, lower)                                              \
    "{\"type\":\"BertNormalizer\",\"clean_text\":" clean ",\"handle_chinese_chars\":" chinese      \
    ",\"strip_accents\":" strip ",\"lowercase\":" lower "}"
#define NORMALIZER_DEFAULT BERT_NORMALIZER("true", "true", "null", "true")

static rp_tokenizer *
parsed(rp_str json)
{
    rp_tokenizer *tokenizer = NULL;
    rp_error error = { { 0 } };
    if (rp_tokenizer_parse(json, &tokenizer, &error) != RP_OK)
        fail_msg("%s", error.text);
    return tokenizer;
}

static rp_tokenizer *
bert(void)
{
    return parsed(bert_json(NORMALIZER_DEFAULT, MASK_TOKEN(""), BERT_TEMPLATE, MODEL_DEFAULT));
}

/* Encode without special tokens; "5 6 7". The text and the result are guarded. */
static const char *
ids_of(const rp_tokenizer *tokenizer, const char *text, size_t len)
{
    static char shown[4096];
    const rp_str guarded = { rp_test_guarded(text, len), len };
    const size_t count = rp_tokenizer_encode(tokenizer, guarded, false, NULL, 0);
    assert_true(count < 512);
    int32_t zeros[512] = { 0 };
    int32_t *out = (int32_t *)rp_test_guarded(zeros, count * sizeof *zeros);
    assert_int_equal(rp_tokenizer_encode(tokenizer, guarded, false, out, count), count);
    size_t at = 0;
    shown[0] = 0;
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, i ? " %d" : "%d", out[i]);
    return shown;
}

#define assert_ids(tokenizer, text, expected)                                                      \
    assert_string_equal(ids_of(tokenizer, text, sizeof(text) - 1), expected)

static void
test_words_are_cut_into_the_longest_pieces(void **state)
{
    (void)state;
    rp_tokenizer *t = bert();
    assert_ids(t, "", "");
    assert_ids(t, "unaffable", "5 6 7");
    assert_ids(t, "UNaffABLE,a", "5 6 7 13 14");
    assert_ids(t, "unaffablex", "1");      /* a missing piece makes the word unknown */
    assert_ids(t, "unaff able", "5 6 1");  /* "able" only follows */
    assert_ids(t, "aaaaaaaaaa", "14 15 15 15 15 15 15 15 15 15");
    assert_ids(t, "aaaaaaaaaaa", "1");     /* eleven characters */
    assert_ids(t, "\xc3\xa1" "aaaaaaaaa", "14 15 15 15 15 15 15 15 15 15");
    assert_ids(t, "\xc3\xa1" "aaaaaaaaaa", "1"); /* also when the word is not ASCII */
    assert_ids(t, "##a #", "19 19 14 19"); /* the prefix is punctuation in a text */
    assert_int_equal(rp_tokenizer_find(t, RP_STR("##able")), 7);
    assert_int_equal(rp_tokenizer_find(t, RP_STR("able")), -1);
    assert_int_equal(rp_tokenizer_vocabulary_size(t), 23);
    assert_true(rp_tokenizer_size_bytes(t) > sizeof(void *));
    rp_tokenizer_close(t);
}

static void
test_the_normalizer_does_what_its_settings_say(void **state)
{
    (void)state;
    rp_tokenizer *t = bert();
    assert_ids(t, "caf\xc3\xa9 cafe\xcc\x81 CAF\xc3\x89", "8 8 8");
    assert_ids(t, "a\xe4\xb8\xad" "a", "14 10 14");
    assert_ids(t, "\xc4\xb0", "11");                         /* U+0130 loses its dot */
    assert_ids(t, "a\x01\xe2\x80\x8b" "a\0a", "14 15 15");   /* controls vanish inside words */
    assert_ids(t, "a\xc2\xa0" "a\ta\xe2\x80\xa8" "a", "14 14 14 14");
    assert_ids(t, "\xea\xb0\x80", "21 22");                  /* a Hangul syllable falls apart */
    rp_tokenizer_close(t);

    t = parsed(bert_json(BERT_NORMALIZER("true", "false", "false", "true"), "[]", "null",
                         MODEL_DEFAULT));
    assert_ids(t, "caf\xc3\xa9 CAF\xc3\x89", "9 9");
    assert_ids(t, "cafe\xcc\x81", "1"); /* not composed either */
    assert_ids(t, "a\xe4\xb8\xad" "a", "1");
    assert_ids(t, "\xc4\xb0", "12"); /* the one lower case of two characters */
    rp_tokenizer_close(t);

    t = parsed(bert_json(BERT_NORMALIZER("false", "true", "true", "false"), "[]", "null",
                         MODEL_DEFAULT));
    assert_ids(t, "A caf\xc3\xa9", "18 8");
    assert_ids(t, "a\x01" "a", "1");
    rp_tokenizer_close(t);

    t = parsed(bert_json("null", "[]", "null", MODEL_DEFAULT));
    assert_ids(t, "A caf\xc3\xa9 A", "18 9 18");
    rp_tokenizer_close(t);
}

static void
test_combining_characters_are_put_in_order(void **state)
{
    (void)state;
    /* Musical stems (class 216) survive strip_accents; among marks dropped and a mark
     * of class 0 they show whether order and borders of runs are right. A run longer
     * than a word is unknown, whatever its order. */
    rp_tokenizer *t = bert();
    char text[4096];
    size_t len = 1;
    text[0] = 'a';
    for (int i = 0; i < 900; i++, len += 4)
        memcpy(text + len, i & 1 ? "\xf0\x9d\x85\xa5" : "\xf0\x9d\x85\xad", 4);
    assert_string_equal(ids_of(t, text, len), "1");
    assert_string_equal(ids_of(t, text, 1), "14");
    rp_tokenizer_close(t);
}

static void
test_added_tokens_are_cut_out_first(void **state)
{
    (void)state;
    rp_tokenizer *t = bert();
    assert_ids(t, "a[MASK]b", "14 4 16");
    assert_ids(t, "[MASK][MASK]", "4 4");
    assert_ids(t, "[MASK [mask]", "1 1 1 1 1"); /* found as it is spelled only */
    rp_tokenizer_close(t);

    t = parsed(bert_json(NORMALIZER_DEFAULT, MASK_TOKEN("\"single_word\":true,"), "null",
                         MODEL_DEFAULT));
    assert_ids(t, "[MASK], [MASK]", "4 13 4");
    assert_ids(t, "a[MASK] \xc3\xa9[MASK] [MASK]_", "14 1 1 1 1 1 1 1 1 1 1 1");
    rp_tokenizer_close(t);

    /* Normalised tokens are found in the normalised text; of two the longer. */
    t = parsed(bert_json(NORMALIZER_DEFAULT,
                         "[{\"id\":30,\"content\":\"\\u00c9a\",\"normalized\":true},"
                         "{\"id\":31,\"content\":\"eab\",\"normalized\":true},"
                         "{\"id\":32,\"content\":\"bb\",\"normalized\":true}]",
                         "null", MODEL_DEFAULT));
    assert_ids(t, "\xc3\xa9" "aA", "30 14");
    assert_ids(t, "e\xcc\x81" "abA", "31 14");
    assert_ids(t, "bbb", "32 16"); /* found tokens do not overlap */
    assert_int_equal(rp_tokenizer_vocabulary_size(t), 33);
    rp_tokenizer_close(t);
}

static void
test_never_more_is_written_than_fits(void **state)
{
    (void)state;
    rp_tokenizer *t = bert();
    const int32_t all[] = { 2, 5, 6, 7, 13, 3 };
    for (size_t max = 0; max <= 7; max++) {
        int32_t zeros[8] = { 0 };
        const size_t room = RP_MIN(max, 6);
        int32_t *out = (int32_t *)rp_test_guarded(zeros, room * sizeof *out);
        assert_int_equal(rp_tokenizer_encode(t, RP_STR("unaffable,"), true, out, room), 6);
        assert_memory_equal(out, all, room * sizeof *out);
    }
    /* An unknown word takes back the pieces it had put, also beyond the end. */
    int32_t out[3] = { 0 };
    assert_int_equal(rp_tokenizer_encode(t, RP_STR("a unaffx a"), true, out, 3), 5);
    assert_int_equal(out[2], 1);
    rp_tokenizer_close(t);
}

static void
check_pair(const rp_tokenizer *t, const int32_t *ids, const uint8_t *types, size_t count)
{
    for (size_t max = 0; max <= count; max++) {
        int32_t zeros[16] = { 0 };
        int32_t *out = (int32_t *)rp_test_guarded(zeros, max * sizeof *out);
        uint8_t *kind = (uint8_t *)rp_test_guarded(zeros, max);
        assert_int_equal(
            rp_tokenizer_encode_pair(t, RP_STR("a"), RP_STR("b,"), out, kind, max), count);
        assert_memory_equal(out, ids, max * sizeof *out);
        assert_memory_equal(kind, types, max);
        const int32_t a[] = { 14 }, b[] = { 16, 13 };
        memset(out, 0, max * sizeof *out);
        memset(kind, 0, max);
        assert_int_equal(rp_tokenizer_join_pair(t, a, 1, b, 2, out, kind, max), count);
        assert_memory_equal(out, ids, max * sizeof *out);
        assert_memory_equal(kind, types, max);
        assert_int_equal(rp_tokenizer_join_pair(t, a, 1, b, 2, out, NULL, max), count);
    }
}

static void
test_pairs_get_separators_and_types(void **state)
{
    (void)state;
    const int32_t ids[] = { 2, 14, 3, 16, 13, 3 }, bare_ids[] = { 14, 16, 13 };
    const int32_t roberta_ids[] = { 2, 14, 3, 3, 16, 13, 3 };
    const uint8_t types[] = { 0, 0, 0, 1, 1, 1 }, bare_types[] = { 0, 1, 1 }, none[7] = { 0 };
    rp_tokenizer *t = bert();
    check_pair(t, ids, types, 6);
    assert_int_equal(rp_tokenizer_pair_extra_count(t), 3);
    const rp_tokenizer_extra extra = rp_tokenizer_single_extra(t);
    assert_int_equal(extra.prefix_count, 1);
    assert_int_equal(extra.suffix_count, 1);
    assert_int_equal(extra.prefix[0], 2);
    assert_int_equal(extra.suffix[0], 3);
    const rp_tokenizer_ids special = rp_tokenizer_special_ids(t);
    assert_int_equal(special.pad, 0);
    assert_int_equal(special.unk, 1);
    assert_int_equal(special.cls, 2);
    assert_int_equal(special.sep, 3);
    assert_int_equal(special.mask, 4);
    rp_tokenizer_close(t);

    t = parsed(bert_json(NORMALIZER_DEFAULT, "[]",
                         "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}",
                         MODEL_DEFAULT));
    check_pair(t, ids, types, 6);
    rp_tokenizer_close(t);
    t = parsed(bert_json(
        NORMALIZER_DEFAULT, "[]",
        "{\"type\":\"RobertaProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}",
        MODEL_DEFAULT));
    check_pair(t, roberta_ids, none, 7);
    rp_tokenizer_close(t);
    t = parsed(bert_json(NORMALIZER_DEFAULT, "[]", "null", MODEL_DEFAULT));
    check_pair(t, bare_ids, bare_types, 3);
    rp_tokenizer_close(t);
}

/* ---- byte-level BPE ---- */

#define BPE_VOCAB                                                                                  \
    "{\"a\":0,\"b\":1,\"c\":2,\"\\u0120\":3,\"'\":4,\"s\":5,\"1\":6,\".\":7,\"\\u010a\":8,"        \
    "\"ab\":9,\"aa\":10,\"\\u0120a\":11,\"abc\":12,\"bc\":13,\"\\u00c3\":14,\"\\u00a9\":15,"       \
    "\"e\":16,\"\\u00c3\\u00a9\":17,\"aab\":18,\"\\u00cc\":19,\"\\u0123\":20,\"cc\":21,"           \
    "\"\\u00ef\":22,\"\\u00bf\":23,\"\\u00bd\":24,\"\\u0120ab\":25}"
#define BPE_MERGES                                                                                 \
    "[\"b c\",\"a b\",[\"a\",\"a\"],\"\\u0120 a\",\"a bc\",\"\\u00c3 \\u00a9\",\"a ab\","          \
    "\"c c\",\"\\u0120a b\"]"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"

static rp_str
bpe_json(const char *normalizer, const char *pre, const char *more)
{
    static char text[8192];
    const int len = snprintf(text, sizeof text,
                             "{\"added_tokens\":[],\"normalizer\":%s,\"pre_tokenizer\":%s,"
                             "\"model\":{\"type\":\"BPE\"%s,\"vocab\":" BPE_VOCAB
                             ",\"merges\":" BPE_MERGES "}}",
                             normalizer, pre, more);
    return (rp_str){ rp_test_guarded(text, (size_t)len), (size_t)len };
}

static void
test_bytes_are_merged_by_rank(void **state)
{
    (void)state;
    rp_tokenizer *t = parsed(bpe_json("{\"type\":\"NFC\"}", BYTE_LEVEL, ""));
    assert_ids(t, "abc", "12");      /* b c before a b */
    assert_ids(t, "ab", "9");
    assert_ids(t, "aab", "18");      /* a b before a a, then a ab */
    assert_ids(t, "aaa", "10 0");    /* leftmost first */
    assert_ids(t, "a ab", "0 3 9");  /* "\u0120ab" is no result of merging: a b comes first */
    assert_ids(t, "\xc3\xa9", "17");
    assert_ids(t, "e\xcc\x81", "17"); /* composed before */
    assert_ids(t, "x", "");           /* no byte, no unknown token: nothing */
    assert_ids(t, "e\xcc\x85\xcc\x81", "16 19 19 20"); /* U+0305 between keeps them apart */
    assert_ids(t, "\xff", "22 23 24"); /* broken UTF-8 is U+FFFD */
    assert_ids(t, "\xed\xa0\x80", "22 23 24 22 23 24 22 23 24"); /* a surrogate: three times */
    rp_tokenizer_close(t);

    t = parsed(bpe_json("null", BYTE_LEVEL, ",\"unk_token\":\"c\",\"ignore_merges\":true"));
    assert_ids(t, "a ab", "0 25");
    assert_ids(t, "xyb", "21 1"); /* two unknowns, which then merge */
    assert_ids(t, "e\xcc\x81", "16 19 20");
    rp_tokenizer_close(t);
    t = parsed(bpe_json("null", BYTE_LEVEL, ",\"unk_token\":\"c\",\"fuse_unk\":true"));
    assert_ids(t, "xyb", "2 1"); /* one for both */
    rp_tokenizer_close(t);
}

static void
test_the_gpt2_pattern_splits_words(void **state)
{
    (void)state;
    rp_tokenizer *t = parsed(bpe_json("null", BYTE_LEVEL, ""));
    assert_ids(t, "a's", "0 4 5");
    assert_ids(t, "aa  aa", "10 3 3 10"); /* a a before the space and a */
    assert_ids(t, "a1a.", "0 6 0 7");
    assert_ids(t, "a \n a", "0 3 8 11");
    assert_ids(t, "a  ", "0 3 3");
    assert_ids(t, "a\n\na", "0 8 8 0");
    rp_tokenizer_close(t);
    t = parsed(bpe_json("null",
                        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                        "{\"Regex\":\"b|x*\"},\"behavior\":\"Removed\"},{\"type\":\"ByteLevel\","
                        "\"add_prefix_space\":true,\"use_regex\":false}]}",
                        ""));
    assert_ids(t, "abab", "11 11"); /* empty matches of the pattern split nothing */
    rp_tokenizer_close(t);
}

/* A vocabulary of random merges over three letters, and merging as it is defined. */
enum { MERGES = 60 };
typedef struct random_bpe {
    int merges[MERGES][2];       /* of rank i, making token 3 + i */
    char tokens[3 + MERGES][64]; /* different */
} random_bpe;

static bool
random_bpe_has(const random_bpe *bpe, int count, const char *token)
{
    for (int i = 0; i < count; i++)
        if (strcmp(bpe->tokens[i], token) == 0)
            return true;
    return false;
}

static rp_tokenizer *
random_bpe_make(random_bpe *bpe, rp_random *random)
{
    rp_buffer vocab, merges;
    rp_buffer_init(&vocab, 0);
    rp_buffer_init(&merges, 0);
    for (int i = 0; i < 3; i++)
        snprintf(bpe->tokens[i], sizeof bpe->tokens[i], "%c", 'a' + i);
    for (int i = 0; i < MERGES;) {
        char token[128];
        const int left = (int)rp_random_below(random, (uint64_t)(3 + i));
        const int right = (int)rp_random_below(random, (uint64_t)(3 + i));
        snprintf(token, sizeof token, "%s%s", bpe->tokens[left], bpe->tokens[right]);
        if (strlen(token) >= sizeof bpe->tokens[0] || random_bpe_has(bpe, 3 + i, token))
            continue;
        strcpy(bpe->tokens[3 + i], token);
        bpe->merges[i][0] = left;
        bpe->merges[i][1] = right;
        rp_buffer_printf(&merges, "%s\"%s %s\"", i ? "," : "", bpe->tokens[left],
                         bpe->tokens[right]);
        i++;
    }
    for (int i = 0; i < 3 + MERGES; i++)
        rp_buffer_printf(&vocab, "%s\"%s\":%d", i ? "," : "", bpe->tokens[i], i);
    rp_buffer json;
    rp_buffer_init(&json, 0);
    rp_buffer_printf(&json,
                     "{\"pre_tokenizer\":" BYTE_LEVEL
                     ",\"model\":{\"type\":\"BPE\",\"vocab\":{%.*s},\"merges\":[%.*s]}}",
                     RP_FMT(rp_buffer_str(&vocab)), RP_FMT(rp_buffer_str(&merges)));
    rp_tokenizer *t = parsed(rp_buffer_str(&json));
    rp_buffer_fini(&vocab);
    rp_buffer_fini(&merges);
    rp_buffer_fini(&json);
    return t;
}

static size_t
merge_slowly(const random_bpe *bpe, const char *word, size_t len, int32_t *ids)
{
    for (size_t i = 0; i < len; i++)
        ids[i] = word[i] - 'a';
    for (;;) {
        size_t best = SIZE_MAX;
        int rank = MERGES;
        for (size_t i = 0; i + 1 < len; i++)
            for (int m = 0; m < rank; m++)
                if (bpe->merges[m][0] == ids[i] && bpe->merges[m][1] == ids[i + 1]) {
                    best = i;
                    rank = m;
                }
        if (best == SIZE_MAX)
            return len;
        ids[best] = 3 + rank;
        memmove(&ids[best + 1], &ids[best + 2], (len - best - 2) * sizeof *ids);
        len--;
    }
}

static void
test_short_and_long_words_merge_as_defined(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 5);
    static char word[700];
    static int32_t wanted[700], got[700];
    for (int round = 0; round < 40; round++) {
        random_bpe bpe;
        rp_tokenizer *t = random_bpe_make(&bpe, &random);
        for (int i = 0; i < 8; i++) {
            const size_t len = 1 + rp_random_below(&random, i % 2 ? 699 : 100);
            const uint64_t letters = 1 + rp_random_below(&random, 3);
            for (size_t k = 0; k < len; k++)
                word[k] = (char)('a' + rp_random_below(&random, letters));
            const size_t count = merge_slowly(&bpe, word, len, wanted);
            assert_int_equal(rp_tokenizer_encode(t, (rp_str){ word, len }, false, got, 700), count);
            assert_memory_equal(got, wanted, count * sizeof *got);
        }
        rp_tokenizer_close(t);
    }
}

static void
test_texts_of_a_megabyte_take_linear_time(void **state)
{
    (void)state;
    /* Texts that are one word, one run of spaces, or one run of combining marks; a
     * quadratic step would take hours and run into the time-out of the suite. */
    static const char *const units[] = { "a", " ", "'", "\xcc\x81\xcc\xa7", "\xf0\x9d\x85\xa5",
                                         "[", "\xff", "\xe1\x84\x80\xe1\x85\xa1" };
    rp_tokenizer *both[] = { bert(), parsed(bpe_json("{\"type\":\"NFC\"}", BYTE_LEVEL, "")) };
    for (size_t u = 0; u < RP_COUNT(units); u++) {
        rp_buffer text;
        rp_buffer_init(&text, 0);
        while (text.len < RP_TEXT_SIZE_MAX)
            rp_buffer_append(&text, rp_str_of(units[u]));
        for (size_t i = 0; i < RP_COUNT(both); i++)
            assert_true(rp_tokenizer_encode(both[i], rp_buffer_str(&text), false, NULL, 0) <=
                        text.len * 3);
        rp_buffer_fini(&text);
    }
    rp_tokenizer_close(both[0]);
    rp_tokenizer_close(both[1]);
}

static void
test_any_bytes_can_be_encoded(void **state)
{
    (void)state;
    rp_tokenizer *t[] = { bert(), parsed(bpe_json("{\"type\":\"NFC\"}", BYTE_LEVEL, "")) };
    static const char *const parts[] = { "a", "\xe4\xb8", "\xad", "\xcc\x81", "[MASK]", "[MAS", " ",
                                         "\xf0\x9d\x85", "\xed\xa0\x80", "\xc4\xb0", "\xff", "'s" };
    rp_random random;
    rp_random_init(&random, 11);
    for (int round = 0; round < 2000; round++) {
        char text[64];
        size_t len = 0;
        while (len < 40) {
            const char *part = parts[rp_random_below(&random, RP_COUNT(parts))];
            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        len = rp_random_below(&random, len + 1);
        char *guarded = rp_test_guarded(text, len);
        for (size_t i = 0; i < RP_COUNT(t); i++)
            assert_true(rp_tokenizer_encode(t[i], (rp_str){ guarded, len }, false, NULL, 0) <=
                        3 * len);
    }
    rp_tokenizer_close(t[0]);
    rp_tokenizer_close(t[1]);
}

/* ---- files ---- */

static void
check_refused(rp_str json, rp_status expected, const char *word)
{
    rp_tokenizer *tokenizer = NULL;
    rp_error error = { { 0 } };
    const rp_status status = rp_tokenizer_parse(json, &tokenizer, &error);
    if (status != expected || !strstr(error.text, word))
        fail_msg("got %s \"%s\", want %s with \"%s\"", rp_status_name(status), error.text,
                 rp_status_name(expected), word);
    assert_null(tokenizer);
}

static void
test_what_we_lack_is_refused_by_name(void **state)
{
    (void)state;
#define REFUSED(n, a, p, m, word)                                                                  \
    check_refused(bert_json(n, a, p, m), RP_ERR_UNSUPPORTED, word)
    REFUSED("{\"type\":\"NFKC\"}", "[]", "null", MODEL_DEFAULT, "NFKC");
    REFUSED("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\"}]}", "[]", "null",
            MODEL_DEFAULT, "Replace");
    REFUSED("null", "[]", "{\"type\":\"Odd\"}", MODEL_DEFAULT, "Odd");
    REFUSED("null", "[{\"id\":40,\"content\":\" \",\"lstrip\":true}]", "null", MODEL_DEFAULT,
            "added token 40");
    REFUSED("null", "[]", "null", "\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":5000",
            "max_input_chars_per_word");
    check_refused(bpe_json("null", "{\"type\":\"Whitespace\"}", ""), RP_ERR_UNSUPPORTED,
                  "Whitespace");
    check_refused(bpe_json("null", "{\"type\":\"Sequence\",\"pretokenizers\":[]}", ""),
                  RP_ERR_UNSUPPORTED, "ByteLevel");
    check_refused(bpe_json("null", BYTE_LEVEL, ",\"byte_fallback\":true"), RP_ERR_UNSUPPORTED,
                  "byte_fallback");
    check_refused(bpe_json("null", BYTE_LEVEL, ",\"dropout\":0.1"), RP_ERR_UNSUPPORTED, "dropout");
    check_refused(bpe_json("null", BYTE_LEVEL, ",\"end_of_word_suffix\":\"</w>\""),
                  RP_ERR_UNSUPPORTED, "end_of_word_suffix");
    check_refused(bpe_json("null",
                           "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":"
                           "\"Isolated\"}",
                           ""),
                  RP_ERR_UNSUPPORTED, "pattern");
    check_refused(RP_STR("{\"model\":{\"type\":\"Unigram\"}}"), RP_ERR_UNSUPPORTED, "Unigram");
    check_refused(RP_STR("{}"), RP_ERR_UNSUPPORTED, "model");
}

static void
test_files_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
#define CORRUPT(n, a, p, m, word) check_refused(bert_json(n, a, p, m), RP_ERR_CORRUPT, word)
    CORRUPT("null", "[{\"id\":6,\"content\":\"[MASK]\"}]", "null", MODEL_DEFAULT, "added token 6");
    CORRUPT("null", "[{\"id\":-1,\"content\":\"x\"}]", "null", MODEL_DEFAULT, "id");
    CORRUPT("null", "[{\"id\":1e30,\"content\":\"x\"}]", "null", MODEL_DEFAULT, "id");
    CORRUPT("null", "{}", "null", MODEL_DEFAULT, "added_tokens");
    CORRUPT("null", "[]", "null", "\"unk_token\":\"nowhere\"", "unk_token");
    CORRUPT("null", "[]", "null", "\"unk_token\":7", "unk_token");
    CORRUPT("{\"type\":\"BertNormalizer\",\"lowercase\":1}", "[]", "null", MODEL_DEFAULT,
            "lowercase");
    CORRUPT("null", "[]", "{\"type\":\"BertProcessing\",\"sep\":[],\"cls\":[]}", MODEL_DEFAULT,
            "cls");
    CORRUPT("null", "[]",
            "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\","
            "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}",
            MODEL_DEFAULT, "special token");
    check_refused(RP_STR("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]},"
                         "\"pre_tokenizer\":" BYTE_LEVEL "}"),
                  RP_ERR_CORRUPT, "merge 0");
    check_refused(RP_STR("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]},"
                         "\"pre_tokenizer\":" BYTE_LEVEL "}"),
                  RP_ERR_CORRUPT, "");
    check_refused(RP_STR("{\"model\":{\"type\":\"BPE\""), RP_ERR_INVALID, "");
}

static void
test_no_part_of_a_file_is_taken_for_the_whole(void **state)
{
    (void)state;
    const rp_str whole = bert_json(NORMALIZER_DEFAULT, MASK_TOKEN(""), BERT_TEMPLATE, MODEL_DEFAULT);
    for (size_t len = 0; len < whole.len; len += 7) {
        rp_tokenizer *tokenizer = NULL;
        rp_error error = { { 0 } };
        const rp_str part = { rp_test_guarded(whole.ptr, len), len };
        assert_int_not_equal(rp_tokenizer_parse(part, &tokenizer, &error), RP_OK);
        assert_null(tokenizer);
        assert_true(error.text[0] != 0);
    }
    rp_tokenizer *tokenizer = NULL;
    rp_error error = { { 0 } };
    assert_int_equal(rp_tokenizer_open("/nonexistent/tokenizer.json", &tokenizer, &error),
                     RP_ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nonexistent/tokenizer.json"));
}

/* ---- the real one ---- */

static void *
encode_many(void *context)
{
    const rp_tokenizer *t = context;
    int32_t ids[64];
    for (int i = 0; i < 2000; i++)
        if (rp_tokenizer_encode(t, RP_STR("What is HNSW, na\xc3\xafvely?"), true, ids, 64) != 11)
            return context;
    return NULL;
}

static void
test_the_real_file_gives_known_ids_in_every_thread(void **state)
{
    (void)state;
    if (!rp_test_model()) {
        if (getenv("REPRISE_REQUIRE_MODEL"))
            fail_msg("REPRISE_TEST_MODEL is not set, and REPRISE_REQUIRE_MODEL is");
        print_message("skipped: REPRISE_TEST_MODEL is not set\n");
        skip();
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", rp_test_model());
    rp_tokenizer *t = NULL;
    rp_error error = { { 0 } };
    if (rp_tokenizer_open(path, &t, &error) != RP_OK)
        fail_msg("%s", error.text);
    /* From Hugging Face tokenizers 0.21.4. */
    assert_ids(t, "What is HNSW, na\xc3\xafvely?", "2054 2003 1044 3619 2860 1010 15743 2135 1029");
    assert_int_equal(rp_tokenizer_vocabulary_size(t), 30522);
    rp_tokenizer_close(t);
    assert_int_equal(rp_tokenizer_open(path, &t, &error), RP_OK);
    pthread_t threads[4];
    for (size_t i = 0; i < RP_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, t), 0);
    for (size_t i = 0; i < RP_COUNT(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    rp_tokenizer_close(t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_cut_into_the_longest_pieces),
        cmocka_unit_test(test_the_normalizer_does_what_its_settings_say),
        cmocka_unit_test(test_combining_characters_are_put_in_order),
        cmocka_unit_test(test_added_tokens_are_cut_out_first),
        cmocka_unit_test(test_never_more_is_written_than_fits),
        cmocka_unit_test(test_pairs_get_separators_and_types),
        cmocka_unit_test(test_bytes_are_merged_by_rank),
        cmocka_unit_test(test_the_gpt2_pattern_splits_words),
        cmocka_unit_test(test_short_and_long_words_merge_as_defined),
        cmocka_unit_test(test_texts_of_a_megabyte_take_linear_time),
        cmocka_unit_test(test_any_bytes_can_be_encoded),
        cmocka_unit_test(test_what_we_lack_is_refused_by_name),
        cmocka_unit_test(test_files_that_contradict_themselves_are_refused),
        cmocka_unit_test(test_no_part_of_a_file_is_taken_for_the_whole),
        cmocka_unit_test(test_the_real_file_gives_known_ids_in_every_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
