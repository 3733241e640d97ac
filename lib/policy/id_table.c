/* id_table.c - the table of id_table.h: linear probing, deletion by moving back. */
#include "id_table.h"

#include <stdlib.h>
#include <string.h>

enum { GROW_MIN = 64 };

void
rp_id_table_init(rp_id_table *table, size_t row_size)
{
    *table = (rp_id_table){ .row_size = row_size };
}

void
rp_id_table_fini(rp_id_table *table)
{
    free(table->rows);
    rp_id_table_init(table, table->row_size);
}

static void *
row_at(const rp_id_table *table, size_t at)
{
    return table->rows + at * table->row_size;
}

static rp_entry_id
id_at(const rp_id_table *table, size_t at)
{
    rp_entry_id id;
    memcpy(&id, row_at(table, at), sizeof id);
    return id;
}

static size_t
home_of(const rp_id_table *table, rp_entry_id id)
{
    const uint64_t spread = id * 0x9e3779b97f4a7c15u >> 32;
    return (size_t)(spread * table->capacity >> 32); /* capacities are no powers of two */
}

static size_t
next_of(const rp_id_table *table, size_t at)
{
    return at + 1 == table->capacity ? 0 : at + 1;
}

/* Steps from one place to another, round the end. */
static size_t
steps_between(const rp_id_table *table, size_t from, size_t to)
{
    return to >= from ? to - from : to + table->capacity - from;
}

/* The place of an entry, or the free one where it would stand. */
static size_t
place_of(const rp_id_table *table, rp_entry_id id)
{
    size_t at = home_of(table, id);
    while (id_at(table, at) && id_at(table, at) != id)
        at = next_of(table, at);
    return at;
}

static bool
grow(rp_id_table *table)
{
    rp_id_table larger = *table;
    larger.capacity = table->capacity + table->capacity / 4 + GROW_MIN;
    larger.rows = calloc(larger.capacity, larger.row_size);
    if (!larger.rows)
        return false;
    for (size_t i = 0; i < table->capacity; i++)
        if (id_at(table, i))
            memcpy(row_at(&larger, place_of(&larger, id_at(table, i))), row_at(table, i),
                   table->row_size);
    free(table->rows);
    *table = larger;
    return true;
}

void *
rp_id_table_find(const rp_id_table *table, rp_entry_id id)
{
    if (!table->capacity || id == 0)
        return NULL;
    const size_t at = place_of(table, id);
    return id_at(table, at) ? row_at(table, at) : NULL;
}

void *
rp_id_table_get(rp_id_table *table, rp_entry_id id)
{
    void *row = rp_id_table_find(table, id);
    if (row)
        return row;
    if (8 * (table->count + 1) > 7 * table->capacity && !grow(table))
        return NULL;
    row = row_at(table, place_of(table, id));
    memcpy(row, &id, sizeof id);
    table->count++;
    return row;
}

void
rp_id_table_remove(rp_id_table *table, void *row)
{
    /* Close the gap: move back whatever would not be found across it. */
    size_t hole = (size_t)((char *)row - table->rows) / table->row_size;
    for (size_t at = next_of(table, hole); id_at(table, at); at = next_of(table, at)) {
        const size_t home = home_of(table, id_at(table, at));
        if (steps_between(table, home, at) >= steps_between(table, hole, at)) {
            memcpy(row_at(table, hole), row_at(table, at), table->row_size);
            hole = at;
        }
    }
    memset(row_at(table, hole), 0, table->row_size);
    table->count--;
}

void *
rp_id_table_next(const rp_id_table *table, const void *row)
{
    size_t at = row ? (size_t)((const char *)row - table->rows) / table->row_size + 1 : 0;
    while (at < table->capacity && !id_at(table, at))
        at++;
    return at < table->capacity ? row_at(table, at) : NULL;
}
