/* id_table.h - rows of one size by entry id: open addressing that stays small.
 *
 * A row is a struct that begins with its rp_entry_id; 0 is a free row. The table grows by
 * a quarter, not by doubling: it is held beside every entry, and 100 bytes an entry are all
 * that learned state may take. A row moves when others are added or removed: no pointer
 * into the table outlives the next such call.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_POLICY_ID_TABLE_H
#define RP_POLICY_ID_TABLE_H

#include <reprise/types.h>

typedef struct rp_id_table {
    char *rows; /* owned */
    size_t row_size, capacity, count;
} rp_id_table;

void rp_id_table_init(rp_id_table *table, size_t row_size);
/* What rows own is the caller's to free first. */
void rp_id_table_fini(rp_id_table *table);
/* NULL: there is none. */
void *rp_id_table_find(const rp_id_table *table, rp_entry_id id);
/* Made if there is none, with all but its id cleared; NULL: no memory. `id` is not 0. */
void *rp_id_table_get(rp_id_table *table, rp_entry_id id);
/* `row` lies in the table. */
void rp_id_table_remove(rp_id_table *table, void *row);
/* All rows, in no order: after NULL the first, NULL after the last. */
void *rp_id_table_next(const rp_id_table *table, const void *row);
static inline size_t
rp_id_table_size_bytes(const rp_id_table *table)
{
    return table->capacity * table->row_size;
}

#endif
