/* text_set.c - see text_set.h: an open hash table over XXH3, at most half full. */
#include "eval/text_set.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <stdlib.h>

void
rp_text_set_init(rp_text_set *set)
{
    *set = (rp_text_set){ 0 };
    rp_arena_init(&set->arena, 0);
}

void
rp_text_set_fini(rp_text_set *set)
{
    free(set->texts);
    free(set->slots);
    rp_arena_fini(&set->arena);
}

/* Where the text is, or the free slot where it belongs. */
static size_t
slot_of(const rp_text_set *set, rp_str text)
{
    size_t at = rp_hash64(text) & (set->slot_count - 1);
    while (set->slots[at] && !rp_str_equal(set->texts[set->slots[at] - 1], text))
        at = (at + 1) & (set->slot_count - 1);
    return at;
}

static rp_status
grow(rp_text_set *set)
{
    const size_t capacity = set->capacity ? 2 * set->capacity : 512;
    rp_str *texts = realloc(set->texts, capacity * sizeof *texts);
    if (texts)
        set->texts = texts;
    uint32_t *slots = calloc(2 * capacity, sizeof *slots);
    if (!texts || !slots) {
        free(slots);
        return RP_ERR_NOMEM;
    }
    free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    set->slot_count = 2 * capacity;
    for (size_t i = 0; i < set->count; i++)
        slots[slot_of(set, set->texts[i])] = (uint32_t)i + 1;
    return RP_OK;
}

bool
rp_text_set_find(const rp_text_set *set, rp_str text, uint32_t *out)
{
    const uint32_t found = set->slot_count ? set->slots[slot_of(set, text)] : 0;
    if (found)
        *out = found - 1;
    return found;
}

rp_status
rp_text_set_add(rp_text_set *set, rp_str text, uint32_t *out)
{
    if (set->count == RP_TEXT_SET_MAX)
        return RP_ERR_LIMIT;
    if (set->count == set->capacity && grow(set) != RP_OK)
        return RP_ERR_NOMEM;
    const size_t at = slot_of(set, text);
    if (!set->slots[at]) {
        const rp_str copy = rp_arena_copy(&set->arena, text);
        if (!copy.ptr)
            return RP_ERR_NOMEM;
        set->texts[set->count] = copy;
        set->slots[at] = (uint32_t)++set->count;
    }
    *out = set->slots[at] - 1;
    return RP_OK;
}
