/* tokenizer_file.c - builds a tokenizer from a tokenizer.json.
 *
 * The file may come from anywhere: every member is checked for its type and range,
 * and a part that we would not treat exactly as Hugging Face tokenizers does is
 * refused with a sentence that names it. Unknown members of known parts are
 * ignored, as there. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/arena.h"
#include "base/bytes.h"
#include "base/file.h"
#include "json/json.h"
#include "text/tokenizer_internal.h"

#include <pcre2.h>
#include <stdlib.h>

/* The tree of the largest file we accept may take several times its size. */
#define TREE_SIZE_MAX ((size_t)1 << 30)

typedef struct loader {
    rp_tokenizer *tokenizer;
    rp_error *error; /* may be NULL */
} loader;

static rp_status
unsupported(const loader *load, const char *part, rp_str name)
{
    return rp_fail(load->error, RP_ERR_UNSUPPORTED, "%s of type \"%.*s\" is not supported", part,
                   (int)RP_MIN(name.len, 60), name.ptr ? name.ptr : "");
}

static rp_str
type_of(const rp_json *part)
{
    return rp_json_string(rp_json_get(part, "type"));
}

static bool
type_is(const rp_json *part, const char *name)
{
    return rp_str_equal(type_of(part), rp_str_of(name));
}

static bool
is_null(const rp_json *value)
{
    return !value || value->type == RP_JSON_NULL;
}

/* A bool member; absent means `otherwise`. */
static rp_status
read_bool(const loader *load, const rp_json *part, const char *name, bool otherwise, bool *out)
{
    const rp_json *value = rp_json_get(part, name);
    if (is_null(value)) {
        *out = otherwise;
        return RP_OK;
    }
    if (value->type != RP_JSON_BOOL)
        return rp_fail(load->error, RP_ERR_CORRUPT, "\"%s\" is not true or false", name);
    *out = value->boolean;
    return RP_OK;
}

static rp_status
read_id(const loader *load, const rp_json *value, int32_t *out)
{
    int64_t id;
    if (!value || !rp_json_to_int64(value, &id) || id < 0 || id >= RP_TOKEN_ID_MAX)
        return rp_fail(load->error, RP_ERR_CORRUPT, "an id is not a number in 0..%d",
                       RP_TOKEN_ID_MAX - 1);
    load->tokenizer->vocabulary_size = RP_MAX(load->tokenizer->vocabulary_size, (size_t)id + 1);
    *out = (int32_t)id;
    return RP_OK;
}

static rp_status
no_memory(const loader *load)
{
    return rp_fail(load->error, RP_ERR_NOMEM, "no memory for the tokenizer");
}

/* ---- normalizer ---- */

static rp_status
read_bert_normalizer(const loader *load, const rp_json *part, rp_normalize *step)
{
    rp_status status = read_bool(load, part, "clean_text", true, &step->clean);
    if (!status)
        status = read_bool(load, part, "handle_chinese_chars", true, &step->chinese);
    if (!status)
        status = read_bool(load, part, "lowercase", true, &step->lower);
    if (!status) /* null: as lowercase */
        status = read_bool(load, part, "strip_accents", step->lower, &step->decompose);
    step->drop_marks = step->decompose;
    return status;
}

static rp_status
read_normalizer(const loader *load, const rp_json *part)
{
    if (is_null(part))
        return RP_OK;
    if (type_is(part, "Sequence")) {
        const rp_json *row = rp_json_get(part, "normalizers");
        if (!row || row->type != RP_JSON_ARRAY)
            return rp_fail(load->error, RP_ERR_CORRUPT, "\"normalizers\" is not an array");
        for (uint32_t i = 0; i < row->count; i++) {
            const rp_status status = read_normalizer(load, &row->children[i]);
            if (status)
                return status;
        }
        return RP_OK;
    }
    rp_tokenizer *t = load->tokenizer;
    if (t->step_count == RP_STEPS_MAX)
        return rp_fail(load->error, RP_ERR_LIMIT, "more than %d normalizers", RP_STEPS_MAX);
    rp_normalize *step = &t->steps[t->step_count];
    if (type_is(part, "NFC"))
        step->nfc = true;
    else if (type_is(part, "NFD"))
        step->decompose = true;
    else if (type_is(part, "Lowercase"))
        step->lower = true;
    else if (!type_is(part, "BertNormalizer"))
        return unsupported(load, "a normalizer", type_of(part));
    else {
        const rp_status status = read_bert_normalizer(load, part, step);
        if (status)
            return status;
    }
    t->step_count++;
    return RP_OK;
}

/* ---- pre_tokenizer ---- */

