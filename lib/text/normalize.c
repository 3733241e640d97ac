/* normalize.c - rewrites text as the normalisers of a tokenizer.json do: BertNormalizer
 * (in its parts) and NFC.
 *
 * Canonical ordering needs a run of combining characters at once, and such a run
 * may be as long as the text. Short runs are sorted by insertion, long ones by
 * counting classes, so that no text costs more than linear time. */
#include "base/bytes.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>

void
rp_scratch_init(rp_scratch *scratch)
{
    scratch->ptr = scratch->local;
    scratch->len = 0;
    scratch->capacity = sizeof scratch->local;
    scratch->failed = false;
}

void
rp_scratch_fini(rp_scratch *scratch)
{
    if (scratch->ptr != scratch->local)
        free(scratch->ptr);
}

static bool
scratch_grow(rp_scratch *scratch, size_t size)
{
    if (scratch->failed || size > SIZE_MAX / 4 - scratch->len) {
        scratch->failed = true;
        return false;
    }
    const size_t capacity = RP_MAX(scratch->capacity * 2, scratch->len + size);
    const bool local = scratch->ptr == scratch->local;
    char *grown = realloc(local ? NULL : scratch->ptr, capacity);
    if (!grown) {
        scratch->failed = true;
        return false;
    }
    if (local)
        memcpy(grown, scratch->local, scratch->len);
    scratch->ptr = grown;
    scratch->capacity = capacity;
    return true;
}

bool
rp_scratch_append(rp_scratch *scratch, const char *bytes, size_t size)
{
    if (scratch->capacity - scratch->len < size && !scratch_grow(scratch, size))
        return false;
    if (size)
        memcpy(scratch->ptr + scratch->len, bytes, size);
    scratch->len += size;
    return true;
}

bool
rp_scratch_put(rp_scratch *scratch, uint32_t point)
{
    if (scratch->capacity - scratch->len < 4 && !scratch_grow(scratch, 4))
        return false;
    scratch->len += rp_utf8_put(point, scratch->ptr + scratch->len);
    return true;
}

/* A run of code points, kept as 4-byte values in a scratch. */
static size_t
run_count(const rp_scratch *run)
{
    return run->len / 4;
}

static uint32_t
run_get(const rp_scratch *run, size_t i)
{
    uint32_t point;
    memcpy(&point, run->ptr + 4 * i, 4);
    return point;
}

static void
run_set(rp_scratch *run, size_t i, uint32_t point)
{
    memcpy(run->ptr + 4 * i, &point, 4);
}

static uint8_t
class_of(uint32_t point)
{
    return rp_unicode_of(point)->combining_class;
}

/* Stable, by insertion; `from` .. `to` have classes other than 0. */
static void
order_short(rp_scratch *run, size_t from, size_t to)
{
    for (size_t i = from + 1; i < to; i++) {
        const uint32_t point = run_get(run, i);
        size_t j = i;
        for (; j > from && class_of(run_get(run, j - 1)) > class_of(point); j--)
            run_set(run, j, run_get(run, j - 1));
        run_set(run, j, point);
    }
}

/* Stable, by counting. */
static bool
order_long(rp_scratch *run, size_t from, size_t to)
{
    size_t at[257] = { 0 };
    uint32_t *sorted = malloc((to - from) * sizeof *sorted);
    if (!sorted) {
        run->failed = true;
        return false;
    }
    for (size_t i = from; i < to; i++)
        at[class_of(run_get(run, i)) + 1]++;
    for (size_t c = 1; c < 257; c++)
        at[c] += at[c - 1];
    for (size_t i = from; i < to; i++) {
        const uint32_t point = run_get(run, i);
        sorted[at[class_of(point)]++] = point;
    }
    memcpy(run->ptr + 4 * from, sorted, (to - from) * 4);
    free(sorted);
    return true;
}

/* Canonical ordering of the whole run. */
static bool
run_order(rp_scratch *run)
{
    const size_t count = run_count(run);
    for (size_t i = 0; i < count;) {
        if (class_of(run_get(run, i)) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < count && class_of(run_get(run, end)))
            end++;
        if (end - i <= 32) /* a guess; nearly all runs are of one or two */
            order_short(run, i, end);
        else if (!order_long(run, i, end))
            return false;
        i = end;
    }
    return true;
}

/* Canonical composition of an ordered run (Unicode 15, 3.11, D117). */
static void
run_compose(rp_scratch *run)
{
    const size_t count = run_count(run);
    size_t kept = 0, starter = SIZE_MAX;
    uint8_t last_class = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t point = run_get(run, i);
        const uint8_t class = class_of(point);
        if (starter != SIZE_MAX && (kept == starter + 1 || last_class < class)) {
            const uint32_t composed = rp_unicode_compose(run_get(run, starter), point);
            if (composed) {
                run_set(run, starter, composed);
                continue;
            }
        }
        if (class == 0)
            starter = kept;
        last_class = class;
        run_set(run, kept++, point);
    }
    run->len = 4 * kept;
}

