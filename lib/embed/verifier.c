/* verifier.c - a cross-encoder: tokenizer, model and head as one thing. */
#include <reprise/verify.h>

#include "base/bytes.h"
#include "embed/model_files.h"

#include <math.h>
#include <stdlib.h>

struct rp_verifier {
    rp_model_files files;
    size_t body_max; /* tokens of both texts without the special ones */
    char fingerprint[33];
    rp_room_pool rooms;
};

/* ---- one pair ---- */

/* How many tokens of each are kept, as the reference truncates "longest first": the shorter
 * text loses nothing until the longer one is as short. */
static void
share_window(size_t window, size_t *a, size_t *b)
{
    size_t *shorter = *a <= *b ? a : b, *longer = *a <= *b ? b : a;
    if (*a + *b <= window)
        return;
    if (*shorter > window || *shorter > window - *shorter) {
        *shorter = window / 2;
        *longer = *shorter + window % 2;
    } else {
        *longer = window - *shorter;
    }
}

/* Put a pair into the room; false: no memory. */
static bool
read_pair(const rp_verifier *verifier, rp_room *room, rp_str a, rp_str b, bool *cut)
{
    const size_t most = verifier->body_max;
    size_t counts[2];
    const rp_str texts[2] = { a, b };
    for (size_t i = 0; i < 2; i++) {
        const size_t count = rp_tokenizer_encode(verifier->files.tokenizer, texts[i], false,
                                                 room->body + i * most, most);
        if (count == RP_TOKENS_NOMEM)
            return false;
        counts[i] = count;
    }
    *cut = counts[0] > most || counts[1] > most || counts[0] + counts[1] > most;
    share_window(most, &counts[0], &counts[1]);
    const size_t count = rp_tokenizer_join_pair(
        verifier->files.tokenizer, room->body, counts[0], room->body + most, counts[1], room->ids,
        room->types, verifier->rooms.tokens_max);
    room->starts[0] = 0;
    room->starts[1] = (uint32_t)count;
    return true;
}

static float
probability_of(const float *logits, size_t labels)
{
    /* Of two labels: e^l1 / (e^l0 + e^l1). */
    const double x = labels == 1 ? (double)logits[0] : (double)logits[1] - (double)logits[0];
    return (float)(1.0 / (1.0 + exp(-x)));
}

static rp_status
score_pair(const rp_verifier *verifier, rp_room *room, rp_str a, rp_str b, float *out, bool *cut,
           rp_error *error)
{
    if (a.len > RP_TEXT_SIZE_MAX || b.len > RP_TEXT_SIZE_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "a text of %zu bytes; the limit is %d",
                       RP_MAX(a.len, b.len), RP_TEXT_SIZE_MAX);
    if (!read_pair(verifier, room, a, b, cut))
        return rp_fail(error, RP_ERR_NOMEM, "no memory to read a text's tokens");
    const rp_token_batch batch = { .ids = room->ids, .types = room->types, .starts = room->starts,
                                   .count = 1 };
    float logits[2];
    rp_model_classify(verifier->files.model, &batch, room->work, logits);
    const float probability =
        probability_of(logits, rp_model_get_config(verifier->files.model)->labels);
    if (isnan(probability))
        return rp_fail(error, RP_ERR_CORRUPT, "the cross-encoder gave a pair no probability");
    *out = probability;
    return RP_OK;
}

rp_status
rp_verifier_score(const rp_verifier *verifier, const rp_str *a, const rp_str *b, size_t n,
                  float *out, bool *truncated, rp_error *error)
{
    rp_room_pool *rooms = (rp_room_pool *)(uintptr_t)&verifier->rooms; /* locks inside */
    rp_room *room = rp_room_borrow(rooms);
    if (!room)
        return rp_fail(error, RP_ERR_NOMEM, "no memory to verify");
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < n; i++) {
        bool cut = false;
        status = score_pair(verifier, room, a[i], b[i], &out[i], &cut, error);
        if (truncated)
            truncated[i] = cut;
    }
    rp_room_return(rooms, room);
    return status;
}

/* ---- opening ---- */

/* The types that the tokenizer gives must be known to the model, and a window must leave
 * something of both texts. */
static rp_status
measure_window(rp_verifier *verifier, const char *path, rp_error *error)
{
    const rp_model_config *config = rp_model_get_config(verifier->files.model);
    const size_t extra = rp_tokenizer_pair_extra_count(verifier->files.tokenizer);
    int32_t ids[3 * RP_TOKENIZER_EXTRA_MAX + 2];
    uint8_t types[RP_COUNT(ids)] = { 0 };
    const int32_t some = 0;
    if (extra + 2 > config->window)
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "the tokenizer of %s puts %zu special tokens around a pair; the window has %zu",
                       path, extra, config->window);
    const size_t count = rp_tokenizer_join_pair(verifier->files.tokenizer, &some, 1, &some, 1, ids,
                                                types, RP_COUNT(ids));
    for (size_t i = 0; i < RP_MIN(count, RP_COUNT(ids)); i++)
        if (types[i] >= config->types)
            return rp_fail(error, RP_ERR_CORRUPT,
                           "the tokenizer of %s has token type %u, the model %zu types", path,
                           types[i], config->types);
    verifier->body_max = config->window - extra;
    verifier->rooms.model = verifier->files.model;
    verifier->rooms.tokens_max = config->window;
    verifier->rooms.body_max = 2 * verifier->body_max;
    return RP_OK;
}

rp_status
rp_verifier_open(const char *path, const rp_encoder_options *options, rp_verifier **out,
                 rp_error *error)
{
    static const rp_encoder_options defaults;
    rp_encoder_options with = options ? *options : defaults;
    rp_verifier *verifier = calloc(1, sizeof *verifier);
    if (!verifier)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a verifier");
    rp_room_pool_init(&verifier->rooms);
    with.dim = 0;
    rp_status status = rp_model_files_open(path, &with, true, &verifier->files, error);
    if (!status)
        status = measure_window(verifier, path, error);
    if (status) {
        rp_verifier_close(verifier);
        return status;
    }
    rp_model_files_fingerprint(&verifier->files, verifier->fingerprint);
    *out = verifier;
    return RP_OK;
}

void
rp_verifier_close(rp_verifier *verifier)
{
    if (!verifier)
        return;
    rp_room_pool_fini(&verifier->rooms);
    rp_model_files_close(&verifier->files);
    free(verifier);
}

/* ---- questions ---- */

rp_str
rp_verifier_name(const rp_verifier *verifier)
{
    return rp_str_of(verifier->files.name);
}

rp_str
rp_verifier_fingerprint(const rp_verifier *verifier)
{
    return rp_str_of(verifier->fingerprint);
}

size_t
rp_verifier_window_tokens(const rp_verifier *verifier)
{
    return rp_model_get_config(verifier->files.model)->window;
}

size_t
rp_verifier_size_bytes(const rp_verifier *verifier)
{
    return sizeof *verifier + rp_model_size_bytes(verifier->files.model) +
           rp_tokenizer_size_bytes(verifier->files.tokenizer);
}