static rp_status
read_pattern(const loader *load, const rp_json *part, rp_split *split)
{
    rp_str behavior = rp_json_string(rp_json_get(part, "behavior"));
    const rp_str pattern = rp_json_string(rp_json_get(rp_json_get(part, "pattern"), "Regex"));
    if (!pattern.ptr)
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "a Split pre_tokenizer without a \"Regex\" is not supported");
    split->remove = rp_str_equal_ignoring_case(behavior, RP_STR("removed"));
    if (!split->remove && !rp_str_equal_ignoring_case(behavior, RP_STR("isolated")))
        return unsupported(load, "a Split pre_tokenizer with a behavior", behavior);
    const rp_status status = read_bool(load, part, "invert", false, &split->invert);
    if (status)
        return status;
    int code = 0;
    size_t at = 0;
    split->pattern = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, PCRE2_UTF | PCRE2_UCP,
                                   &code, &at, NULL);
    if (!split->pattern)
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "the pattern of a Split pre_tokenizer is not understood (error %d at byte "
                       "%zu)",
                       code, at);
    pcre2_jit_compile(split->pattern, PCRE2_JIT_COMPLETE); /* without it: the interpreter */
    return RP_OK;
}

static rp_status
read_byte_level(const loader *load, const rp_json *part, rp_split *split)
{
    bool use_regex = true;
    rp_status status = read_bool(load, part, "use_regex", true, &use_regex);
    if (!status)
        status = read_bool(load, part, "add_prefix_space", true, &split->prefix_space);
    split->kind = RP_SPLIT_GPT2;
    split->last = !use_regex;
    return status;
}

static rp_status
read_bpe_split(const loader *load, const rp_json *part, bool *byte_level)
{
    rp_bpe *bpe = &load->tokenizer->bpe;
    if (type_is(part, "Sequence")) {
        const rp_json *row = rp_json_get(part, "pretokenizers");
        if (!row || row->type != RP_JSON_ARRAY)
            return rp_fail(load->error, RP_ERR_CORRUPT, "\"pretokenizers\" is not an array");
        for (uint32_t i = 0; i < row->count; i++) {
            const rp_status status = read_bpe_split(load, &row->children[i], byte_level);
            if (status)
                return status;
        }
        return RP_OK;
    }
    if (*byte_level)
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "a pre_tokenizer after ByteLevel is not supported");
    if (bpe->split_count == RP_STEPS_MAX)
        return rp_fail(load->error, RP_ERR_LIMIT, "more than %d pre_tokenizers", RP_STEPS_MAX);
    rp_split *split = &bpe->splits[bpe->split_count++];
    if (type_is(part, "ByteLevel")) {
        *byte_level = true;
        return read_byte_level(load, part, split);
    }
    if (!type_is(part, "Split"))
        return unsupported(load, "a pre_tokenizer for BPE", type_of(part));
    split->kind = RP_SPLIT_PATTERN;
    return read_pattern(load, part, split);
}

static rp_status
read_pre_tokenizer(const loader *load, const rp_json *part)
{
    if (!load->tokenizer->is_bpe)
        return type_is(part, "BertPreTokenizer")
                   ? RP_OK
                   : unsupported(load, "a pre_tokenizer for WordPiece", type_of(part));
    bool byte_level = false;
    const rp_status status = read_bpe_split(load, part, &byte_level);
    if (!status && !byte_level)
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "BPE without a ByteLevel pre_tokenizer is not supported");
    return status;
}

/* ---- model: the vocabulary ---- */

/* Model and added tokens into the one table by spelling. */
static rp_status
read_vocabulary(const loader *load, const rp_json *vocab, const rp_json *added)
{
    size_t bytes = 0, count = 0;
    if (!vocab || vocab->type != RP_JSON_OBJECT)
        return rp_fail(load->error, RP_ERR_CORRUPT, "\"vocab\" of the model is not an object");
    for (uint32_t i = 0; i < vocab->count; i++)
        bytes += vocab->children[i].name.len;
    count = vocab->count;
    if (added && added->type == RP_JSON_ARRAY) {
        count += added->count;
        for (uint32_t i = 0; i < added->count; i++)
            bytes += rp_json_string(rp_json_get(&added->children[i], "content")).len;
    }
    rp_status status = rp_words_init(&load->tokenizer->vocabulary, count, bytes);
    if (status)
        return rp_fail(load->error, status, "a vocabulary of %zu tokens: %s", count,
                       rp_status_name(status));
    for (uint32_t i = 0; i < vocab->count; i++) {
        int32_t id;
        status = read_id(load, &vocab->children[i], &id);
        if (status)
            return status;
        rp_words_add(&load->tokenizer->vocabulary, vocab->children[i].name, id);
    }
    return RP_OK;
}

