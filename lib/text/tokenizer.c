/* tokenizer.c - from a text to ids: added tokens are cut out first, what is between
 * them goes through the normaliser and the model.
 *
 * Added tokens are found as Hugging Face tokenizers finds them: those that are not
 * `normalized` in the text as it came, the others in the normalised pieces between
 * them; leftmost first, of those the longest; single_word, lstrip and rstrip are
 * then applied to what was found (added_vocabulary.rs there, find_matches). */
#include "text/tokenizer.h"

#include "base/bytes.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>

static bool
find_added(const rp_added_set *set, rp_str text, size_t from, size_t *start, size_t *stop,
           const rp_added **token)
{
    for (size_t i = from; i < text.len; i++) {
        if (!set->first[(uint8_t)text.ptr[i]])
            continue;
        uint32_t node = 0;
        int32_t found = -1;
        for (size_t j = i; j < text.len; j++) {
            node = rp_trie_step(&set->trie, node, (uint8_t)text.ptr[j]);
            if (node == 0)
                break;
            if (set->trie.values[node] >= 0) {
                found = set->trie.values[node];
                *stop = j + 1;
            }
        }
        if (found >= 0) {
            *start = i;
            *token = &set->tokens[found];
            return true;
        }
    }
    return false;
}

static bool
stands_alone(rp_str text, size_t start, size_t stop)
{
    const char *after = text.ptr + stop, *const end = text.ptr + text.len;
    if (start > 0 &&
        rp_unicode_of(rp_utf8_last(text.ptr, text.ptr + start))->flags & RP_UNICODE_WORD)
        return false;
    return stop == text.len || !(rp_unicode_of(rp_utf8_next(&after, end))->flags & RP_UNICODE_WORD);
}

static size_t
spaces_before(rp_str text, size_t start, size_t done)
{
    while (start > done) {
        const uint32_t point = rp_utf8_last(text.ptr, text.ptr + start);
        char bytes[4];
        if (!(rp_unicode_of(point)->flags & RP_UNICODE_STRIP_SPACE))
            break;
        start -= RP_MIN(rp_utf8_put(point, bytes), start - done);
    }
    return start;
}

static size_t
spaces_after(rp_str text, size_t stop)
{
    const char *at = text.ptr + stop, *const end = text.ptr + text.len;
    while (at < end) {
        const char *next = at;
        if (!(rp_unicode_of(rp_utf8_next(&next, end))->flags & RP_UNICODE_STRIP_SPACE))
            break;
        at = next;
    }
    return (size_t)(at - text.ptr);
}

typedef void put_piece(const rp_tokenizer *tokenizer, rp_str piece, rp_sink *sink);

/* Ids of the added tokens in `text`, and `put` for what is between them. */
static void
split_added(const rp_tokenizer *tokenizer, const rp_added_set *set, rp_str text, put_piece *put,
            rp_sink *sink)
{
    size_t done = 0, search = 0, start = 0, stop = 0;
    const rp_added *token = NULL;
    while (set->count && find_added(set, text, search, &start, &stop, &token)) {
        search = stop; /* also after a token that is then passed over */
        if (token->single_word && !stands_alone(text, start, stop))
            continue;
        if (token->lstrip)
            start = RP_MAX(spaces_before(text, start, done), done);
        if (token->rstrip)
            stop = spaces_after(text, stop);
        if (done < start)
            put(tokenizer, (rp_str){ text.ptr + done, start - done }, sink);
        rp_sink_put(sink, token->id);
        done = stop;
    }
    if (done < text.len)
        put(tokenizer, (rp_str){ text.ptr + done, text.len - done }, sink);
}

static void
put_normalized(const rp_tokenizer *tokenizer, rp_str piece, rp_sink *sink)
{
    if (tokenizer->is_bpe)
        rp_bpe_encode(&tokenizer->bpe, piece, sink);
    else
        rp_wordpiece_encode(&tokenizer->wordpiece, NULL, piece, sink);
}

