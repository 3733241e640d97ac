/* wordpiece.c - WordPiece (Wu et al., arXiv:1609.08144; as in BERT): normalise, split
 * at spaces and punctuation, then the longest piece of each word first.
 *
 * One pass, no buffer of the text: characters are normalised one after another and
 * collected into a word of at most chars_max characters; a longer word is [UNK]
 * whatever it holds. That also bounds canonical ordering: combining characters
 * that survive strip_accents belong to one word, so beyond chars_max their order
 * does not matter. Runs of ASCII letters and digits walk the trie in place. */
#include "base/bytes.h"
#include "text/tokenizer_internal.h"

enum { KIND_WORD, KIND_SPACE, KIND_PUNCTUATION, KIND_REMOVED };

typedef struct word {
    const rp_wordpiece *model;
    const rp_normalize *step;
    rp_sink *sink;
    size_t len, chars; /* chars may pass chars_max; bytes are then incomplete */
    size_t pending_count;
    uint32_t pending[RP_WORD_CHARS_MAX]; /* combining characters not yet in order */
    char bytes[RP_WORD_CHARS_MAX * 4];
} word;

void
rp_wordpiece_prepare(rp_wordpiece *wordpiece, const rp_normalize *step)
{
    for (uint32_t byte = 0; byte < 128; byte++) {
        const rp_unicode_record *record = rp_unicode_of(byte);
        uint8_t kind = KIND_WORD;
        if (step && step->clean && record->flags & RP_UNICODE_REMOVED)
            kind = KIND_REMOVED;
        else if (record->flags & RP_UNICODE_BERT_SPACE)
            kind = KIND_SPACE;
        else if (record->flags & RP_UNICODE_BERT_PUNCTUATION)
            kind = KIND_PUNCTUATION;
        wordpiece->ascii_kind[byte] = kind;
        wordpiece->ascii_lower[byte] =
            (uint8_t)(step && step->lower ? (int32_t)byte + record->lower_delta : (int32_t)byte);
    }
}

static void
match_word(const rp_wordpiece *model, rp_str text, rp_sink *sink)
{
    const size_t count_before = sink->count;
    uint32_t root = 0;
    for (size_t start = 0; start < text.len;) {
        uint32_t node = root;
        int32_t id = -1;
        size_t stop = start;
        for (size_t i = start; i < text.len; i++) {
            node = rp_trie_step(&model->trie, node, (uint8_t)text.ptr[i]);
            if (node == 0)
                break;
            if (model->trie.values[node] >= 0) {
                id = model->trie.values[node];
                stop = i + 1;
            }
        }
        if (id < 0) { /* one piece missing makes the whole word unknown */
            sink->count = count_before;
            rp_sink_put(sink, model->unk);
            return;
        }
        rp_sink_put(sink, id);
        start = stop;
        root = 1;
    }
}

static void
word_end(word *w)
{
    if (w->chars > w->model->chars_max)
        rp_sink_put(w->sink, w->model->unk);
    else if (w->chars)
        match_word(w->model, (rp_str){ w->bytes, w->len }, w->sink);
    w->chars = w->len = 0;
}

static void
word_add(word *w, uint32_t point)
{
    if (w->chars++ < w->model->chars_max)
        w->len += rp_utf8_put(point, w->bytes + w->len);
}

/* The pre-tokenizer. */
static void
word_split(word *w, uint32_t point)
{
    const uint16_t flags = rp_unicode_of(point)->flags;
    if (flags & RP_UNICODE_BERT_SPACE) {
        word_end(w);
    } else if (flags & RP_UNICODE_BERT_PUNCTUATION) {
        word_end(w);
        word_add(w, point);
        word_end(w);
    } else {
        word_add(w, point);
    }
}

static void
word_lower(word *w, uint32_t point)
{
    if (!w->step->lower) {
        word_split(w, point);
        return;
    }
    word_split(w, (uint32_t)((int32_t)point + rp_unicode_of(point)->lower_delta));
    if (point == 0x130) /* the one character with two in lower case */
        word_split(w, 0x307);
}

static void
pending_flush(word *w)
{
    for (size_t i = 0; i < w->pending_count; i++)
        word_lower(w, w->pending[i]);
    w->pending_count = 0;
}

/* Stable insertion; a full list makes the word too long in any case. */
static void
pending_add(word *w, uint32_t point, uint8_t class)
{
    if (w->pending_count > w->model->chars_max || w->pending_count == RP_COUNT(w->pending)) {
        w->chars++;
        return;
    }
    size_t i = w->pending_count++;
    for (; i > 0 && rp_unicode_of(w->pending[i - 1])->combining_class > class; i--)
        w->pending[i] = w->pending[i - 1];
    w->pending[i] = point;
}

