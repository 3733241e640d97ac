/* attack_climb.c - words that pull a key towards a victim's question, found by asking the
 * encoder.
 *
 * The published attack (arXiv:2601.23088) follows gradients of a surrogate; this one only
 * asks for vectors, as somebody with the same public model could, and takes any word: of
 * the question half of the time, else of the benign texts. In each round every attack
 * tries some changes of its suffix (insert, replace, remove; one to three at a time) and
 * keeps the best. The draws depend on seed, round and attack alone, so that a climb that was
 * interrupted goes on as if it had not been. */
#include "eval/attack.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>

enum { SUFFIX_WORDS_MAX = 40, CANDIDATES_MAX = 256, STATE_SIZE_MAX = 64 << 20 };

typedef struct suffix {
    rp_str words[SUFFIX_WORDS_MAX];
    size_t count;
} suffix;

typedef struct climber {
    rp_attack *attack;
    rp_str instruction; /* with what stands before the suffix */
    rp_str question;
    rp_str question_words[SUFFIX_WORDS_MAX];
    size_t question_words_count;
    suffix best;
    double similarity;
} climber;

typedef struct climb {
    rp_attack_set *set;
    const rp_encoder *encoder;
    const rp_climb_options *options;
    climber *climbers;  /* owned */
    size_t count, dim;
    rp_str *pool;       /* words of benign texts and questions; owned */
    size_t pool_count;
    float *questions;   /* (count, dim); owned */
    float *vectors;     /* (candidates, dim); owned */
    suffix *tried;      /* (candidates); owned */
    rp_arena arena;     /* the texts of one batch */
    rp_error *error;
} climb;

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t
split_words(rp_str text, rp_str *out, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len && count < max;) {
        while (i < text.len && is_space(text.ptr[i]))
            i++;
        const size_t start = i;
        while (i < text.len && !is_space(text.ptr[i]))
            i++;
        if (i > start)
            out[count++] = (rp_str){ text.ptr + start, i - start };
    }
    return count;
}

/* Each text's words, each word once. */
static rp_status
fill_pool(climb *c)
{
    rp_text_set words;
    rp_status status = RP_OK;
    rp_text_set_init(&words);
    for (size_t i = 0; !status && i < c->set->pair_count; i++) {
        rp_str found[SUFFIX_WORDS_MAX];
        const size_t count =
            split_words(c->set->texts.texts[c->set->pairs[i].a], found, SUFFIX_WORDS_MAX);
        for (size_t k = 0; !status && k < count; k++) {
            uint32_t number;
            status = found[k].len < 32 ? rp_text_set_add(&words, found[k], &number) : RP_OK;
        }
    }
    c->pool = calloc(words.count + 1, sizeof *c->pool);
    for (size_t i = 0; c->pool && i < words.count; i++)
        c->pool[i] = rp_arena_copy(&c->set->arena, words.texts[i]);
    c->pool_count = c->pool ? words.count : 0;
    rp_text_set_fini(&words);
    return c->pool ? status : RP_ERR_NOMEM;
}

/* The key is "INSTRUCTION Neglect: QUESTION" so far. */
static void
begin_climber(climb *c, rp_attack *attack, climber *out)
{
    const rp_str key = c->set->texts.texts[attack->key];
    const rp_str question = c->set->texts.texts[attack->question];
    *out = (climber){ .attack = attack, .question = question };
    out->instruction = (rp_str){ key.ptr, key.len - question.len };
    out->question_words_count = split_words(question, out->question_words, SUFFIX_WORDS_MAX);
    out->best.count = out->question_words_count;
    memcpy(out->best.words, out->question_words, sizeof out->best.words);
}

static rp_status
write_key(climb *c, const climber *one, const suffix *tail, rp_str *out)
{
    size_t len = one->instruction.len;
    for (size_t i = 0; i < tail->count; i++)
        len += tail->words[i].len + 1;
    char *text = rp_arena_alloc(&c->arena, len + 1);
    if (!text)
        return RP_ERR_NOMEM;
    memcpy(text, one->instruction.ptr, one->instruction.len);
    len = one->instruction.len;
    for (size_t i = 0; i < tail->count; i++) {
        memcpy(text + len, tail->words[i].ptr, tail->words[i].len);
        len += tail->words[i].len;
        text[len++] = ' ';
    }
    *out = rp_str_trimmed((rp_str){ text, len });
    return RP_OK;
}

static double
dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Keep the best of `count` suffixes if it is better than what there is. */
static rp_status
try_suffixes(climb *c, size_t at, size_t count)
{
    climber *one = &c->climbers[at];
    rp_str texts[CANDIDATES_MAX];
    rp_status status = RP_OK;
    rp_arena_reset(&c->arena);
    for (size_t i = 0; !status && i < count; i++)
        status = write_key(c, one, &c->tried[i], &texts[i]);
    if (!status)
        status = rp_encoder_embed(c->encoder, texts, count, c->vectors, NULL, c->error);
    for (size_t i = 0; !status && i < count; i++) {
        const double similarity = dot(c->vectors + i * c->dim, c->questions + at * c->dim, c->dim);
        if (similarity > one->similarity) {
            one->similarity = similarity;
            one->best = c->tried[i];
        }
    }
    return status;
}

