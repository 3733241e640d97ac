/* bpe.c - byte-level BPE (Sennrich et al., arXiv:1508.07909; over bytes as in GPT-2):
 * split by a pattern, then merge the pair of lowest rank, leftmost first, until no
 * pair of a word has a merge.
 *
 * Vocabulary files spell bytes as printable characters; that spelling is undone
 * when the file is read, so here a word is simply its bytes. Words that come out as
 * one token (most words of most texts) were found when the file was read and are
 * looked up whole. That is the word cache: complete, immutable, shared by all
 * threads. Other words are merged on the stack; words above WORD_SHORT bytes with
 * a heap, so that a word of a megabyte costs n log n.
 *
 * The GPT-2 pattern is matched by hand:
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/bytes.h"
#include "text/tokenizer_internal.h"

#include <pcre2.h>
#include <stdlib.h>

enum {
    WORD_SHORT = 192, /* bytes; a guess at where the heap begins to win over the plain loop */
    /* Bounds on a pattern from a file; beyond them the encoding fails. A guess. */
    PATTERN_MATCH_MAX = 10 * 1000 * 1000,
    PATTERN_HEAP_KIB_MAX = 64 * 1024,
};

const rp_merge *
rp_bpe_merge(const rp_bpe *bpe, int32_t left, int32_t right)
{
    const uint64_t pair = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    size_t slot = (size_t)(pair * UINT64_C(0x9e3779b97f4a7c15) >> bpe->merge_shift);
    for (;; slot = (slot + 1) & (bpe->merge_slots - 1)) {
        const rp_merge *merge = &bpe->merges[slot];
        if (merge->pair == pair)
            return merge;
        if (merge->pair == 0)
            return NULL;
    }
}

/* The ids of single bytes; returns how many. `ids` has room for word.len. */
static size_t
first_symbols(const rp_bpe *bpe, rp_str word, int32_t *ids)
{
    size_t count = 0;
    bool after_unknown = false;
    for (size_t i = 0; i < word.len; i++) {
        const int32_t id = bpe->byte_ids[(uint8_t)word.ptr[i]];
        if (id >= 0) {
            ids[count++] = id;
        } else if (bpe->unk >= 0 && !(bpe->fuse_unk && after_unknown)) {
            ids[count++] = bpe->unk;
        }
        after_unknown = id < 0;
    }
    return count;
}

static void
merge_short(const rp_bpe *bpe, int32_t *ids, size_t count, rp_sink *sink)
{
    const rp_merge *merges[WORD_SHORT]; /* of ids[i] and ids[i + 1] */
    for (size_t i = 0; i + 1 < count; i++)
        merges[i] = rp_bpe_merge(bpe, ids[i], ids[i + 1]);
    while (count > 1) {
        size_t best = SIZE_MAX;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < count; i++)
            if (merges[i] && merges[i]->rank < rank) {
                best = i;
                rank = merges[i]->rank;
            }
        if (best == SIZE_MAX)
            break;
        ids[best] = merges[best]->id;
        memmove(&ids[best + 1], &ids[best + 2], (count - best - 2) * sizeof *ids);
        if (count - best > 2)
            memmove(&merges[best], &merges[best + 1], (count - best - 2) * sizeof *merges);
        count--;
        if (best > 0)
            merges[best - 1] = rp_bpe_merge(bpe, ids[best - 1], ids[best]);
        if (best + 1 < count)
            merges[best] = rp_bpe_merge(bpe, ids[best], ids[best + 1]);
    }
    for (size_t i = 0; i < count; i++)
        rp_sink_put(sink, ids[i]);
}

/* Long words: symbols in a list, candidate merges in a binary heap. A candidate may
 * be out of date when it is taken; the two ids it was made for tell. */
typedef struct symbol {
    int32_t id;          /* -1: merged into the one before */
    uint32_t before, after; /* UINT32_MAX: none */
} symbol;
typedef struct candidate {
    uint32_t rank, at;
    int32_t left, right;
} candidate;