/* Through all normalisers in turn, in two buffers. */
static void
put_rewritten(const rp_tokenizer *tokenizer, rp_str piece, rp_sink *sink)
{
    rp_scratch buffers[2];
    rp_scratch_init(&buffers[0]);
    rp_scratch_init(&buffers[1]);
    for (size_t i = 0; i < tokenizer->step_count; i++) {
        rp_scratch *out = &buffers[i & 1];
        if (rp_normalize_keeps(&tokenizer->steps[i], piece))
            continue;
        if (piece.ptr == out->ptr) /* a step was skipped in between */
            out = &buffers[!(i & 1)];
        out->len = 0;
        sink->failed |= !rp_normalize_text(&tokenizer->steps[i], piece, out);
        piece = (rp_str){ out->ptr, out->len };
    }
    if (!sink->failed)
        split_added(tokenizer, &tokenizer->normalized, piece, put_normalized, sink);
    rp_scratch_fini(&buffers[0]);
    rp_scratch_fini(&buffers[1]);
}

/* A piece of the text as it came. */
static void
put_raw(const rp_tokenizer *tokenizer, rp_str piece, rp_sink *sink)
{
    const bool one_pass =
        !tokenizer->is_bpe && tokenizer->normalized.count == 0 && tokenizer->step_count <= 1;
    if (one_pass && !(tokenizer->step_count && tokenizer->steps[0].nfc))
        rp_wordpiece_encode(&tokenizer->wordpiece,
                            tokenizer->step_count ? &tokenizer->steps[0] : NULL, piece, sink);
    else
        put_rewritten(tokenizer, piece, sink);
}

static bool
is_ascii(rp_str text)
{
    size_t i = 0;
    for (; i + 8 <= text.len; i += 8)
        if (rp_load_le64(text.ptr + i) & UINT64_C(0x8080808080808080))
            return false;
    for (; i < text.len; i++)
        if ((uint8_t)text.ptr[i] >= 0x80)
            return false;
    return true;
}

/* WordPiece reads broken UTF-8 as it goes; everything else gets a clean copy. */
static void
encode_text(const rp_tokenizer *tokenizer, rp_str text, rp_sink *sink)
{
    if (!tokenizer->is_bpe || is_ascii(text) || rp_utf8_is_valid(text)) {
        split_added(tokenizer, &tokenizer->raw, text, put_raw, sink);
        return;
    }
    rp_scratch clean;
    rp_scratch_init(&clean);
    const char *at = text.ptr, *const end = text.ptr + text.len;
    while (at < end)
        rp_scratch_put(&clean, rp_utf8_next(&at, end));
    sink->failed |= clean.failed;
    if (!clean.failed)
        split_added(tokenizer, &tokenizer->raw, (rp_str){ clean.ptr, clean.len }, put_raw, sink);
    rp_scratch_fini(&clean);
}

static size_t
sink_finish(const rp_sink *sink)
{
    if (!sink->failed)
        return sink->count;
    if (sink->max)
        memset(sink->out, 0, sink->max * sizeof *sink->out);
    return RP_TOKENS_NOMEM;
}

static void
put_extra(const rp_extra_ids *extra, rp_sink *sink)
{
    for (size_t i = 0; i < extra->count; i++)
        rp_sink_put(sink, extra->ids[i]);
}

size_t
rp_tokenizer_encode(const rp_tokenizer *tokenizer, rp_str text, bool special, int32_t *out,
                    size_t max)
{
    rp_sink sink = { out, max, 0, false };
    if (special)
        put_extra(&tokenizer->single[0], &sink);
    encode_text(tokenizer, text, &sink);
    if (special)
        put_extra(&tokenizer->single[1], &sink);
    return sink_finish(&sink);
}

static void
fill_types(uint8_t *types, size_t from, size_t to, size_t max, uint8_t type)
{
    if (types && from < max)
        memset(types + from, type, RP_MIN(to, max) - from);
}

/* The extra ids at one place of a pair, with their types. */
static void
put_pair_extra(const rp_extra_ids *extra, uint8_t *types, rp_sink *sink)
{
    const size_t from = sink->count;
    put_extra(extra, sink);
    for (size_t i = 0; i < extra->count; i++)
        fill_types(types, from + i, from + i + 1, sink->max, extra->types[i]);
}

