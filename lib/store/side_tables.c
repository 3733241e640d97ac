/* side_tables.c - see side_tables.h. Open addressing with linear probing, load at most
 * one half: both are small and read far more often than changed. */
#include "store/side_tables.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "store/store.h"

#include <stdlib.h>

enum {
    SIZE_MIN = 64,
    SAMPLE_COUNT = 64, /* a guess: the one that goes is older than 98 % of all, on average */
};

/* ---- credentials ------------------------------------------------------------ */

static size_t
home_of(const rp_credentials *table, const uint8_t hash[32])
{
    return rp_load_le64(hash) & table->mask; /* the hash is an HMAC: any bits will do */
}

static rp_credential *
find_place(const rp_credentials *table, const uint8_t hash[32])
{
    size_t at = home_of(table, hash);
    while (table->places[at].accepted && memcmp(table->places[at].hash, hash, 32) != 0)
        at = (at + 1) & table->mask;
    return &table->places[at];
}

rp_credential *
rp_credentials_find(const rp_credentials *table, const uint8_t hash[32])
{
    if (!table->count)
        return NULL;
    rp_credential *place = find_place(table, hash);
    return place->accepted ? place : NULL;
}

static bool
grow_credentials(rp_credentials *table)
{
    const size_t size = table->places ? (table->mask + 1) * 2 : SIZE_MIN;
    rp_credentials grown = { calloc(size, sizeof(rp_credential)), size - 1, table->count };
    if (!grown.places)
        return false;
    for (size_t i = 0; table->places && i <= table->mask; i++)
        if (table->places[i].accepted)
            *find_place(&grown, table->places[i].hash) = table->places[i];
    free(table->places);
    *table = grown;
    return true;
}

/* The oldest of a few neighbours of an arbitrary place. */
static const rp_credential *
choose_oldest(const rp_credentials *table, const uint8_t hash[32])
{
    const rp_credential *oldest = NULL;
    size_t at = home_of(table, hash);
    for (unsigned seen = 0; seen < SAMPLE_COUNT; at = (at + 1) & table->mask) {
        const rp_credential *place = &table->places[at];
        if (!place->accepted)
            continue;
        seen++;
        if (!oldest || place->accepted < oldest->accepted)
            oldest = place;
    }
    return oldest;
}

rp_credential *
rp_credentials_make(rp_credentials *table, const uint8_t hash[32], uint8_t dropped[32],
                    bool *has_dropped)
{
    *has_dropped = false;
    rp_credential *place = rp_credentials_find(table, hash);
    if (place)
        return place;
    if (table->count >= RP_CREDENTIALS_MAX) {
        memcpy(dropped, choose_oldest(table, hash)->hash, 32);
        rp_credentials_remove(table, dropped);
        *has_dropped = true;
    }
    if ((!table->places || (table->count + 1) * 2 > table->mask + 1) && !grow_credentials(table))
        return NULL;
    place = find_place(table, hash);
    memcpy(place->hash, hash, 32);
    place->persisted = 0;
    place->accepted = 1; /* taken; the caller sets the time */
    table->count++;
    return place;
}

bool
rp_credentials_remove(rp_credentials *table, const uint8_t hash[32])
{
    rp_credential *found = rp_credentials_find(table, hash);
    if (!found)
        return false;
    size_t hole = (size_t)(found - table->places);
    for (size_t at = (hole + 1) & table->mask; table->places[at].accepted;
         at = (at + 1) & table->mask) {
        const size_t home = home_of(table, table->places[at].hash);
        if (((at - home) & table->mask) >= ((at - hole) & table->mask)) {
            table->places[hole] = table->places[at];
            hole = at;
        }
    }
    table->places[hole] = (rp_credential){ 0 };
    table->count--;
    return true;
}

void
rp_credentials_fini(rp_credentials *table)
{
    free(table->places);
    *table = (rp_credentials){ 0 };
}

size_t
rp_credentials_size_bytes(const rp_credentials *table)
{
    return table->places ? (table->mask + 1) * sizeof(rp_credential) : 0;
}

/* ---- epochs ----------------------------------------------------------------- */

static rp_epoch_row *
find_row(const rp_epochs *table, rp_str name)
{
    size_t at = rp_hash64(name) & table->mask;
    while (table->places[at].name.ptr && !rp_str_equal(table->places[at].name, name))
        at = (at + 1) & table->mask;
    return &table->places[at];
}

uint64_t
rp_epochs_get(const rp_epochs *table, rp_str name)
{
    return table->count ? find_row(table, name)->value : 0;
}

bool
rp_epochs_reserve(rp_epochs *table)
{
    if (table->places && (table->count + 1) * 2 <= table->mask + 1)
        return true;
    const size_t size = table->places ? (table->mask + 1) * 2 : SIZE_MIN;
    rp_epochs grown = { calloc(size, sizeof(rp_epoch_row)), size - 1, table->count };
    if (!grown.places)
        return false;
    for (size_t i = 0; table->places && i <= table->mask; i++)
        if (table->places[i].name.ptr)
            *find_row(&grown, table->places[i].name) = table->places[i];
    free(table->places);
    *table = grown;
    return true;
}

bool
rp_epochs_set(rp_epochs *table, rp_str name, uint64_t value)
{
    if (!rp_epochs_reserve(table))
        return false;
    rp_epoch_row *row = find_row(table, name);
    if (!row->name.ptr) {
        char *copy = malloc(name.len + 1);
        if (!copy)
            return false;
        if (name.len)
            memcpy(copy, name.ptr, name.len);
        row->name = (rp_str){ copy, name.len };
        table->count++;
        /* cppcheck-suppress memleak ; the table owns the copy */
    }
    row->value = value;
    return true;
}

void
rp_epochs_fini(rp_epochs *table)
{
    for (size_t i = 0; table->places && i <= table->mask; i++)
        free((char *)(uintptr_t)table->places[i].name.ptr);
    free(table->places);
    *table = (rp_epochs){ 0 };
}

size_t
rp_epochs_size_bytes(const rp_epochs *table)
{
    return table->places ? (table->mask + 1) * sizeof(rp_epoch_row) : 0;
}