static rp_status
find_unk(const loader *load, const rp_json *model, int32_t *out)
{
    const rp_str unk = rp_json_string(rp_json_get(model, "unk_token"));
    *out = unk.ptr ? rp_words_find(&load->tokenizer->vocabulary, unk) : -1;
    if (*out < 0)
        return rp_fail(load->error, RP_ERR_CORRUPT, "\"unk_token\" is not in the vocabulary");
    return RP_OK;
}

/* ---- model: WordPiece ---- */

static rp_status
fill_wordpiece_trie(const loader *load, const rp_json *vocab, rp_str prefix)
{
    rp_trie *trie = &load->tokenizer->wordpiece.trie;
    size_t bytes = 0;
    for (uint32_t i = 0; i < vocab->count; i++)
        bytes += vocab->children[i].name.len * (rp_str_starts_with(vocab->children[i].name, prefix) ? 2 : 1);
    rp_status status = rp_trie_init(trie, bytes);
    for (uint32_t i = 0; i < vocab->count && !status; i++) {
        const rp_str name = vocab->children[i].name;
        const int32_t id = rp_words_find(&load->tokenizer->vocabulary, name);
        if (name.len)
            status = rp_trie_add(trie, 0, name, id);
        if (!status && name.len > prefix.len && rp_str_starts_with(name, prefix))
            status = rp_trie_add(
                trie, 1, (rp_str){ name.ptr + prefix.len, name.len - prefix.len }, id);
    }
    if (status)
        return rp_fail(load->error, status, "a vocabulary of %zu bytes: %s", bytes,
                       rp_status_name(status));
    return RP_OK;
}

static rp_status
read_wordpiece(const loader *load, const rp_json *model)
{
    rp_tokenizer *t = load->tokenizer;
    const rp_json *prefix_value = rp_json_get(model, "continuing_subword_prefix");
    const rp_str prefix = is_null(prefix_value) ? RP_STR("##") : rp_json_string(prefix_value);
    if (!prefix.ptr)
        return rp_fail(load->error, RP_ERR_CORRUPT, "\"continuing_subword_prefix\" is no string");
    int64_t chars_max = 100;
    const rp_json *limit = rp_json_get(model, "max_input_chars_per_word");
    if (!is_null(limit) && (!rp_json_to_int64(limit, &chars_max) || chars_max < 0))
        return rp_fail(load->error, RP_ERR_CORRUPT, "\"max_input_chars_per_word\" is no number");
    if (chars_max > RP_WORD_CHARS_MAX)
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "\"max_input_chars_per_word\" above %d is not supported",
                       RP_WORD_CHARS_MAX);
    t->wordpiece.chars_max = (uint32_t)chars_max;
    const rp_status status = find_unk(load, model, &t->wordpiece.unk);
    if (status)
        return status;
    t->ids.unk = t->wordpiece.unk;
    rp_wordpiece_prepare(&t->wordpiece, t->step_count ? &t->steps[0] : NULL);
    return fill_wordpiece_trie(load, rp_json_get(model, "vocab"), prefix);
}

/* ---- model: BPE ---- */

/* GPT-2 spells each byte as one printable character: itself where that is printable
 * in Latin-1, else the next unused one from U+0100 on. -1: stands for no byte. */
static void
fill_byte_alphabet(int16_t of_point[512])
{
    for (int i = 0; i < 512; i++)
        of_point[i] = -1;
    int next = 256;
    for (int byte = 0; byte < 256; byte++) {
        const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
                               byte >= 174;
        of_point[printable ? byte : next++] = (int16_t)byte;
    }
}

/* The bytes that a token of the vocabulary stands for, into out (name.len); false
 * if it holds a character that stands for none: no text can give that token. */
static bool
unspell(const int16_t alphabet[512], rp_str name, char *out, size_t *len)
{
    const char *at = name.ptr, *const end = name.ptr + name.len;
    *len = 0;
    while (at < end) {
        const uint32_t point = rp_utf8_next(&at, end);
        if (point >= 512 || alphabet[point] < 0)
            return false;
        out[(*len)++] = (char)alphabet[point];
    }
    return *len > 0;
}