static bool
run_decompose(rp_scratch *run, uint32_t point)
{
    uint32_t parts[RP_UNICODE_PARTS_MAX];
    const size_t count = rp_unicode_decompose(point, parts);
    return rp_scratch_append(run, (const char *)parts, 4 * count);
}

/* NFC. Most text is in it already, so only this is rewritten: a stable character,
 * which can begin but not continue a composition, and the unstable ones after it. */
static bool
compose_text(rp_str text, rp_scratch *out)
{
    rp_scratch run;
    rp_scratch_init(&run);
    const char *const end = text.ptr + text.len;
    const char *copied = text.ptr, *starter = text.ptr, *at = text.ptr;
    while (at < end) {
        const char *next = at;
        if (!(rp_unicode_of(rp_utf8_next(&next, end))->flags & RP_UNICODE_NFC_UNSTABLE)) {
            starter = at;
            at = next;
            continue;
        }
        rp_scratch_append(out, copied, (size_t)(starter - copied));
        run.len = 0;
        at = starter;
        for (bool first = true; at < end; first = false) {
            next = at;
            const uint32_t point = rp_utf8_next(&next, end);
            if (!first && !(rp_unicode_of(point)->flags & RP_UNICODE_NFC_UNSTABLE))
                break;
            run_decompose(&run, point);
            at = next;
        }
        if (run.failed || !run_order(&run))
            break;
        run_compose(&run);
        for (size_t i = 0; i < run_count(&run); i++)
            rp_scratch_put(out, run_get(&run, i));
        copied = starter = at;
    }
    rp_scratch_append(out, copied, (size_t)(end - copied));
    out->failed |= run.failed;
    rp_scratch_fini(&run);
    return !out->failed;
}

static void
put_lower(const rp_normalize *step, uint32_t point, rp_scratch *out)
{
    if (step->lower) {
        rp_scratch_put(out, (uint32_t)((int32_t)point + rp_unicode_of(point)->lower_delta));
        if (point == 0x130) /* the one character with two in lower case */
            rp_scratch_put(out, 0x307);
    } else {
        rp_scratch_put(out, point);
    }
}

static void
flush_run(const rp_normalize *step, rp_scratch *run, rp_scratch *out)
{
    if (run->len == 0)
        return;
    if (run_order(run))
        for (size_t i = 0; i < run_count(run); i++)
            put_lower(step, run_get(run, i), out);
    run->len = 0;
}

static void
put_decomposed(const rp_normalize *step, uint32_t point, rp_scratch *run, rp_scratch *out)
{
    if (!step->decompose) {
        put_lower(step, point, out);
        return;
    }
    uint32_t parts[RP_UNICODE_PARTS_MAX];
    const size_t count = rp_unicode_decompose(point, parts);
    for (size_t i = 0; i < count; i++) {
        const rp_unicode_record *record = rp_unicode_of(parts[i]);
        /* A mark of class 0 ends a run although it is dropped itself. */
        if (record->combining_class == 0)
            flush_run(step, run, out);
        if (step->drop_marks && record->flags & RP_UNICODE_MARK)
            continue;
        if (record->combining_class)
            rp_scratch_append(run, (const char *)&parts[i], 4);
        else
            put_lower(step, parts[i], out);
    }
}

static bool
bert_text(const rp_normalize *step, rp_str text, rp_scratch *out)
{
    rp_scratch run;
    rp_scratch_init(&run);
    const char *at = text.ptr, *const end = text.ptr + text.len;
    while (at < end) {
        uint32_t point = rp_utf8_next(&at, end);
        const uint16_t flags = rp_unicode_of(point)->flags;
        if (step->clean && flags & RP_UNICODE_REMOVED)
            continue;
        if (step->clean && flags & RP_UNICODE_CLEAN_SPACE)
            point = ' ';
        const bool chinese = step->chinese && flags & RP_UNICODE_CHINESE;
        if (chinese)
            put_decomposed(step, ' ', &run, out);
        put_decomposed(step, point, &run, out);
        if (chinese)
            put_decomposed(step, ' ', &run, out);
    }
    flush_run(step, &run, out);
    out->failed |= run.failed;
    rp_scratch_fini(&run);
    return !out->failed;
}

bool
rp_normalize_text(const rp_normalize *step, rp_str text, rp_scratch *out)
{
    return step->nfc ? compose_text(text, out) : bert_text(step, text, out);
}

bool
rp_normalize_keeps(const rp_normalize *step, rp_str text)
{
    if (!step->nfc)
        return false;
    const char *at = text.ptr, *const end = text.ptr + text.len;
    while (at < end) {
        if (end - at >= 8 && !(rp_load_le64(at) & UINT64_C(0x8080808080808080))) {
            at += 8;
            continue;
        }
        if (rp_unicode_of(rp_utf8_next(&at, end))->flags & RP_UNICODE_NFC_UNSTABLE)
            return false;
    }
    return true;
}
