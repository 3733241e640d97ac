/* tokenizer_internal.h - how a tokenizer looks inside lib/text.
 *
 * Stages: tokenizer.c cuts added tokens out, normalize.c rewrites what is between
 * them, wordpiece.c or bpe.c splits that into words and words into ids;
 * tokenizer_file.c builds all of it from a tokenizer.json. */
#ifndef RP_TEXT_TOKENIZER_INTERNAL_H
#define RP_TEXT_TOKENIZER_INTERNAL_H

#include "text/tokenizer.h"
#include "text/unicode.h"

enum {
    RP_WORD_CHARS_MAX = 1024, /* of max_input_chars_per_word; every known file says 100 */
    RP_STEPS_MAX = 8,         /* normalisers, or pre-tokenizers, in a row */
    RP_TOKEN_ID_MAX = 1 << 24,
    RP_ADDED_SIZE_MAX = 512, /* bytes of an added token, so that a search is linear */
};

/* Where ids go. */
typedef struct rp_sink {
    int32_t *out;
    size_t max, count;
    bool failed; /* no memory */
} rp_sink;

static inline void
rp_sink_put(rp_sink *sink, int32_t id)
{
    if (sink->count < sink->max)
        sink->out[sink->count] = id;
    sink->count++;
}

/* Bytes on the stack, on the heap once there are many. */
typedef struct rp_scratch {
    char *ptr; /* local, or owned */
    size_t len, capacity;
    bool failed;
    char local[2048];
} rp_scratch;
void rp_scratch_init(rp_scratch *scratch);
void rp_scratch_fini(rp_scratch *scratch);
bool rp_scratch_append(rp_scratch *scratch, const char *bytes, size_t size);
bool rp_scratch_put(rp_scratch *scratch, uint32_t point);

/* Bytes to values, by prefix. Nodes 0 and 1 are two separate roots. All edges lie
 * in one hash table with linear probing, at most half full. */
typedef struct rp_trie_edge {
    uint32_t key; /* node << 8 | byte, plus 1; 0: empty */
    uint32_t child;
} rp_trie_edge;
typedef struct rp_trie {
    rp_trie_edge *edges; /* owned */
    int32_t *values;     /* owned; of each node, -1: none */
    uint32_t node_count, node_capacity;
    uint32_t shift; /* 32 - log2(slots) */
} rp_trie;
RP_NODISCARD rp_status rp_trie_init(rp_trie *trie, size_t key_bytes);
void rp_trie_fini(rp_trie *trie);
/* Fails: RP_ERR_NOMEM, RP_ERR_LIMIT. `key_bytes` above bounds the sum of keys. */
RP_NODISCARD rp_status rp_trie_add(rp_trie *trie, uint32_t root, rp_str key, int32_t value);
size_t rp_trie_size_bytes(const rp_trie *trie);

static inline uint32_t
rp_trie_step(const rp_trie *trie, uint32_t node, uint8_t byte)
{
    const uint32_t key = (node << 8 | byte) + 1;
    const uint32_t mask = (UINT32_C(1) << (32 - trie->shift)) - 1;
    uint32_t slot = key * UINT32_C(2654435769) >> trie->shift;
    for (;; slot = (slot + 1) & mask) {
        const rp_trie_edge edge = trie->edges[slot];
        if (edge.key == key)
            return edge.child;
        if (edge.key == 0)
            return 0; /* a root is nobody's child */
    }
}

/* Whole byte strings to values: the vocabulary by spelling, and words of BPE. */
typedef struct rp_words_row {
    uint32_t hash, at, len;
    int32_t value;
} rp_words_row;
typedef struct rp_words {
    rp_words_row *rows; /* owned; value -1: empty */
    char *bytes;        /* owned */
    size_t count, slots, bytes_len, bytes_capacity;
} rp_words;
RP_NODISCARD rp_status rp_words_init(rp_words *words, size_t count_max, size_t bytes_max);
void rp_words_fini(rp_words *words);
/* Within the bounds given to init; value >= 0; a second value replaces the first. */
void rp_words_add(rp_words *words, rp_str key, int32_t value);
int32_t rp_words_find(const rp_words *words, rp_str key); /* -1: none */
size_t rp_words_size_bytes(const rp_words *words);