static bool
merge_parts(const rp_json *merge, rp_str *left, rp_str *right)
{
    if (merge->type == RP_JSON_STRING) {
        const char *space = memchr(merge->string.ptr, ' ', merge->string.len);
        if (!space || memchr(space + 1, ' ', merge->string.len -
                                                 (size_t)(space + 1 - merge->string.ptr)))
            return false;
        *left = (rp_str){ merge->string.ptr, (size_t)(space - merge->string.ptr) };
        *right = (rp_str){ space + 1, merge->string.len - left->len - 1 };
        return true;
    }
    if (merge->type != RP_JSON_ARRAY || merge->count != 2)
        return false;
    *left = rp_json_string(&merge->children[0]);
    *right = rp_json_string(&merge->children[1]);
    return left->ptr && right->ptr;
}

static void
put_merge(rp_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    const uint64_t pair = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    size_t slot = (size_t)(pair * UINT64_C(0x9e3779b97f4a7c15) >> bpe->merge_shift);
    while (bpe->merges[slot].pair && bpe->merges[slot].pair != pair)
        slot = (slot + 1) & (bpe->merge_slots - 1);
    bpe->merges[slot] = (rp_merge){ pair, rank, id }; /* of two equal ones the later counts */
}

static rp_status
read_merges(const loader *load, const rp_json *merges)
{
    rp_bpe *bpe = &load->tokenizer->bpe;
    const rp_words *vocabulary = &load->tokenizer->vocabulary;
    if (!merges || merges->type != RP_JSON_ARRAY)
        return rp_fail(load->error, RP_ERR_CORRUPT, "\"merges\" of the model is not an array");
    uint32_t bits = 6;
    while ((uint64_t)1 << bits < (uint64_t)merges->count * 2 + 2)
        bits++;
    bpe->merge_shift = 64 - bits;
    bpe->merge_slots = (size_t)1 << bits;
    bpe->merges = calloc(bpe->merge_slots, sizeof *bpe->merges);
    if (!bpe->merges)
        return no_memory(load);
    rp_scratch joined;
    rp_scratch_init(&joined);
    rp_status status = RP_OK;
    for (uint32_t i = 0; i < merges->count && !status; i++) {
        rp_str left, right;
        int32_t left_id = -1, right_id = -1, id = -1;
        joined.len = 0;
        if (merge_parts(&merges->children[i], &left, &right) &&
            rp_scratch_append(&joined, left.ptr, left.len) &&
            rp_scratch_append(&joined, right.ptr, right.len)) {
            left_id = rp_words_find(vocabulary, left);
            right_id = rp_words_find(vocabulary, right);
            id = rp_words_find(vocabulary, (rp_str){ joined.ptr, joined.len });
        }
        if (joined.failed)
            status = no_memory(load);
        else if (left_id < 0 || right_id < 0 || id < 0)
            status = rp_fail(load->error, RP_ERR_CORRUPT,
                             "merge %u is not two tokens that join to a third", i);
        else
            put_merge(bpe, left_id, right_id, i, id);
    }
    rp_scratch_fini(&joined);
    return status;
}

/* Fill the table of words that are one token: all of them if the file says that
 * merges may be ignored, else those that merging their bytes arrives at. */
static rp_status
fill_whole_words(const loader *load, const rp_json *vocab, const int16_t alphabet[512])
{
    rp_bpe *bpe = &load->tokenizer->bpe;
    size_t bytes = 0, longest = 0;
    for (uint32_t i = 0; i < vocab->count; i++) {
        bytes += vocab->children[i].name.len;
        longest = RP_MAX(longest, vocab->children[i].name.len);
    }
    char *word = malloc(longest + 1);
    rp_words whole = { 0 };
    rp_status status = word ? rp_words_init(&whole, vocab->count, bytes) : RP_ERR_NOMEM;
    for (uint32_t i = 0; i < vocab->count && !status; i++) {
        const rp_str name = vocab->children[i].name;
        const int32_t id = rp_words_find(&load->tokenizer->vocabulary, name);
        size_t len;
        if (!unspell(alphabet, name, word, &len))
            continue;
        int32_t first = -1;
        rp_sink sink = { &first, 1, 0, false };
        if (!bpe->ignore_merges)
            rp_bpe_encode_word(bpe, (rp_str){ word, len }, &sink);
        if (bpe->ignore_merges || (sink.count == 1 && first == id))
            rp_words_add(&whole, (rp_str){ word, len }, id);
        if (sink.failed)
            status = RP_ERR_NOMEM;
    }
    free(word);
    if (status) {
        rp_words_fini(&whole);
        return rp_fail(load->error, status, "the words of BPE: %s", rp_status_name(status));
    }
    bpe->whole = whole;
    return RP_OK;
}