size_t
rp_tokenizer_encode_pair(const rp_tokenizer *tokenizer, rp_str a, rp_str b, int32_t *out,
                         uint8_t *types, size_t max)
{
    const rp_str texts[2] = { a, b };
    rp_sink sink = { out, max, 0, false };
    put_pair_extra(&tokenizer->pair[0], types, &sink);
    for (size_t i = 0; i < 2; i++) {
        const size_t from = sink.count;
        encode_text(tokenizer, texts[i], &sink);
        fill_types(types, from, sink.count, max, tokenizer->pair_type[i]);
        put_pair_extra(&tokenizer->pair[i + 1], types, &sink);
    }
    return sink_finish(&sink);
}

size_t
rp_tokenizer_join_pair(const rp_tokenizer *tokenizer, const int32_t *a, size_t a_count,
                       const int32_t *b, size_t b_count, int32_t *out, uint8_t *types, size_t max)
{
    const int32_t *const ids[2] = { a, b };
    const size_t counts[2] = { a_count, b_count };
    rp_sink sink = { out, max, 0, false };
    put_pair_extra(&tokenizer->pair[0], types, &sink);
    for (size_t i = 0; i < 2; i++) {
        const size_t from = sink.count;
        for (size_t k = 0; k < counts[i]; k++)
            rp_sink_put(&sink, ids[i][k]);
        fill_types(types, from, sink.count, max, tokenizer->pair_type[i]);
        put_pair_extra(&tokenizer->pair[i + 1], types, &sink);
    }
    return sink.count;
}

rp_tokenizer_extra
rp_tokenizer_single_extra(const rp_tokenizer *tokenizer)
{
    return (rp_tokenizer_extra){ tokenizer->single[0].ids, tokenizer->single[1].ids,
                                 tokenizer->single[0].count, tokenizer->single[1].count,
                                 tokenizer->single_type };
}

size_t
rp_tokenizer_pair_extra_count(const rp_tokenizer *tokenizer)
{
    return tokenizer->pair[0].count + tokenizer->pair[1].count + tokenizer->pair[2].count;
}

rp_tokenizer_ids
rp_tokenizer_special_ids(const rp_tokenizer *tokenizer)
{
    return tokenizer->ids;
}

int32_t
rp_tokenizer_find(const rp_tokenizer *tokenizer, rp_str token)
{
    return rp_words_find(&tokenizer->vocabulary, token);
}

size_t
rp_tokenizer_vocabulary_size(const rp_tokenizer *tokenizer)
{
    return tokenizer->vocabulary_size;
}

rp_str
rp_tokenizer_model(const rp_tokenizer *tokenizer)
{
    return tokenizer->is_bpe ? RP_STR("BPE") : RP_STR("WordPiece");
}

static size_t
added_size_bytes(const rp_added_set *set)
{
    return rp_trie_size_bytes(&set->trie) + set->count * sizeof *set->tokens;
}

size_t
rp_tokenizer_size_bytes(const rp_tokenizer *tokenizer)
{
    return sizeof *tokenizer + added_size_bytes(&tokenizer->raw) +
           added_size_bytes(&tokenizer->normalized) +
           rp_words_size_bytes(&tokenizer->vocabulary) +
           rp_trie_size_bytes(&tokenizer->wordpiece.trie) +
           tokenizer->bpe.merge_slots * sizeof *tokenizer->bpe.merges +
           rp_words_size_bytes(&tokenizer->bpe.whole);
}

void
rp_tokenizer_close(rp_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    rp_trie_fini(&tokenizer->raw.trie);
    rp_trie_fini(&tokenizer->normalized.trie);
    free(tokenizer->raw.tokens);
    free(tokenizer->normalized.tokens);
    rp_words_fini(&tokenizer->vocabulary);
    rp_trie_fini(&tokenizer->wordpiece.trie);
    rp_bpe_fini(&tokenizer->bpe);
    free(tokenizer);
}
