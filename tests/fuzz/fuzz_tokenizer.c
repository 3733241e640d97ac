/* fuzz_tokenizer.c - bytes are first taken for a tokenizer.json, then for a text.
 *
 * A file that opens must encode anything. As most mutations of a file no longer
 * open, the bytes are also encoded by two small tokenizers that are built here,
 * where the counts of all ways to ask must agree. */
#include "text/tokenizer.h"

#include "base/bytes.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ADDED                                                                                      \
    "\"added_tokens\":[{\"id\":1,\"content\":\"<m>\",\"special\":true,\"lstrip\":true,"            \
    "\"normalized\":false},{\"id\":9,\"content\":\"ab\",\"single_word\":true,\"rstrip\":true,"     \
    "\"normalized\":true}],"

static const char *const files[] = {
    "{" ADDED "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
    "\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"vocab\":"
    "{\"u\":0,\"<m>\":1,\"a\":2,\"##a\":3,\"b\":4,\"##b\":5,\"##ab\":6}}}",
    "{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
    "\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"vocab\":"
    "{\"u\":0,\"<m>\":1,\"a\":2,\"##a\":3,\"b\":4,\"##b\":5,\"##ab\":6}}}",
    "{" ADDED "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
    "\"add_prefix_space\":true},\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\",\"vocab\":"
    "{\"u\":0,\"<m>\":1,\"a\":2,\"aa\":3,\"b\":4,\"aab\":5},\"merges\":[\"a a\",\"aa b\"]}}",
};

static void
encode(const rp_tokenizer *tokenizer, rp_str text)
{
    const size_t count = rp_tokenizer_encode(tokenizer, text, true, NULL, 0);
    if (count == RP_TOKENS_NOMEM)
        return;
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    if (!ids || rp_tokenizer_encode(tokenizer, text, true, ids, count) != count)
        abort();
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= rp_tokenizer_vocabulary_size(tokenizer))
            abort();
    free(ids);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static rp_tokenizer *fixed[RP_COUNT(files)];
    const rp_str bytes = { (const char *)data, size };
    for (size_t i = 0; i < RP_COUNT(files); i++) {
        rp_error error = { { 0 } };
        if (!fixed[i] && rp_tokenizer_parse(rp_str_of(files[i]), &fixed[i], &error) != RP_OK)
            abort();
        encode(fixed[i], bytes);
    }
    rp_tokenizer *tokenizer = NULL;
    rp_error error = { { 0 } };
    if (rp_tokenizer_parse(bytes, &tokenizer, &error) != RP_OK) {
        if (!error.text[0])
            abort();
        return 0;
    }
    encode(tokenizer, bytes);
    encode(tokenizer, RP_STR("Caf\xc3\xa9 e\xcc\x81 \xea\xb0\x80\xff <m> ab 's  12 \xe4\xb8\xad"));
    rp_tokenizer_close(tokenizer);
    return 0;
}