static rp_status
refuse_bpe_options(const loader *load, const rp_json *model)
{
    static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (size_t i = 0; i < RP_COUNT(affixes); i++) {
        const rp_json *affix = rp_json_get(model, affixes[i]);
        if (!is_null(affix) && (affix->type != RP_JSON_STRING || affix->string.len))
            return rp_fail(load->error, RP_ERR_UNSUPPORTED, "BPE with \"%s\" is not supported",
                           affixes[i]);
    }
    double dropout = 0;
    const rp_json *value = rp_json_get(model, "dropout");
    if (!is_null(value) && (!rp_json_to_double(value, &dropout) || dropout != 0))
        return rp_fail(load->error, RP_ERR_UNSUPPORTED, "BPE with \"dropout\" is not supported");
    if (rp_json_is_true(rp_json_get(model, "byte_fallback")))
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "BPE with \"byte_fallback\" is not supported");
    return RP_OK;
}

static rp_status
read_bpe(const loader *load, const rp_json *model)
{
    rp_bpe *bpe = &load->tokenizer->bpe;
    rp_status status = refuse_bpe_options(load, model);
    if (!status)
        status = read_bool(load, model, "fuse_unk", false, &bpe->fuse_unk);
    if (!status)
        status = read_bool(load, model, "ignore_merges", false, &bpe->ignore_merges);
    if (status)
        return status;

    const rp_json *vocab = rp_json_get(model, "vocab");
    int16_t alphabet[512];
    fill_byte_alphabet(alphabet);
    bool complete = true;
    for (uint32_t point = 0; point < 512; point++) {
        char spelling[4];
        if (alphabet[point] < 0)
            continue;
        const int32_t id = rp_words_find(&load->tokenizer->vocabulary,
                                         (rp_str){ spelling, rp_utf8_put(point, spelling) });
        bpe->byte_ids[alphabet[point]] = id;
        complete &= id >= 0;
    }
    bpe->unk = -1;
    if (!complete && !is_null(rp_json_get(model, "unk_token")))
        status = find_unk(load, model, &bpe->unk);
    if (!status)
        status = read_merges(load, rp_json_get(model, "merges"));
    if (!status)
        status = fill_whole_words(load, vocab, alphabet);
    return status;
}

/* ---- added_tokens ---- */

/* The content as it will be found: normalised if the token asks for that. */
static rp_status
added_content(const loader *load, rp_str content, rp_scratch buffers[2], rp_str *out)
{
    *out = content;
    for (size_t i = 0; i < load->tokenizer->step_count; i++) {
        rp_scratch *buffer = &buffers[i & 1];
        buffer->len = 0;
        if (!rp_normalize_text(&load->tokenizer->steps[i], *out, buffer))
            return no_memory(load);
        *out = (rp_str){ buffer->ptr, buffer->len };
    }
    return RP_OK;
}

static bool
is_all_space(rp_str text)
{
    const char *at = text.ptr, *const end = text.ptr + text.len;
    while (at < end)
        if (!(rp_unicode_of(rp_utf8_next(&at, end))->flags & RP_UNICODE_STRIP_SPACE))
            return false;
    return true;
}

static bool
trie_has(const rp_trie *trie, rp_str key)
{
    uint32_t node = 0;
    for (size_t i = 0; i < key.len; i++)
        if ((node = rp_trie_step(trie, node, (uint8_t)key.ptr[i])) == 0)
            return false;
    return trie->values[node] >= 0;
}

static rp_status
put_added(const loader *load, rp_added_set *set, rp_added token, rp_str content)
{
    if (content.len == 0 || ((token.lstrip || token.rstrip) && is_all_space(content)))
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "added token %d: nothing, or white space that strips, is not supported",
                       token.id);
    if (content.len > RP_ADDED_SIZE_MAX)
        return rp_fail(load->error, RP_ERR_LIMIT, "added token %d is longer than %d bytes",
                       token.id, RP_ADDED_SIZE_MAX);
    if (trie_has(&set->trie, content)) /* equal after normalisation: the first counts */
        return RP_OK;
    const rp_status status = rp_trie_add(&set->trie, 0, content, (int32_t)set->count);
    if (status)
        return rp_fail(load->error, status, "the added tokens: %s", rp_status_name(status));
    set->first[(uint8_t)content.ptr[0]] = true;
    set->tokens[set->count++] = token;
    return RP_OK;
}

/* One of `row`. `last` says which entry is the last of the same content: as in Hugging
 * Face tokenizers that one decides how to look around, for all of them. */
