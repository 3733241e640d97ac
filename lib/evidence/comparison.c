/* comparison.c - see comparison.h. */
#include "comparison.h"

#include "base/bytes.h"

#include <stdio.h>

enum { FRAME_SENTENCE = 6 }; /* words; measured: docs/policies.md, "Templates" */

static void
collect_leftover(const rp_features *features, const int16_t *partner, size_t count, bool own_place,
                 rp_leftover *out)
{
    int16_t place = -1;
    out->count = 0;
    out->is_cut = false;
    for (size_t i = 0; i < count; i++) {
        if (partner[i] >= 0) {
            place = own_place ? (int16_t)i : partner[i];
            continue;
        }
        if (out->count == RP_LEFTOVER_MAX) {
            out->is_cut = true;
            return;
        }
        out->words[out->count] = &features->words[i];
        out->index[out->count] = (uint16_t)i;
        out->place[out->count] = place;
        out->elsewhere[out->count] = false;
        out->used[out->count++] = false;
    }
}

/* Which leftovers stand elsewhere in the other prompt: a leftover of the other side
 * with the same stem is the same word moved. */
static void
find_moved(rp_comparison *c)
{
    size_t moved = 0;
    bool taken[RP_LEFTOVER_MAX] = { false };
    for (size_t i = 0; i < c->left_a.count; i++)
        for (size_t j = 0; j < c->left_b.count; j++)
            if (!taken[j] && c->left_a.words[i]->stem == c->left_b.words[j]->stem) {
                c->left_a.elsewhere[i] = c->left_b.elsewhere[j] = taken[j] = true;
                moved++;
                break;
            }
    const size_t total = c->alignment.a_count + c->alignment.b_count;
    c->bag = total ? 2.0f * (float)(c->alignment.matches + moved) / (float)total : 1.0f;
}

/* The ratio as if the shorter text had been a sentence: what it lacks to FRAME_SENTENCE
 * words stands in the frame. Not all of the frame counts: a long instruction would
 * make everything near (docs/policies.md, "Templates"). */
static float
framed_ratio(const rp_alignment *alignment)
{
    const size_t shorter = RP_MIN(alignment->a_count, alignment->b_count);
    const size_t frame = shorter < FRAME_SENTENCE ? FRAME_SENTENCE - shorter : 0;
    const size_t total = alignment->a_count + alignment->b_count + 2 * frame;
    return 2.0f * (float)(alignment->matches + frame) / (float)total;
}

void
rp_compare(const rp_features *a, const rp_features *b, const rp_gate_options *options,
           bool with_detail, rp_gate_report *report, rp_comparison *out)
{
    /* Several alignments can be equally long, and which is found depends on the order of
     * the two. A fixed order makes the comparison symmetric. */
    out->swapped = rp_str_compare(a->text, b->text) > 0;
    out->a = out->swapped ? b : a;
    out->b = out->swapped ? a : b;
    out->options = options;
    out->with_detail = with_detail;
    out->report = report;
    report->fired = report->noted = 0;
    if (with_detail)
        memset(report->detail, 0, sizeof report->detail);
    rp_align(out->a, out->b, &out->alignment);
    if (options->in_frame)
        out->alignment.ratio = framed_ratio(&out->alignment);
    report->alignment = out->alignment.ratio;
    collect_leftover(out->a, out->alignment.a_to_b, out->alignment.a_count, false, &out->left_a);
    collect_leftover(out->b, out->alignment.b_to_a, out->alignment.b_count, true, &out->left_b);
    find_moved(out);
}

void
rp_gate_say(rp_comparison *c, rp_gate gate, bool fires, rp_str seen_a, rp_str seen_b)
{
    rp_gate_report *out = c->report;
    if (fires)
        out->fired |= 1u << gate;
    else
        out->noted |= 1u << gate;
    if (c->swapped) {
        const rp_str seen = seen_a;
        seen_a = seen_b;
        seen_b = seen;
    }
    if (c->with_detail && !out->detail[gate][0])
        snprintf(out->detail[gate], RP_GATE_DETAIL_SIZE, "%.*s | %.*s",
                 (int)RP_MIN(seen_a.len, 44), seen_a.ptr ? seen_a.ptr : "",
                 (int)RP_MIN(seen_b.len, 44), seen_b.ptr ? seen_b.ptr : "");
}