static bool
candidate_less(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void
heap_push(candidate *heap, size_t *count, candidate item)
{
    size_t i = (*count)++;
    while (i > 0 && candidate_less(&item, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = item;
}

static candidate
heap_pop(candidate *heap, size_t *count)
{
    const candidate top = heap[0], item = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && candidate_less(&heap[child + 1], &heap[child]))
            child++;
        if (!candidate_less(&heap[child], &item))
            break;
        heap[i] = heap[child];
    }
    heap[i] = item;
    return top;
}

static void
propose(const rp_bpe *bpe, const symbol *symbols, uint32_t at, candidate *heap, size_t *count)
{
    if (at == UINT32_MAX || symbols[at].after == UINT32_MAX)
        return;
    const int32_t left = symbols[at].id, right = symbols[symbols[at].after].id;
    const rp_merge *merge = rp_bpe_merge(bpe, left, right);
    if (merge)
        heap_push(heap, count, (candidate){ merge->rank, at, left, right });
}

static void
merge_long(const rp_bpe *bpe, symbol *symbols, candidate *heap, size_t count, rp_sink *sink)
{
    size_t heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        symbols[i].before = i ? (uint32_t)i - 1 : UINT32_MAX;
        symbols[i].after = i + 1 < count ? (uint32_t)i + 1 : UINT32_MAX;
    }
    for (size_t i = 0; i + 1 < count; i++)
        propose(bpe, symbols, (uint32_t)i, heap, &heap_count);
    while (heap_count) {
        const candidate top = heap_pop(heap, &heap_count);
        symbol *left = &symbols[top.at];
        if (left->id != top.left || left->after == UINT32_MAX ||
            symbols[left->after].id != top.right)
            continue;
        symbol *right = &symbols[left->after];
        left->id = rp_bpe_merge(bpe, top.left, top.right)->id;
        right->id = -1;
        left->after = right->after;
        if (left->after != UINT32_MAX)
            symbols[left->after].before = top.at;
        propose(bpe, symbols, left->before, heap, &heap_count);
        propose(bpe, symbols, top.at, heap, &heap_count);
    }
    for (uint32_t i = 0; i != UINT32_MAX && count; i = symbols[i].after)
        rp_sink_put(sink, symbols[i].id);
}

static void
encode_long(const rp_bpe *bpe, rp_str word, rp_sink *sink)
{
    /* Each of the at most len - 1 merges adds two candidates to the first len - 1. */
    int32_t *ids = NULL;
    symbol *symbols = NULL;
    candidate *heap = NULL;
    if (word.len > UINT32_MAX / 4)
        goto out;
    ids = malloc(word.len * sizeof *ids);
    symbols = malloc(word.len * sizeof *symbols);
    heap = malloc(3 * word.len * sizeof *heap);
out:
    if (ids && symbols && heap) {
        const size_t count = first_symbols(bpe, word, ids);
        for (size_t i = 0; i < count; i++)
            symbols[i].id = ids[i];
        merge_long(bpe, symbols, heap, count, sink);
    } else {
        sink->failed = true;
    }
    free(ids);
    free(symbols);
    free(heap);
}

void
rp_bpe_encode_word(const rp_bpe *bpe, rp_str word, rp_sink *sink)
{
    const int32_t whole = rp_words_find(&bpe->whole, word);
    if (whole >= 0) {
        rp_sink_put(sink, whole);
    } else if (word.len <= WORD_SHORT) {
        int32_t ids[WORD_SHORT];
        merge_short(bpe, ids, first_symbols(bpe, word, ids), sink);
    } else {
        encode_long(bpe, word, sink);
    }
}

enum { CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_OTHER };

/* Almost all text is ASCII, for which three dependent loads would be slow. The test of
 * all code points against Hugging Face tokenizers holds it to the table. */
static inline int
ascii_class(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26 ? CLASS_LETTER
           : (uint8_t)(byte - '0') < 10        ? CLASS_NUMBER
           : byte == ' ' || (uint8_t)(byte - 9) < 5 ? CLASS_SPACE
                                                    : CLASS_OTHER;
}

static inline int
class_of(uint32_t point)
{
    if (point < 0x80)
        return ascii_class((uint8_t)point);
    const uint16_t flags = rp_unicode_of(point)->flags;
    return flags & RP_UNICODE_LETTER        ? CLASS_LETTER
           : flags & RP_UNICODE_NUMBER      ? CLASS_NUMBER
           : flags & RP_UNICODE_REGEX_SPACE ? CLASS_SPACE
                                            : CLASS_OTHER;
}

/* The class of the character at *at (< end), which is moved behind it. */
static inline int
next_class(const char **at, const char *end)
{
    if ((uint8_t)**at < 0x80)
        return ascii_class((uint8_t)*(*at)++);
    return class_of(rp_utf8_next(at, end));
}

static size_t
contraction(const char *at, const char *end)
{
    static const char *const endings[] = { "s", "t", "re", "ve", "m", "ll", "d" };
    for (size_t i = 0; i < RP_COUNT(endings); i++) {
        const size_t len = strlen(endings[i]);
        if ((size_t)(end - at) > len && memcmp(at + 1, endings[i], len) == 0)
            return len + 1;
    }
    return 0;
}

static const char *
skip_class(const char *at, const char *end, int class)
{
    while (at < end) {
        if ((uint8_t)*at < 0x80) {
            if (ascii_class((uint8_t)*at) != class)
                break;
            at++;
            continue;
        }
        const char *next = at;
        if (next_class(&next, end) != class)
            break;
        at = next;
    }
    return at;
}