static rp_status
read_added(const loader *load, const rp_json *row, size_t at, const rp_words *last)
{
    rp_tokenizer *t = load->tokenizer;
    rp_added token;
    bool normalized = false, special = false;
    const rp_json *value = &row->children[at];
    const rp_str content = rp_json_string(rp_json_get(value, "content"));
    if (content.len == 0)
        return RP_OK; /* ignored there too */
    const rp_json *deciding = &row->children[rp_words_find(last, content)];
    rp_status status = read_id(load, rp_json_get(value, "id"), &token.id);
    if (!status)
        status = read_bool(load, deciding, "single_word", false, &token.single_word);
    if (!status)
        status = read_bool(load, deciding, "lstrip", false, &token.lstrip);
    if (!status)
        status = read_bool(load, deciding, "rstrip", false, &token.rstrip);
    if (!status)
        status = read_bool(load, value, "special", false, &special);
    if (!status)
        status = read_bool(load, value, "normalized", !special, &normalized);
    if (status)
        return status;
    const int32_t known = rp_words_find(&t->vocabulary, content);
    if (known >= 0 && known != token.id)
        return rp_fail(load->error, RP_ERR_CORRUPT,
                       "added token %d has another id, %d, in the vocabulary", token.id, known);
    rp_words_add(&t->vocabulary, content, token.id);
    if (!normalized)
        return put_added(load, &t->raw, token, content);

    rp_scratch buffers[2];
    rp_scratch_init(&buffers[0]);
    rp_scratch_init(&buffers[1]);
    rp_str shown;
    status = added_content(load, content, buffers, &shown);
    if (!status)
        status = put_added(load, &t->normalized, token, shown);
    rp_scratch_fini(&buffers[0]);
    rp_scratch_fini(&buffers[1]);
    return status;
}

static rp_status
init_added_set(const loader *load, rp_added_set *set, size_t count, size_t bytes)
{
    const rp_status status = rp_trie_init(&set->trie, bytes);
    set->tokens = calloc(count + 1, sizeof *set->tokens);
    if (status || !set->tokens)
        return rp_fail(load->error, status ? status : RP_ERR_NOMEM, "%zu added tokens: %s", count,
                       rp_status_name(status ? status : RP_ERR_NOMEM));
    return RP_OK;
}

/* In the order of Hugging Face tokenizers, which matters only where two entries have
 * one content: special ones first, each content once; then the others, but not
 * those with the content of a special one. */
static rp_status
read_added_rows(const loader *load, const rp_json *row, size_t count, size_t bytes)
{
    rp_words last = { 0 }, special = { 0 };
    rp_status status = rp_words_init(&last, count, bytes);
    if (!status)
        status = rp_words_init(&special, count, bytes);
    if (status)
        rp_fail(load->error, status, "%zu added tokens: %s", count, rp_status_name(status));
    for (size_t i = 0; i < count && !status; i++)
        rp_words_add(&last, rp_json_string(rp_json_get(&row->children[i], "content")), (int32_t)i);
    for (size_t i = count; i-- > 0 && !status;) /* backwards, so that the first stays */
        if (rp_json_is_true(rp_json_get(&row->children[i], "special")))
            rp_words_add(&special, rp_json_string(rp_json_get(&row->children[i], "content")),
                         (int32_t)i);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < count && !status; i++) {
            const rp_str content = rp_json_string(rp_json_get(&row->children[i], "content"));
            if (rp_words_find(&special, content) == (round == 0 ? (int32_t)i : -1))
                status = read_added(load, row, i, &last);
        }
    rp_words_fini(&last);
    rp_words_fini(&special);
    return status;
}

static rp_status
read_added_tokens(const loader *load, const rp_json *row)
{
    size_t count = 0, bytes = 0;
    if (!is_null(row)) {
        if (row->type != RP_JSON_ARRAY)
            return rp_fail(load->error, RP_ERR_CORRUPT, "\"added_tokens\" is not an array");
        count = row->count;
        for (uint32_t i = 0; i < row->count; i++)
            bytes += rp_json_string(rp_json_get(&row->children[i], "content")).len;
    }
    /* Normalisation may lengthen: 4 code points of 4 bytes, and spaces, for one. */
    rp_status status = init_added_set(load, &load->tokenizer->raw, count, bytes);
    if (!status)
        status = init_added_set(load, &load->tokenizer->normalized, count, 6 * bytes);
    if (status)
        return status;
    return read_added_rows(load, row, count, bytes);
}

/* ---- post_processor ---- */

static rp_status
put_extra(const loader *load, rp_extra_ids *extra, int32_t id, uint8_t type)
{
    if (extra->count == RP_TOKENIZER_EXTRA_MAX)
        return rp_fail(load->error, RP_ERR_LIMIT, "a template adds more than %d ids at one place",
                       RP_TOKENIZER_EXTRA_MAX);
    extra->ids[extra->count] = id;
    extra->types[extra->count++] = type;
    return RP_OK;
}