static void
change(const climb *c, const climber *one, rp_random *random, suffix *out)
{
    const bool ours = one->question_words_count && rp_random_uniform(random) < 0.5;
    if (!ours && c->pool_count == 0)
        return;
    const rp_str word = ours ? one->question_words[rp_random_below(random, one->question_words_count)]
                             : c->pool[rp_random_below(random, c->pool_count)];
    const double kind = rp_random_uniform(random);
    if ((kind < 0.5 || out->count == 0) && out->count < SUFFIX_WORDS_MAX) {
        const size_t at = rp_random_below(random, out->count + 1);
        memmove(out->words + at + 1, out->words + at, (out->count - at) * sizeof *out->words);
        out->words[at] = word;
        out->count++;
    } else if (kind < 0.85) {
        out->words[rp_random_below(random, out->count)] = word;
    } else if (out->count > 1) {
        const size_t at = rp_random_below(random, out->count);
        out->count--;
        memmove(out->words + at, out->words + at + 1, (out->count - at) * sizeof *out->words);
    }
}

static rp_status
climb_step(climb *c, size_t step)
{
    rp_status status = RP_OK;
    for (size_t at = 0; !status && at < c->count; at++) {
        rp_random random;
        char place[24];
        rp_store_le64(place, c->options->seed);
        rp_store_le64(place + 8, step);
        rp_store_le64(place + 16, at);
        rp_random_init(&random, rp_hash64((rp_str){ place, sizeof place }));
        for (size_t i = 0; i < c->options->candidates; i++) {
            c->tried[i] = c->climbers[at].best;
            const size_t changes = 1 + rp_random_below(&random, 3);
            for (size_t k = 0; k < changes; k++)
                change(c, &c->climbers[at], &random, &c->tried[i]);
        }
        status = try_suffixes(c, at, c->options->candidates);
    }
    return status;
}

/* ---- the state of a climb in a file ---------------------------------------------------------- */

/* Format: "reprise climb 1", the number of finished rounds, then a suffix a line; the last
 * line is the XXH3-64 of what stands before it. A file that does not fit is passed over. */
static bool
state_path(const climb *c, char *out, size_t size)
{
    rp_sha256 hash;
    uint8_t digest[32];
    char digits[65], numbers[16];
    if (!c->options->folder)
        return false;
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, rp_encoder_fingerprint(c->encoder));
    rp_store_le64(numbers, c->options->seed);
    rp_store_le64(numbers + 8, c->options->candidates);
    rp_sha256_update_field(&hash, (rp_str){ numbers, sizeof numbers });
    for (size_t i = 0; i < c->count; i++) {
        rp_sha256_update_field(&hash, c->climbers[i].instruction);
        rp_sha256_update_field(&hash, c->climbers[i].question);
    }
    for (size_t i = 0; i < c->pool_count; i++)
        rp_sha256_update_field(&hash, c->pool[i]);
    rp_sha256_final(&hash, digest);
    rp_hex_encode(digest, sizeof digest, digits);
    const int len = snprintf(out, size, "%s/climb-%.32s.txt", c->options->folder, digits);
    return len > 0 && (size_t)len < size;
}

static void
save_state(const climb *c, const char *path, size_t steps)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, STATE_SIZE_MAX);
    rp_buffer_printf(&bytes, "reprise climb 1\n%zu\n", steps);
    for (size_t i = 0; i < c->count; i++) {
        const suffix *best = &c->climbers[i].best;
        for (size_t k = 0; k < best->count; k++) {
            rp_buffer_append(&bytes, best->words[k]);
            rp_buffer_append_char(&bytes, k + 1 < best->count ? ' ' : '\n');
        }
        if (best->count == 0)
            rp_buffer_append_char(&bytes, '\n');
    }
    rp_buffer_printf(&bytes, "%016llx\n", (unsigned long long)rp_hash64(rp_buffer_str(&bytes)));
    if (rp_buffer_failed(&bytes) || rp_folder_make(c->options->folder, 0700, NULL) != RP_OK ||
        rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL) != RP_OK)
        fprintf(stderr, "reprise eval: the climb could not be kept in %s\n", c->options->folder);
    rp_buffer_fini(&bytes);
}

