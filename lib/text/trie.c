/* trie.c - the two look-up tables of tokenizers: prefixes of bytes, and whole
 * strings of bytes. Both are built once and only read afterwards. */
#include "base/bytes.h"
#include "base/hash.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>

enum {
    NODE_MAX = 1 << 23, /* node << 8 must fit 32 bits, and so must twice as many slots */
    PAGE = 4096,        /* the smallest there is */
};

rp_status
rp_trie_init(rp_trie *trie, size_t key_bytes)
{
    memset(trie, 0, sizeof *trie);
    if (key_bytes >= NODE_MAX)
        return RP_ERR_LIMIT;
    uint32_t bits = 6;
    while ((size_t)1 << bits < 2 * (key_bytes + 1))
        bits++;
    trie->shift = 32 - bits;
    trie->node_capacity = (uint32_t)key_bytes + 2;
    trie->edges = calloc((size_t)1 << bits, sizeof *trie->edges);
    trie->values = malloc(trie->node_capacity * sizeof *trie->values);
    if (!trie->edges || !trie->values) {
        rp_trie_fini(trie);
        return RP_ERR_NOMEM;
    }
    /* Written once before it is read: a page that is read first is a shared zero page, whose
     * first write must be told to every core that runs a thread of ours (a quarter of the
     * time to read a vocabulary, where another thread loads weights meanwhile). */
    for (size_t slot = 0; slot < (size_t)1 << bits; slot += PAGE / sizeof *trie->edges)
        ((volatile rp_trie_edge *)trie->edges)[slot].key = 0;
    trie->node_count = 2;
    trie->values[0] = trie->values[1] = -1;
    return RP_OK;
}

void
rp_trie_fini(rp_trie *trie)
{
    free(trie->edges);
    free(trie->values);
    memset(trie, 0, sizeof *trie);
}

static void
trie_link(rp_trie *trie, uint32_t node, uint8_t byte, uint32_t child)
{
    const uint32_t key = (node << 8 | byte) + 1;
    const uint32_t mask = (UINT32_C(1) << (32 - trie->shift)) - 1;
    uint32_t slot = key * UINT32_C(2654435769) >> trie->shift;
    while (trie->edges[slot].key)
        slot = (slot + 1) & mask;
    trie->edges[slot] = (rp_trie_edge){ key, child };
}

rp_status
rp_trie_add(rp_trie *trie, uint32_t root, rp_str key, int32_t value)
{
    uint32_t node = root;
    for (size_t i = 0; i < key.len; i++) {
        uint32_t child = rp_trie_step(trie, node, (uint8_t)key.ptr[i]);
        if (child == 0) {
            if (trie->node_count >= trie->node_capacity)
                return RP_ERR_LIMIT;
            child = trie->node_count++;
            trie->values[child] = -1;
            trie_link(trie, node, (uint8_t)key.ptr[i], child);
        }
        node = child;
    }
    trie->values[node] = value;
    return RP_OK;
}

size_t
rp_trie_size_bytes(const rp_trie *trie)
{
    if (!trie->edges)
        return 0;
    return ((size_t)1 << (32 - trie->shift)) * sizeof *trie->edges +
           trie->node_capacity * sizeof *trie->values;
}

rp_status
rp_words_init(rp_words *words, size_t count_max, size_t bytes_max)
{
    memset(words, 0, sizeof *words);
    if (count_max > RP_TOKEN_ID_MAX || bytes_max > UINT32_MAX)
        return RP_ERR_LIMIT;
    words->slots = 64;
    while (words->slots < 2 * count_max + 2)
        words->slots *= 2;
    words->bytes_capacity = bytes_max;
    words->rows = malloc(words->slots * sizeof *words->rows);
    words->bytes = malloc(bytes_max + 1);
    if (!words->rows || !words->bytes) {
        rp_words_fini(words);
        return RP_ERR_NOMEM;
    }
    for (size_t i = 0; i < words->slots; i++)
        words->rows[i].value = -1;
    return RP_OK;
}

void
rp_words_fini(rp_words *words)
{
    free(words->rows);
    free(words->bytes);
    memset(words, 0, sizeof *words);
}

/* The row of `key`, or the empty row where it belongs. */
static rp_words_row *
words_row(const rp_words *words, rp_str key, uint32_t hash)
{
    size_t slot = hash & (words->slots - 1);
    for (;; slot = (slot + 1) & (words->slots - 1)) {
        rp_words_row *row = &words->rows[slot];
        if (row->value < 0)
            return row;
        if (row->hash == hash && row->len == key.len &&
            memcmp(words->bytes + row->at, key.ptr, key.len) == 0)
            return row;
    }
}

/* Words are short: their first and last eight bytes, multiplied. Without a seed: a file
 * that makes its own tokens collide slows down its own loading and encoding only. */
static inline uint32_t
words_hash(rp_str key)
{
    if (key.len > 16)
        return (uint32_t)rp_hash64(key);
    uint64_t low = key.len, high = 0;
    if (key.len > 8) {
        memcpy(&low, key.ptr, 8);
        memcpy(&high, key.ptr + key.len - 8, 8);
    } else if (key.len >= 4) {
        low = (uint64_t)rp_load_le32(key.ptr) | (uint64_t)rp_load_le32(key.ptr + key.len - 4) << 32;
    } else if (key.len) {
        low = (uint64_t)(uint8_t)key.ptr[0] | (uint64_t)(uint8_t)key.ptr[key.len / 2] << 8 |
              (uint64_t)(uint8_t)key.ptr[key.len - 1] << 16;
    }
    uint64_t mixed = (low ^ key.len) * UINT64_C(0x9e3779b97f4a7c15) ^
                     (high + key.len) * UINT64_C(0xc2b2ae3d27d4eb4f);
    mixed ^= mixed >> 32;
    return (uint32_t)(mixed * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

void
rp_words_add(rp_words *words, rp_str key, int32_t value)
{
    const uint32_t hash = words_hash(key);
    rp_words_row *row = words_row(words, key, hash);
    if (row->value < 0) {
        if (2 * words->count + 2 > words->slots || words->bytes_capacity - words->bytes_len < key.len)
            return; /* not within the bounds given to init; the caller counted */
        *row = (rp_words_row){ hash, (uint32_t)words->bytes_len, (uint32_t)key.len, 0 };
        if (key.len)
            memcpy(words->bytes + words->bytes_len, key.ptr, key.len);
        words->bytes_len += key.len;
        words->count++;
    }
    row->value = value;
}

int32_t
rp_words_find(const rp_words *words, rp_str key)
{
    return words->rows ? words_row(words, key, words_hash(key))->value : -1;
}

size_t
rp_words_size_bytes(const rp_words *words)
{
    return words->rows ? words->slots * sizeof *words->rows + words->bytes_capacity + 1 : 0;
}