static rp_status
put_special(const loader *load, const rp_json *specials, const rp_json *token, uint8_t type,
            rp_extra_ids *extra)
{
    const rp_str name = rp_json_string(rp_json_get(token, "id"));
    const rp_json *found = NULL;
    for (uint32_t i = 0; specials && specials->type == RP_JSON_OBJECT && i < specials->count; i++)
        if (rp_str_equal(specials->children[i].name, name))
            found = rp_json_get(&specials->children[i], "ids");
    if (!found || found->type != RP_JSON_ARRAY)
        return rp_fail(load->error, RP_ERR_CORRUPT,
                       "a template names a special token without ids");
    for (uint32_t i = 0; i < found->count; i++) {
        int32_t id;
        rp_status status = read_id(load, &found->children[i], &id);
        if (!status)
            status = put_extra(load, extra, id, type);
        if (status)
            return status;
    }
    return RP_OK;
}

/* A template must be: extras, A, extras (, B, extras). extra has one more entry than
 * there are sequences. */
static rp_status
read_template(const loader *load, const rp_json *row, const rp_json *specials, size_t sequences,
              rp_extra_ids *extra, uint8_t *types)
{
    size_t place = 0;
    if (!row || row->type != RP_JSON_ARRAY)
        return rp_fail(load->error, RP_ERR_CORRUPT, "a template is not an array");
    for (uint32_t i = 0; i < row->count; i++) {
        const rp_json *special = rp_json_get(&row->children[i], "SpecialToken");
        const rp_json *sequence = rp_json_get(&row->children[i], "Sequence");
        int64_t type;
        if (!rp_json_to_int64(rp_json_get(special ? special : sequence, "type_id"), &type) ||
            type < 0 || type > 255)
            return rp_fail(load->error, RP_ERR_CORRUPT,
                           "a template's piece has no \"type_id\" in 0..255");
        if (special) {
            const rp_status status =
                put_special(load, specials, special, (uint8_t)type, &extra[place]);
            if (status)
                return status;
            continue;
        }
        const char wanted[] = { (char)('A' + place) };
        if (place == sequences ||
            !rp_str_equal(rp_json_string(rp_json_get(sequence, "id")), (rp_str){ wanted, 1 }))
            return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                           "a template with other sequences than A, then B, is not supported");
        types[place++] = (uint8_t)type;
    }
    if (place != sequences)
        return rp_fail(load->error, RP_ERR_CORRUPT, "a template lacks a sequence");
    return RP_OK;
}

/* [CLS] a [SEP] b [SEP]; RoBERTa has two separators between and no token types. */
static rp_status
read_bert_processing(const loader *load, const rp_json *part, bool roberta)
{
    rp_tokenizer *t = load->tokenizer;
    const rp_json *cls = rp_json_get(part, "cls"), *sep = rp_json_get(part, "sep");
    int32_t cls_id = 0, sep_id = 0;
    if (!cls || !sep || cls->type != RP_JSON_ARRAY || sep->type != RP_JSON_ARRAY ||
        cls->count != 2 || sep->count != 2)
        return rp_fail(load->error, RP_ERR_CORRUPT,
                       "\"cls\" or \"sep\" is not a token and its id");
    rp_status status = read_id(load, &cls->children[1], &cls_id);
    if (!status)
        status = read_id(load, &sep->children[1], &sep_id);
    if (status)
        return status;
    const uint8_t second = roberta ? 0 : 1;
    t->pair_type[1] = second;
    t->single[0] = t->pair[0] = (rp_extra_ids){ { cls_id }, { 0 }, 1 };
    t->single[1] = t->pair[1] = (rp_extra_ids){ { sep_id }, { 0 }, 1 };
    t->pair[2] = (rp_extra_ids){ { sep_id }, { second }, 1 };
    return roberta ? put_extra(load, &t->pair[1], sep_id, 0) : RP_OK;
}