static void
word_decompose(word *w, uint32_t point)
{
    if (!w->step->decompose) {
        word_lower(w, point);
        return;
    }
    uint32_t parts[RP_UNICODE_PARTS_MAX];
    const size_t count = rp_unicode_decompose(point, parts);
    for (size_t i = 0; i < count; i++) {
        const rp_unicode_record *record = rp_unicode_of(parts[i]);
        if (record->combining_class == 0)
            pending_flush(w); /* also before a dropped mark of class 0 */
        if (w->step->drop_marks && record->flags & RP_UNICODE_MARK)
            continue;
        if (record->combining_class)
            pending_add(w, parts[i], record->combining_class);
        else
            word_lower(w, parts[i]);
    }
}

static void
word_normalize(word *w, uint32_t point)
{
    if (!w->step) {
        word_split(w, point);
        return;
    }
    const uint16_t flags = rp_unicode_of(point)->flags;
    if (w->step->clean && flags & RP_UNICODE_REMOVED)
        return;
    if (w->step->clean && flags & RP_UNICODE_CLEAN_SPACE)
        point = ' ';
    const bool chinese = w->step->chinese && flags & RP_UNICODE_CHINESE;
    if (chinese)
        word_decompose(w, ' ');
    word_decompose(w, point);
    if (chinese)
        word_decompose(w, ' ');
}

/* A word of ASCII letters and digits that begins at `at`, when no word is open.
 * Returns where it ends, or `at` if what follows it may belong to the same word. */
static const char *
ascii_word(word *w, const char *at, const char *end)
{
    const rp_wordpiece *model = w->model;
    uint32_t node = 0;
    const char *p = at, *matched = at;
    int32_t id = -1;
    uint8_t byte = 0;
    bool walking = true;
    for (; p < end && (byte = (uint8_t)*p) < 128 && model->ascii_kind[byte] == KIND_WORD; p++) {
        if (!walking)
            continue;
        node = rp_trie_step(&model->trie, node, model->ascii_lower[byte]);
        if (node == 0) {
            walking = false;
        } else if (model->trie.values[node] >= 0) {
            id = model->trie.values[node];
            matched = p + 1;
        }
    }
    if (p < end && (byte >= 128 || model->ascii_kind[byte] == KIND_REMOVED))
        return at;
    const size_t len = (size_t)(p - at);
    if (len > model->chars_max) {
        rp_sink_put(w->sink, model->unk);
    } else if (matched == p) {
        rp_sink_put(w->sink, id);
    } else {
        for (size_t i = 0; i < len; i++)
            w->bytes[i] = (char)model->ascii_lower[(uint8_t)at[i]];
        match_word(model, (rp_str){ w->bytes, len }, w->sink);
    }
    return p;
}

static const char *
ascii_byte(word *w, const char *at, const char *end)
{
    const uint8_t byte = (uint8_t)*at;
    const uint8_t kind = w->model->ascii_kind[byte];
    if (kind == KIND_REMOVED) /* not even an end to a run of combining characters */
        return at + 1;
    pending_flush(w);
    if (kind == KIND_WORD) {
        if (w->chars == 0) {
            const char *stop = ascii_word(w, at, end);
            if (stop != at)
                return stop;
        }
        word_add(w, w->model->ascii_lower[byte]);
    } else {
        word_end(w);
        if (kind == KIND_PUNCTUATION) {
            const uint32_t node = rp_trie_step(&w->model->trie, 0, byte);
            const int32_t id = node ? w->model->trie.values[node] : -1;
            rp_sink_put(w->sink, id >= 0 && w->model->chars_max >= 1 ? id : w->model->unk);
        }
    }
    return at + 1;
}

void
rp_wordpiece_encode(const rp_wordpiece *wordpiece, const rp_normalize *step, rp_str text,
                    rp_sink *sink)
{
    word w;
    w.model = wordpiece;
    w.step = step;
    w.sink = sink;
    w.len = w.chars = w.pending_count = 0;
    const char *at = text.ptr, *const end = text.ptr + text.len;
    while (at < end) {
        if ((uint8_t)*at < 128)
            at = ascii_byte(&w, at, end);
        else
            word_normalize(&w, rp_utf8_next(&at, end));
    }
    pending_flush(&w);
    word_end(&w);
}
