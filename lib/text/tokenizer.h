/* tokenizer.h - text in, the ids that a model was trained with out.
 *
 * Reads a Hugging Face tokenizer.json and gives the same ids as their
 * `tokenizers` package, for
 *   - WordPiece with BertNormalizer and BertPreTokenizer (MiniLM, bge, e5, gte),
 *   - byte-level BPE with an NFC normaliser or none (ModernBERT, GPT-2, RoBERTa),
 * with added tokens and a TemplateProcessing, BertProcessing or RobertaProcessing
 * post-processor. Anything else is refused when the file is opened, never guessed.
 * The `truncation` and `padding` sections are ignored: cutting is the caller's.
 *
 * Text:    bytes; where they are not UTF-8, U+FFFD stands for each maximal part
 *          of a broken sequence, as Unicode 15 section 3.9 recommends and as
 *          Python's errors="replace" does.
 * Memory:  encoding works on the stack. The heap is asked only by byte-level BPE,
 *          for a text that must be rewritten (not in NFC, not UTF-8) and is long, a
 *          single word above some hundred bytes, or a Split pattern; and by a
 *          WordPiece file with several normalisers or added tokens that are
 *          `normalized` (no file we know), for long texts.
 * Threads: immutable after opening; any number of threads may encode at a time. */
#ifndef RP_TEXT_TOKENIZER_H
#define RP_TEXT_TOKENIZER_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_tokenizer rp_tokenizer;

/* What encoding returns when the heap was empty; out is then all zeros. Larger than any `max`, so "does not fit" is a safe
 * reading of it. */
#define RP_TOKENS_NOMEM SIZE_MAX

enum {
    RP_TOKENIZER_FILE_SIZE_MAX = 64 << 20, /* bytes of a tokenizer.json */
    RP_TOKENIZER_EXTRA_MAX = 16,           /* ids a template adds at one place */
};

/* Open `path`, a tokenizer.json. Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_LIMIT
 * (a size above what is stated here or in tokenizer.c), RP_ERR_INVALID (not
 * JSON), RP_ERR_CORRUPT (the file contradicts itself), RP_ERR_UNSUPPORTED (the
 * sentence names the part we lack), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_tokenizer_open(const char *path, rp_tokenizer **out, rp_error *error);
/* The same from bytes, which are not needed any more afterwards. */
RP_NODISCARD rp_status rp_tokenizer_parse(rp_str json, rp_tokenizer **out, rp_error *error);
void rp_tokenizer_close(rp_tokenizer *tokenizer); /* NULL is fine */

/* Encode `text`; `special` adds what the post-processor adds around a single text.
 * Writes the first `max` ids to out and returns how many there are, which may be
 * more than max: nothing is cut or padded. out may be NULL if max is 0. */
size_t rp_tokenizer_encode(const rp_tokenizer *tokenizer, rp_str text, bool special, int32_t *out,
                           size_t max);

/* Encode a pair, with everything that the post-processor adds ([CLS] a [SEP] b
 * [SEP]); types (max), if not NULL, gets the token type of each. */
size_t rp_tokenizer_encode_pair(const rp_tokenizer *tokenizer, rp_str a, rp_str b, int32_t *out,
                                uint8_t *types, size_t max);
/* The same from ids that were encoded without special tokens, and perhaps cut. */
size_t rp_tokenizer_join_pair(const rp_tokenizer *tokenizer, const int32_t *a, size_t a_count,
                              const int32_t *b, size_t b_count, int32_t *out, uint8_t *types,
                              size_t max);

/* What the post-processor adds. A single text is prefix, text, suffix: to embed a
 * long text in windows of W, encode it without special tokens, cut it every
 * W - prefix_count - suffix_count ids, and put these around each piece. */
typedef struct rp_tokenizer_extra {
    const int32_t *prefix, *suffix; /* lent for the tokenizer's life */
    size_t prefix_count, suffix_count;
    uint8_t type; /* token type of the whole single sequence; 0 in every known file */
} rp_tokenizer_extra;
rp_tokenizer_extra rp_tokenizer_single_extra(const rp_tokenizer *tokenizer);
/* How many ids rp_tokenizer_encode_pair adds to those of a and b. */
size_t rp_tokenizer_pair_extra_count(const rp_tokenizer *tokenizer);

/* Ids of special tokens; -1 where there is none. cls and sep are those that the
 * post-processor uses (so <s> and </s> of RoBERTa), else by their usual names. */
typedef struct rp_tokenizer_ids {
    int32_t unk, cls, sep, pad, mask;
} rp_tokenizer_ids;
rp_tokenizer_ids rp_tokenizer_special_ids(const rp_tokenizer *tokenizer);
/* The id of a token as the file spells it ("[CLS]", "##ing"), added tokens
 * included; -1 if there is none. */
int32_t rp_tokenizer_find(const rp_tokenizer *tokenizer, rp_str token);

/* One more than the largest id: rows that an embedding table must have. */
size_t rp_tokenizer_vocabulary_size(const rp_tokenizer *tokenizer);
rp_str rp_tokenizer_model(const rp_tokenizer *tokenizer); /* "WordPiece" or "BPE" */
size_t rp_tokenizer_size_bytes(const rp_tokenizer *tokenizer); /* heap held */

#endif