static rp_status
read_post_processor(const loader *load, const rp_json *part, bool *done)
{
    rp_tokenizer *t = load->tokenizer;
    if (is_null(part) || type_is(part, "ByteLevel")) /* that one touches offsets only */
        return RP_OK;
    if (type_is(part, "Sequence")) {
        const rp_json *row = rp_json_get(part, "processors");
        if (!row || row->type != RP_JSON_ARRAY)
            return rp_fail(load->error, RP_ERR_CORRUPT, "\"processors\" is not an array");
        for (uint32_t i = 0; i < row->count; i++) {
            const rp_status status = read_post_processor(load, &row->children[i], done);
            if (status)
                return status;
        }
        return RP_OK;
    }
    if (*done)
        return rp_fail(load->error, RP_ERR_UNSUPPORTED,
                       "two post_processors that add tokens are not supported");
    *done = true;
    if (type_is(part, "BertProcessing") || type_is(part, "RobertaProcessing"))
        return read_bert_processing(load, part, type_is(part, "RobertaProcessing"));
    if (!type_is(part, "TemplateProcessing"))
        return unsupported(load, "a post_processor", type_of(part));
    const rp_json *specials = rp_json_get(part, "special_tokens");
    rp_status status = read_template(load, rp_json_get(part, "single"), specials, 1, t->single,
                                     &t->single_type);
    if (!status)
        status = read_template(load, rp_json_get(part, "pair"), specials, 2, t->pair,
                               t->pair_type);
    return status;
}

/* ---- the whole ---- */

static int32_t
find_either(const rp_tokenizer *tokenizer, const char *bert, const char *roberta)
{
    const int32_t id = rp_words_find(&tokenizer->vocabulary, rp_str_of(bert));
    return id >= 0 ? id : rp_words_find(&tokenizer->vocabulary, rp_str_of(roberta));
}

static void
find_special_ids(rp_tokenizer *t)
{
    if (t->ids.unk < 0)
        t->ids.unk = find_either(t, "[UNK]", "<unk>");
    t->ids.cls = t->single[0].count ? t->single[0].ids[0] : find_either(t, "[CLS]", "<s>");
    t->ids.sep = t->single[1].count ? t->single[1].ids[0] : find_either(t, "[SEP]", "</s>");
    t->ids.pad = find_either(t, "[PAD]", "<pad>");
    t->ids.mask = find_either(t, "[MASK]", "<mask>");
}

static rp_status
read_model(const loader *load, const rp_json *root)
{
    const rp_json *model = rp_json_get(root, "model");
    rp_tokenizer *t = load->tokenizer;
    t->is_bpe = type_is(model, "BPE");
    if (!t->is_bpe && !type_is(model, "WordPiece"))
        return unsupported(load, "a model", type_of(model));
    rp_status status = read_normalizer(load, rp_json_get(root, "normalizer"));
    if (!status)
        status = read_pre_tokenizer(load, rp_json_get(root, "pre_tokenizer"));
    if (!status)
        status = read_vocabulary(load, rp_json_get(model, "vocab"),
                                 rp_json_get(root, "added_tokens"));
    if (!status)
        status = t->is_bpe ? read_bpe(load, model) : read_wordpiece(load, model);
    return status;
}

static rp_status
build(const rp_json *root, rp_tokenizer **out, rp_error *error)
{
    rp_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    const loader load = { tokenizer, error };
    if (!tokenizer)
        return no_memory(&load);
    tokenizer->ids = (rp_tokenizer_ids){ -1, -1, -1, -1, -1 };
    tokenizer->pair_type[1] = 1; /* without a post-processor: a, then b */
    bool done = false;
    rp_status status = read_model(&load, root);
    if (!status)
        status = read_added_tokens(&load, rp_json_get(root, "added_tokens"));
    if (!status)
        status = read_post_processor(&load, rp_json_get(root, "post_processor"), &done);
    if (status) {
        rp_tokenizer_close(tokenizer);
        return status;
    }
    find_special_ids(tokenizer);
    *out = tokenizer;
    return RP_OK;
}

rp_status
rp_tokenizer_parse(rp_str json, rp_tokenizer **out, rp_error *error)
{
    rp_json_reader *reader = NULL;
    rp_arena arena;
    const rp_json *root = NULL;
    if (json.len > RP_TOKENIZER_FILE_SIZE_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "a tokenizer of %zu bytes; the limit is %d", json.len,
                       RP_TOKENIZER_FILE_SIZE_MAX);
    rp_arena_init(&arena, TREE_SIZE_MAX);
    rp_status status = rp_json_reader_new(&reader);
    if (status)
        rp_fail(error, status, "no memory for a JSON reader");
    else
        status = rp_json_parse(reader, &arena, json, &root, error);
    if (status == RP_ERR_EXISTS) /* a name twice */
        status = RP_ERR_CORRUPT;
    if (!status)
        status = build(root, out, error);
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    return status;
}

rp_status
rp_tokenizer_open(const char *path, rp_tokenizer **out, rp_error *error)
{
    rp_file_map map;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status;
    rp_error reason = { { 0 } };
    status = rp_tokenizer_parse((rp_str){ map.ptr, map.len }, out, &reason);
    rp_file_map_close(&map);
    return status ? rp_fail(error, status, "%s: %s", path, reason.text) : RP_OK;
}