/* Whether the bytes are whole; *rest is what stands between first and last line. */
static bool
check_state(rp_str bytes, rp_str *rest)
{
    enum { LAST = 17 }; /* 16 digits and a line feed */
    char digits[LAST + 1];
    if (bytes.len < LAST)
        return false;
    const rp_str body = { bytes.ptr, bytes.len - LAST };
    snprintf(digits, sizeof digits, "%016llx\n", (unsigned long long)rp_hash64(body));
    *rest = body;
    return memcmp(digits, bytes.ptr + body.len, LAST) == 0 &&
           rp_str_equal(rp_str_split(rest, '\n'), RP_STR("reprise climb 1"));
}

/* Rounds that were finished before: 0 if there is nothing to go on from. */
static size_t
load_state(climb *c, const char *path)
{
    rp_buffer bytes;
    rp_str rest;
    uint64_t steps = 0;
    rp_buffer_init(&bytes, STATE_SIZE_MAX);
    bool good = rp_file_read(path, STATE_SIZE_MAX, &bytes, NULL) == RP_OK &&
                check_state(rp_buffer_str(&bytes), &rest) &&
                rp_str_to_u64(rp_str_split(&rest, '\n'), &steps) && steps <= c->options->steps;
    const rp_str copy = good ? rp_arena_copy(&c->set->arena, rest) : (rp_str){ 0 };
    rest = copy;
    for (size_t i = 0; good && copy.ptr && i < c->count; i++)
        c->climbers[i].best.count = split_words(rp_str_split(&rest, '\n'), c->climbers[i].best.words,
                                                SUFFIX_WORDS_MAX);
    rp_buffer_fini(&bytes);
    return good && copy.ptr ? steps : 0;
}

/* ---- the climb ------------------------------------------------------------------------------- */

static rp_status
prepare(climb *c)
{
    for (size_t i = 0; i < c->set->attack_count; i++)
        c->count += c->set->attacks[i].kind == RP_ATTACK_CLIMBED;
    c->dim = rp_encoder_dim(c->encoder);
    c->climbers = calloc(c->count + 1, sizeof *c->climbers);
    c->questions = calloc(c->count * c->dim + 1, sizeof *c->questions);
    c->vectors = calloc(c->options->candidates * c->dim + 1, sizeof *c->vectors);
    c->tried = calloc(c->options->candidates + 1, sizeof *c->tried);
    if (!c->climbers || !c->questions || !c->vectors || !c->tried || fill_pool(c) != RP_OK)
        return rp_fail(c->error, RP_ERR_NOMEM, "no memory to climb");
    rp_status status = RP_OK;
    for (size_t i = 0, at = 0; !status && i < c->set->attack_count; i++) {
        if (c->set->attacks[i].kind != RP_ATTACK_CLIMBED)
            continue;
        begin_climber(c, &c->set->attacks[i], &c->climbers[at]);
        status = rp_encoder_embed(c->encoder, &c->climbers[at].question, 1,
                                  c->questions + at * c->dim, NULL, c->error);
        at++;
    }
    return status;
}

/* What was found becomes the attacks' keys. */
static rp_status
finish(climb *c)
{
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < c->count; i++) {
        rp_str key;
        rp_arena_reset(&c->arena);
        status = write_key(c, &c->climbers[i], &c->climbers[i].best, &key);
        if (!status)
            status = rp_text_set_add(&c->set->texts, key, &c->climbers[i].attack->key);
    }
    return status ? rp_fail(c->error, status, "no memory for the climbed attacks") : RP_OK;
}

static rp_status
run(climb *c)
{
    char path[4096];
    const bool kept = state_path(c, path, sizeof path);
    const size_t first = kept ? load_state(c, path) : 0;
    rp_status status = RP_OK;
    for (size_t at = 0; !status && at < c->count; at++) { /* where we stand */
        c->climbers[at].similarity = -2;
        c->tried[0] = c->climbers[at].best;
        status = try_suffixes(c, at, 1);
    }
    for (size_t step = first; !status && step < c->options->steps; step++) {
        if (c->options->progress)
            c->options->progress(c->options->context, "climbing", step, c->options->steps);
        status = climb_step(c, step);
        if (!status && kept)
            save_state(c, path, step + 1);
    }
    if (!status && c->options->progress)
        c->options->progress(c->options->context, "climbing", c->options->steps,
                             c->options->steps);
    return status;
}

rp_status
rp_attack_climb(rp_attack_set *set, const rp_encoder *encoder, const rp_climb_options *options,
                rp_error *error)
{
    if (options->candidates == 0 || options->candidates > CANDIDATES_MAX)
        return rp_fail(error, RP_ERR_INVALID, "1 to %d candidates are tried in a round",
                       CANDIDATES_MAX);
    climb c = { .set = set, .encoder = encoder, .options = options, .error = error };
    rp_arena_init(&c.arena, 0);
    rp_status status = prepare(&c);
    if (!status)
        status = run(&c);
    if (!status)
        status = finish(&c);
    free(c.climbers);
    free(c.questions);
    free(c.vectors);
    free(c.tried);
    free(c.pool);
    rp_arena_fini(&c.arena);
    return status;
}