typedef struct rp_added {
    int32_t id;
    bool single_word, lstrip, rstrip;
} rp_added;
typedef struct rp_added_set {
    rp_trie trie; /* to indices of tokens */
    rp_added *tokens; /* owned */
    size_t count;
    bool first[256]; /* bytes that a token begins with */
} rp_added_set;

/* One step of normalisation. */
typedef struct rp_normalize {
    bool nfc; /* compose; then nothing else applies */
    bool clean, chinese, decompose, drop_marks, lower;
} rp_normalize;

typedef enum rp_split_kind { RP_SPLIT_GPT2, RP_SPLIT_PATTERN } rp_split_kind;
typedef struct rp_split {
    rp_split_kind kind;
    void *pattern;     /* owned pcre2_code */
    bool remove;       /* matches are dropped, not kept as pieces */
    bool invert;       /* what lies between matches is the match */
    bool prefix_space; /* ByteLevel: a space before a piece that has none */
    bool last;         /* ByteLevel without its pattern: the end of the row */
} rp_split;

typedef struct rp_merge {
    uint64_t pair; /* left << 32 | right, plus 1; 0: empty */
    uint32_t rank;
    int32_t id;
} rp_merge;

typedef struct rp_bpe {
    int32_t byte_ids[256]; /* -1: not in the vocabulary */
    int32_t unk;           /* -1: such a byte is dropped */
    bool fuse_unk, ignore_merges;
    rp_merge *merges; /* owned; half full at most */
    uint32_t merge_shift;
    size_t merge_slots;
    rp_words whole; /* bytes of a word that is one token, found without merging */
    rp_split splits[RP_STEPS_MAX];
    size_t split_count;
} rp_bpe;

typedef struct rp_wordpiece {
    rp_trie trie; /* root 0: starts of words, root 1: what follows in a word */
    int32_t unk;
    uint32_t chars_max;
    /* What a byte below 0x80 is after normalisation, and its lower case. */
    uint8_t ascii_kind[128], ascii_lower[128];
} rp_wordpiece;

typedef struct rp_extra_ids {
    int32_t ids[RP_TOKENIZER_EXTRA_MAX];
    uint8_t types[RP_TOKENIZER_EXTRA_MAX];
    size_t count;
} rp_extra_ids;

struct rp_tokenizer {
    bool is_bpe;
    rp_normalize steps[RP_STEPS_MAX];
    size_t step_count;
    rp_added_set raw, normalized; /* found before and after normalisation */
    rp_words vocabulary;          /* spelling to id, added tokens included */
    size_t vocabulary_size;
    rp_tokenizer_ids ids;
    rp_extra_ids single[2];  /* before and after the text */
    rp_extra_ids pair[3];    /* before a, between, after b */
    uint8_t single_type, pair_type[2];
    rp_wordpiece wordpiece;
    rp_bpe bpe;
};

/* Rewrite valid UTF-8. Appends to out; false: no memory. */
bool rp_normalize_text(const rp_normalize *step, rp_str text, rp_scratch *out);
/* True if the step would give `text` back unchanged; may say false needlessly. */
bool rp_normalize_keeps(const rp_normalize *step, rp_str text);

void rp_wordpiece_prepare(rp_wordpiece *wordpiece, const rp_normalize *step);
/* Normalise (step may be NULL: already done), split and encode. */
void rp_wordpiece_encode(const rp_wordpiece *wordpiece, const rp_normalize *step, rp_str text,
                         rp_sink *sink);

/* Split and encode normalised, valid UTF-8. */
void rp_bpe_encode(const rp_bpe *bpe, rp_str text, rp_sink *sink);
/* One word, as bytes. */
void rp_bpe_encode_word(const rp_bpe *bpe, rp_str word, rp_sink *sink);
const rp_merge *rp_bpe_merge(const rp_bpe *bpe, int32_t left, int32_t right); /* NULL: none */
void rp_bpe_fini(rp_bpe *bpe);

#endif
