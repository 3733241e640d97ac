/* observations.c - the table of observations.h.
 *
 * A packed observation: bits 0..18 count, bit 19 label, bits 20..31 thousandths + 1000.
 *
 * Saved (little-endian): u64 entries; each u64 id, u32 count, count * u32 packed. */
#include "observations.h"

#include "base/bytes.h"
#include <math.h>
#include <stdlib.h>

typedef struct rp_observation_slot {
    rp_entry_id id;
    uint32_t *packed; /* owned */
    uint16_t count, capacity;
} rp_observation_slot;

static uint32_t
pack(rp_observation o)
{
    return (uint32_t)(o.thousandths + 1000) << 20 | (uint32_t)o.right << 19 | o.count;
}

static rp_observation
unpack(uint32_t packed)
{
    return (rp_observation){ (int)(packed >> 20) - 1000, packed >> 19 & 1,
                             packed & RP_OBSERVATION_COUNT_MAX };
}

void
rp_observations_init(rp_observation_table *table)
{
    *table = (rp_observation_table){ 0 };
    rp_id_table_init(&table->slots, sizeof(rp_observation_slot));
}

void
rp_observations_fini(rp_observation_table *table)
{
    rp_observation_slot *slot = NULL;
    while ((slot = rp_id_table_next(&table->slots, slot)))
        free(slot->packed);
    rp_id_table_fini(&table->slots);
    table->packed_bytes = 0;
}

/* Make room by merging the two nearest pairs of one label. With at least three pairs
 * two share a label. */
static void
merge_nearest(rp_observation_slot *slot)
{
    size_t best_i = 0, best_j = 0;
    int best = 1 << 20;
    for (size_t i = 0; i < slot->count; i++)
        for (size_t j = i + 1; j < slot->count; j++) {
            const rp_observation a = unpack(slot->packed[i]), b = unpack(slot->packed[j]);
            const int distance = abs(a.thousandths - b.thousandths);
            if (a.right == b.right && distance < best)
                best = distance, best_i = i, best_j = j;
        }
    rp_observation a = unpack(slot->packed[best_i]), b = unpack(slot->packed[best_j]);
    const double mean = ((double)a.thousandths * a.count + (double)b.thousandths * b.count)
                        / (a.count + b.count);
    a.thousandths = (int)lround(mean);
    a.count = RP_MIN(a.count + b.count, (unsigned)RP_OBSERVATION_COUNT_MAX);
    slot->packed[best_i] = pack(a);
    slot->packed[best_j] = slot->packed[--slot->count];
}

static bool
add_packed(rp_observation_table *table, rp_observation_slot *slot, rp_observation added)
{
    for (size_t i = 0; i < slot->count; i++) {
        rp_observation o = unpack(slot->packed[i]);
        if (o.thousandths == added.thousandths && o.right == added.right) {
            o.count = RP_MIN(o.count + added.count, (unsigned)RP_OBSERVATION_COUNT_MAX);
            slot->packed[i] = pack(o);
            return true;
        }
    }
    if (slot->count == RP_OBSERVATIONS_MAX)
        merge_nearest(slot);
    if (slot->count == slot->capacity) {
        const uint16_t capacity
            = (uint16_t)RP_MIN(slot->capacity ? slot->capacity * 2 : 2, RP_OBSERVATIONS_MAX);
        uint32_t *packed = realloc(slot->packed, capacity * sizeof *packed);
        if (!packed)
            return false;
        table->packed_bytes += (capacity - slot->capacity) * sizeof *packed;
        slot->packed = packed;
        slot->capacity = capacity;
    }
    slot->packed[slot->count++] = pack(added);
    return true;
}

bool
rp_observations_add(rp_observation_table *table, rp_entry_id id, double similarity, bool right)
{
    if (id == 0 || !isfinite(similarity))
        return false;
    const double bounded = fmax(-1, fmin(1, similarity));
    rp_observation_slot *slot = rp_id_table_get(&table->slots, id);
    if (!slot)
        return false;
    if (!add_packed(table, slot, (rp_observation){ (int)lround(bounded * 1000), right, 1 })) {
        if (!slot->count)
            rp_id_table_remove(&table->slots, slot);
        return false;
    }
    return true;
}

size_t
rp_observations_get(const rp_observation_table *table, rp_entry_id id, rp_observation *out)
{
    const rp_observation_slot *slot = rp_id_table_find(&table->slots, id);
    for (size_t i = 0; slot && i < slot->count; i++)
        out[i] = unpack(slot->packed[i]);
    return slot ? slot->count : 0;
}

void
rp_observations_forget(rp_observation_table *table, rp_entry_id id)
{
    rp_observation_slot *slot = rp_id_table_find(&table->slots, id);
    if (!slot)
        return;
    table->packed_bytes -= slot->capacity * sizeof *slot->packed;
    free(slot->packed);
    rp_id_table_remove(&table->slots, slot);
}

size_t
rp_observations_size_bytes(const rp_observation_table *table)
{
    return rp_id_table_size_bytes(&table->slots) + table->packed_bytes;
}

void
rp_observations_save(const rp_observation_table *table, rp_buffer *out)
{
    rp_buffer_append_le64(out, table->slots.count);
    const rp_observation_slot *slot = NULL;
    while ((slot = rp_id_table_next(&table->slots, slot))) {
        rp_buffer_append_le64(out, slot->id);
        rp_buffer_append_le32(out, slot->count);
        for (size_t k = 0; k < slot->count; k++)
            rp_buffer_append_le32(out, slot->packed[k]);
    }
}

static bool
restore_slot(rp_observation_table *table, rp_str *bytes)
{
    if (bytes->len < 12)
        return false;
    const rp_entry_id id = rp_load_le64(bytes->ptr);
    const uint32_t count = rp_load_le32(bytes->ptr + 8);
    if (id == 0 || count == 0 || count > RP_OBSERVATIONS_MAX || bytes->len < 12 + 4 * (size_t)count)
        return false;
    if (rp_id_table_find(&table->slots, id))
        return false; /* twice */
    rp_observation_slot *slot = rp_id_table_get(&table->slots, id);
    if (!slot)
        return false;
    for (size_t k = 0; k < count; k++) {
        const rp_observation o = unpack(rp_load_le32(bytes->ptr + 12 + 4 * k));
        if (o.count == 0 || o.thousandths > 1000 || !add_packed(table, slot, o))
            return false;
    }
    *bytes = (rp_str){ bytes->ptr + 12 + 4 * count, bytes->len - 12 - 4 * count };
    return true;
}

bool
rp_observations_restore(rp_observation_table *table, rp_str *bytes)
{
    rp_observation_table restored;
    rp_str rest = *bytes;
    rp_observations_init(&restored);
    if (rest.len < 8)
        return false;
    const uint64_t count = rp_load_le64(rest.ptr);
    rest = (rp_str){ rest.ptr + 8, rest.len - 8 };
    bool sound = count <= rest.len / 16; /* the smallest entry has 16 bytes */
    for (uint64_t i = 0; i < count && sound; i++)
        sound = restore_slot(&restored, &rest);
    if (!sound) {
        rp_observations_fini(&restored);
        return false;
    }
    rp_observations_fini(table);
    *table = restored;
    *bytes = rest;
    return true;
}
