/* observations.c - the table of observations.h.
 *
 * Open addressing, linear probing, deletion by moving back. A packed observation:
 * bits 0..18 count, bit 19 label, bits 20..31 thousandths + 1000.
 *
 * Saved (little-endian): u64 entries; each u64 id, u32 count, count * u32 packed. */
#include "observations.h"

#include "base/bytes.h"
#include <math.h>
#include <stdlib.h>

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
}

void
rp_observations_fini(rp_observation_table *table)
{
    for (size_t i = 0; i < table->capacity; i++)
        free(table->slots[i].packed);
    free(table->slots);
    rp_observations_init(table);
}

static size_t
home_of(const rp_observation_table *table, rp_entry_id id)
{
    const uint64_t spread = id * 0x9e3779b97f4a7c15u >> 32;
    return (size_t)(spread * table->capacity >> 32); /* capacities are no powers of two */
}

static size_t
next_of(const rp_observation_table *table, size_t at)
{
    return at + 1 == table->capacity ? 0 : at + 1;
}

/* Steps from one place to another, round the end. */
static size_t
steps_between(const rp_observation_table *table, size_t from, size_t to)
{
    return to >= from ? to - from : to + table->capacity - from;
}

static rp_observation_slot *
find_slot(const rp_observation_table *table, rp_entry_id id)
{
    size_t at = home_of(table, id);
    while (table->slots[at].id && table->slots[at].id != id)
        at = next_of(table, at);
    return &table->slots[at];
}

static bool
grow(rp_observation_table *table)
{
    rp_observation_table larger = *table;
    larger.capacity = table->capacity + table->capacity / 4 + 64;
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].id)
            *find_slot(&larger, table->slots[i].id) = table->slots[i];
    free(table->slots);
    *table = larger;
    return true;
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
    if (8 * (table->count + 1) > 7 * table->capacity && !grow(table))
        return false;
    const double bounded = fmax(-1, fmin(1, similarity));
    rp_observation_slot *slot = find_slot(table, id);
    const bool is_new = slot->id == 0;
    slot->id = id;
    if (!add_packed(table, slot, (rp_observation){ (int)lround(bounded * 1000), right, 1 })) {
        if (is_new)
            slot->id = 0;
        return false;
    }
    table->count += is_new;
    return true;
}

size_t
rp_observations_get(const rp_observation_table *table, rp_entry_id id, rp_observation *out)
{
    if (!table->capacity || id == 0)
        return 0;
    const rp_observation_slot *slot = find_slot(table, id);
    for (size_t i = 0; i < slot->count && slot->id; i++)
        out[i] = unpack(slot->packed[i]);
    return slot->id ? slot->count : 0;
}

void
rp_observations_forget(rp_observation_table *table, rp_entry_id id)
{
    if (!table->capacity || id == 0)
        return;
    rp_observation_slot *slot = find_slot(table, id);
    if (!slot->id)
        return;
    table->packed_bytes -= slot->capacity * sizeof *slot->packed;
    free(slot->packed);
    table->count--;
    /* Close the gap: move back whatever would not be found across it. */
    size_t hole = (size_t)(slot - table->slots);
    for (size_t at = next_of(table, hole); table->slots[at].id; at = next_of(table, at)) {
        const size_t home = home_of(table, table->slots[at].id);
        if (steps_between(table, home, at) >= steps_between(table, hole, at)) {
            table->slots[hole] = table->slots[at];
            hole = at;
        }
    }
    table->slots[hole] = (rp_observation_slot){ 0 };
}

size_t
rp_observations_size_bytes(const rp_observation_table *table)
{
    return table->capacity * sizeof *table->slots + table->packed_bytes;
}

void
rp_observations_save(const rp_observation_table *table, rp_buffer *out)
{
    rp_buffer_append_le64(out, table->count);
    for (size_t i = 0; i < table->capacity; i++) {
        const rp_observation_slot *slot = &table->slots[i];
        if (!slot->id)
            continue;
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
    if (8 * (table->count + 1) > 7 * table->capacity && !grow(table))
        return false;
    rp_observation_slot *slot = find_slot(table, id);
    if (slot->id)
        return false; /* twice */
    slot->id = id;
    table->count++;
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