/* Where the first match of the GPT-2 pattern at `at` ends; each character begins
 * some match, so a text is covered without gaps. */
static const char *
gpt2_match(const char *at, const char *end)
{
    if (*at == '\'') {
        const size_t len = contraction(at, end);
        if (len)
            return at + len;
    }
    const char *next = at;
    const int class = next_class(&next, end);
    if (class != CLASS_SPACE)
        return skip_class(next, end, class);
    if (*at == ' ' && next < end) {
        const char *after = next;
        const int follows = next_class(&after, end);
        if (follows != CLASS_SPACE)
            return skip_class(after, end, follows);
    }
    /* A run of spaces leaves its last one to the word that follows, if it can. */
    const char *last = at;
    while (next < end) {
        const char *after = next;
        if (next_class(&after, end) != CLASS_SPACE)
            break;
        last = next;
        next = after;
    }
    return next == end || last == at ? next : last;
}

static void split_piece(const rp_bpe *bpe, size_t at, rp_str piece, rp_sink *sink);

static void
split_gpt2(const rp_bpe *bpe, size_t at, rp_str piece, rp_sink *sink)
{
    const char *p = piece.ptr, *const end = piece.ptr + piece.len;
    while (p < end) {
        const char *stop = gpt2_match(p, end);
        split_piece(bpe, at + 1, (rp_str){ p, (size_t)(stop - p) }, sink);
        p = stop;
    }
}

/* A stretch of the text between two borders that a pattern found. */
static void
put_stretch(const rp_bpe *bpe, size_t at, rp_str piece, bool matched, rp_sink *sink)
{
    const rp_split *split = &bpe->splits[at];
    if (piece.len && !(split->remove && matched != split->invert))
        split_piece(bpe, at + 1, piece, sink);
}

static void
split_pattern(const rp_bpe *bpe, size_t at, rp_str piece, rp_sink *sink)
{
    const rp_split *split = &bpe->splits[at];
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(split->pattern, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    size_t from = 0, search = 0;
    if (!data || !context) {
        sink->failed = true;
        goto out;
    }
    pcre2_set_match_limit(context, PATTERN_MATCH_MAX);
    pcre2_set_heap_limit(context, PATTERN_HEAP_KIB_MAX);
    while (search <= piece.len) {
        const int found = pcre2_match(split->pattern, (PCRE2_SPTR)piece.ptr, piece.len, search,
                                      PCRE2_NO_UTF_CHECK, data, context);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        const size_t *borders = pcre2_get_ovector_pointer(data);
        if (found < 0 || borders[1] < borders[0] || borders[0] < from) {
            sink->failed = true;
            goto out;
        }
        if (borders[0] == borders[1]) { /* empty: no piece, and on by one character */
            const char *next = piece.ptr + borders[1];
            if (borders[1] == piece.len)
                break;
            rp_utf8_next(&next, piece.ptr + piece.len);
            search = (size_t)(next - piece.ptr);
            continue;
        }
        put_stretch(bpe, at, (rp_str){ piece.ptr + from, borders[0] - from }, false, sink);
        put_stretch(bpe, at, (rp_str){ piece.ptr + borders[0], borders[1] - borders[0] }, true,
                    sink);
        from = search = borders[1];
    }
    put_stretch(bpe, at, (rp_str){ piece.ptr + from, piece.len - from }, false, sink);
out:
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
}

/* Apply the pre-tokenizers from number `at` on. */
static void
split_piece(const rp_bpe *bpe, size_t at, rp_str piece, rp_sink *sink)
{
    if (at == bpe->split_count) {
        rp_bpe_encode_word(bpe, piece, sink);
        return;
    }
    const rp_split *split = &bpe->splits[at];
    rp_scratch spaced;
    rp_scratch_init(&spaced);
    if (split->prefix_space && piece.ptr[0] != ' ') {
        rp_scratch_append(&spaced, " ", 1);
        rp_scratch_append(&spaced, piece.ptr, piece.len);
        piece = (rp_str){ spaced.ptr, spaced.len };
        sink->failed |= spaced.failed;
    }
    if (split->last)
        split_piece(bpe, at + 1, piece, sink);
    else if (split->kind == RP_SPLIT_GPT2)
        split_gpt2(bpe, at, piece, sink);
    else
        split_pattern(bpe, at, piece, sink);
    rp_scratch_fini(&spaced);
}

void
rp_bpe_encode(const rp_bpe *bpe, rp_str text, rp_sink *sink)
{
    if (text.len)
        split_piece(bpe, 0, text, sink);
}

void
rp_bpe_fini(rp_bpe *bpe)
{
    for (size_t i = 0; i < bpe->split_count; i++)
        pcre2_code_free(bpe->splits[i].pattern);
    free(bpe->merges);
    rp_words_fini(&bpe->whole);
}
