/* store_load.c - from the database into memory, at start.
 *
 * Only the exact and the meta database are read: about 90 bytes an entry, in order. The
 * vectors follow on demand (rp_store_walk_vectors). Entries whose exact row is lost or
 * damaged are found by comparing how many rows the databases have, which costs nothing
 * as long as all is well, and get a new row from their own record. */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/entry.h"
#include "store/store_internal.h"

#include <stdio.h>

enum {
    ROWS_AT_ONCE = 4096, /* rows of a read transaction; a guess: half a millisecond */
    ROWS_SOON = 8,       /* rows whose slots are fetched ahead; a guess */
};

/* ---- meta ------------------------------------------------------------------- */

static rp_status
get_meta(rp_store *store, MDB_txn *txn, rp_str key, rp_buffer *out)
{
    rp_str bytes;
    const int code = rp_database_get(&store->database, txn, RP_TABLE_META, key, &bytes);
    return code ? rp_database_status(code)
                : rp_value_decode(rp_hash64(key), bytes, RP_STATE_SIZE_MAX, out);
}

static rp_status
get_meta_number(rp_store *store, MDB_txn *txn, rp_str key, uint64_t *out)
{
    rp_buffer value;
    rp_buffer_init(&value, 0);
    rp_status status = get_meta(store, txn, key, &value);
    if (status == RP_OK && value.len != 8)
        status = RP_ERR_CORRUPT;
    if (status == RP_OK)
        *out = rp_load_le64(value.ptr);
    rp_buffer_fini(&value);
    return status;
}

static rp_str
format_fingerprint(const char *fingerprint, size_t dim, char out[RP_FINGERPRINT_SIZE + 4])
{
    memcpy(out, fingerprint, RP_FINGERPRINT_SIZE);
    rp_store_le32(out + RP_FINGERPRINT_SIZE, (uint32_t)dim);
    return (rp_str){ out, RP_FINGERPRINT_SIZE + 4 };
}

int
rp_store_write_first(void *context, rp_database *database, MDB_txn *txn)
{
    rp_store *store = context;
    (void)database;
    char number[8], fingerprint[RP_FINGERPRINT_SIZE + 4];
    rp_store_le64(number, RP_FORMAT_VERSION);
    int code = rp_rows_put_value(store, txn, RP_TABLE_META, RP_STR("format"), (rp_str){ number, 8 });
    rp_store_le64(number, 1);
    if (!code)
        code = rp_rows_put_value(store, txn, RP_TABLE_META, RP_STR("next-id"),
                                 (rp_str){ number, 8 });
    if (!code && store->encoder)
        code = rp_rows_put_value(
            store, txn, RP_TABLE_META, RP_STR("fingerprint"),
            format_fingerprint(store->encoder_fingerprint, store->encoder_dim, fingerprint));
    return code;
}

void
rp_store_fingerprint_now(rp_store *store, const char *fingerprint, size_t dim)
{
    /* Readers hold the pointer without a lock: the other buffer is written. */
    const char *now = atomic_load(&store->fingerprint);
    char *next = store->fingerprints[now == store->fingerprints[0]];
    snprintf(next, sizeof store->fingerprints[0], "%s", fingerprint);
    store->stored_encoder =
        *fingerprint ? rp_hash64(rp_str_of(next)) : 0;
    store->stored_dim = dim;
    atomic_store(&store->fingerprint, next);
}

static rp_status
load_head(rp_store *store, MDB_txn *txn, rp_error *error)
{
    const char *path = store->database.path;
    uint64_t version, next_id;
    rp_status status = get_meta_number(store, txn, RP_STR("format"), &version);
    if (status == RP_ERR_STALE || (status == RP_OK && version > RP_FORMAT_VERSION))
        return rp_fail(error, RP_ERR_STALE,
                       "%s was written by a newer program; this one reads format %d", path,
                       RP_FORMAT_VERSION);
    if (status == RP_OK)
        status = get_meta_number(store, txn, RP_STR("next-id"), &next_id);
    if (status != RP_OK)
        return rp_fail(error, RP_ERR_CORRUPT, "%s: its format or next-id row cannot be read", path);
    store->id_next = RP_MAX(next_id, (uint64_t)1);
    store->id_bound = store->id_next; /* the writer reserves before it gives any out */

    rp_buffer value;
    rp_buffer_init(&value, 0);
    status = get_meta(store, txn, RP_STR("fingerprint"), &value);
    if (status == RP_OK && value.len == RP_FINGERPRINT_SIZE + 4) {
        char text[RP_FINGERPRINT_SIZE + 1] = { 0 };
        memcpy(text, value.ptr, RP_FINGERPRINT_SIZE);
        rp_store_fingerprint_now(store, text, rp_load_le32(value.ptr + RP_FINGERPRINT_SIZE));
    } else if (status != RP_ERR_NOT_FOUND) {
        store->stats.damaged++; /* then no vector is usable until the next reembed */
    }
    rp_buffer_fini(&value);
    return RP_OK;
}

static void
load_side_row(rp_store *store, rp_str key, rp_str payload)
{
    static const rp_str credential = { "credential/", 11 }, epoch = { "epoch/", 6 };
    if (payload.len != 8)
        return;
    const uint64_t number = rp_load_le64(payload.ptr);
    if (rp_str_starts_with(key, credential) && key.len == credential.len + 32) {
        uint8_t dropped[32];
        bool has_dropped;
        rp_credential *place = rp_credentials_make(
            &store->credentials, (const uint8_t *)key.ptr + credential.len, dropped, &has_dropped);
        if (place)
            place->accepted = place->persisted = (rp_time)RP_MAX(number, (uint64_t)1);
    } else if (rp_str_starts_with(key, epoch)) {
        const rp_str name = { key.ptr + epoch.len, key.len - epoch.len };
        /* An epoch that is forgotten would bring back what was flushed. */
        if (!rp_epochs_set(&store->epochs, name, number))
            store->stats.damaged++;
    }
}

/* Credentials and epochs; named states stay where they are. */
static rp_status
load_side_tables(rp_store *store, MDB_txn *txn, rp_error *error)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = mdb_cursor_open(txn, store->database.tables[RP_TABLE_META], &cursor);
    if (code)
        return rp_fail(error, rp_database_status(code), "cannot read %s", store->database.path);
    rp_status status = RP_OK;
    for (code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !code && status == RP_OK;
         code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        const rp_str name = { key.mv_data, key.mv_size };
        if (!rp_str_starts_with(name, RP_STR("credential/")) &&
            !rp_str_starts_with(name, RP_STR("epoch/")))
            continue;
        rp_buffer payload;
        rp_buffer_init(&payload, 0);
        status = rp_value_decode(rp_hash64(name), (rp_str){ value.mv_data, value.mv_size }, 64,
                                 &payload);
        if (status == RP_OK)
            load_side_row(store, name, rp_buffer_str(&payload));
        rp_buffer_fini(&payload);
        if (status != RP_OK && rp_str_starts_with(name, RP_STR("epoch/"))) {
            /* Its number is lost; a guess could make flushed entries reachable again. */
            status = rp_fail(error, RP_ERR_CORRUPT, "%s: an epoch row is damaged",
                             store->database.path);
        } else if (status != RP_OK) {
            store->stats.damaged++; /* that credential has to be accepted again */
            status = RP_OK;
        }
    }
    mdb_cursor_close(cursor);
    return status;
}

static void
load_outcome_bounds(rp_store *store, MDB_txn *txn)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    store->outcome_count = rp_database_rows(&store->database, txn, RP_TABLE_OUTCOME);
    store->outcome_next = 1;
    if (mdb_cursor_open(txn, store->database.tables[RP_TABLE_OUTCOME], &cursor) != 0)
        return;
    if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == 0 && key.mv_size == 8)
        store->outcome_next = rp_load_le64(key.mv_data) + 1;
    mdb_cursor_close(cursor);
}

/* ---- exact rows ------------------------------------------------------------- */

typedef struct loaded_row {
    uint64_t fingerprint;
    rp_exact_row row;
} loaded_row;

/* Read up to ROWS_AT_ONCE rows behind *last_key. */
static size_t
read_rows(rp_store *store, char last_key[sizeof(rp_key)], bool *is_first, loaded_row *out,
          bool *ends)
{
    size_t count = 0;
    *ends = true;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return 0;
    MDB_cursor *cursor;
    if (mdb_cursor_open(reader->txn, store->database.tables[RP_TABLE_EXACT], &cursor) == 0) {
        MDB_val key = { sizeof(rp_key), last_key }, value;
        int code = mdb_cursor_get(cursor, &key, &value, *is_first ? MDB_FIRST : MDB_SET_RANGE);
        if (!code && !*is_first && key.mv_size == sizeof(rp_key) &&
            memcmp(key.mv_data, last_key, sizeof(rp_key)) == 0)
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        while (!code && count < ROWS_AT_ONCE) {
            const rp_str key_str = { key.mv_data, key.mv_size };
            if (rp_exact_row_decode(key_str, (rp_str){ value.mv_data, value.mv_size },
                                    &out[count].row) == RP_OK) {
                out[count++].fingerprint = rp_load_le64(key_str.ptr);
            } else {
                store->stats.damaged++;
            }
            if (key.mv_size == sizeof(rp_key))
                memcpy(last_key, key.mv_data, sizeof(rp_key));
            *is_first = false;
            *ends = false;
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    rp_database_read_end(&store->database, reader);
    return count;
}

static bool
grow_slots(rp_store *store, size_t more)
{
    rp_slots_growth growth;
    if (!rp_slots_growth_prepare(&store->slots, store->slots.count + more, &growth))
        return false;
    pthread_mutex_lock(&store->lock);
    rp_slots_growth_swap(&store->slots, &growth);
    const bool reserved = rp_slots_reserve(&store->slots, more);
    pthread_mutex_unlock(&store->lock);
    rp_slots_growth_free(&growth);
    return reserved;
}

/* Entries enter the eviction queue in the order of their keys, not of their age: a hash
 * order. What was used before the restart is not known, and age alone says little. */
static rp_status
load_rows(rp_store *store, uint32_t more_flags, rp_error *error)
{
    loaded_row *rows = malloc(ROWS_AT_ONCE * sizeof *rows);
    if (!rows)
        return rp_fail(error, RP_ERR_NOMEM, "no memory");
    char last_key[sizeof(rp_key)];
    bool is_first = true, ends = false;
    rp_status status = RP_OK;
    while (status == RP_OK && !ends) {
        const size_t count = read_rows(store, last_key, &is_first, rows, &ends);
        if (count && !grow_slots(store, count)) {
            status = rp_fail(error, RP_ERR_NOMEM, "no memory for a table of %zu entries",
                             store->slots.count + count);
            break;
        }
        pthread_mutex_lock(&store->lock);
        for (size_t i = 0; i < count; i++) {
            rp_slots_fetch_id(&store->slots, rows[RP_MIN(i + ROWS_SOON, count - 1)].row.id,
                              rows[RP_MIN(i + 2 * ROWS_SOON, count - 1)].row.id);
            const rp_slot values = {
                .id = rows[i].row.id,
                .expires = rows[i].row.expires,
                .size = rows[i].row.size,
                .flags = more_flags | (rows[i].row.flags & RP_ENTRY_STATIC ? RP_SLOT_STATIC : 0),
            };
            if (!rp_slots_find_id(&store->slots, values.id))
                rp_slots_insert(&store->slots, rows[i].fingerprint, &values, rows[i].row.tenant,
                                true);
        }
        pthread_mutex_unlock(&store->lock);
    }
    free(rows);
    return status;
}

/* ---- repair ----------------------------------------------------------------- */

/* The next entries behind *last that no slot knows. False: the end. */
static bool
read_orphans(rp_store *store, rp_entry_id *last, rp_entry_id *ids, size_t *count)
{
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return false;
    MDB_cursor *cursor;
    size_t seen = 0;
    *count = 0;
    if (mdb_cursor_open(reader->txn, store->database.tables[RP_TABLE_ENTRY], &cursor) == 0) {
        rp_entry_id first = *last + 1;
        MDB_val key = { sizeof first, &first }, value;
        int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        for (; !code && seen < ROWS_AT_ONCE; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
            *last = rp_load_le64(key.mv_data);
            if (!rp_slots_find_id(&store->slots, *last))
                ids[(*count)++] = *last;
            seen++;
        }
        mdb_cursor_close(cursor);
    }
    rp_database_read_end(&store->database, reader);
    return seen != 0;
}

/* Give one orphan its exact row again, or remove what is left of it. */
static int
repair_orphan(rp_store *store, MDB_txn *txn, rp_entry_id id)
{
    rp_str bytes;
    int code = rp_database_get_id(&store->database, txn, RP_TABLE_ENTRY, id, &bytes);
    if (code)
        return code == MDB_NOTFOUND ? 0 : code;
    rp_entry view;
    rp_stored_reply reply;
    rp_scope scope;
    if (rp_entry_record_decode(bytes, id, &view, &reply) != RP_OK)
        return rp_rows_remove(store, txn, id, 0, 0, &scope);
    char row[RP_EXACT_ROW_SIZE];
    rp_exact_row_encode(view.key,
                        &(rp_exact_row){ id, view.expires, rp_hash64(view.tenant),
                                         rp_rows_disk_size(&view, bytes.len), view.flags },
                        row);
    const rp_key key = view.key;
    return rp_database_put(&store->database, txn, RP_TABLE_EXACT,
                           (rp_str){ (const char *)key.bytes, sizeof key.bytes },
                           (rp_str){ row, sizeof row });
}

static rp_status
repair_orphans(rp_store *store, rp_error *error)
{
    rp_entry_id *ids = malloc(ROWS_AT_ONCE * sizeof *ids), last = 0;
    size_t count;
    int code = ids ? 0 : ENOMEM;
    while (!code && read_orphans(store, &last, ids, &count)) {
        MDB_txn *txn = NULL;
        code = count ? mdb_txn_begin(store->database.env, NULL, 0, &txn) : 0;
        for (size_t i = 0; i < count && !code; i++)
            code = repair_orphan(store, txn, ids[i]);
        if (txn && !code)
            code = mdb_txn_commit(txn);
        else if (txn)
            mdb_txn_abort(txn);
    }
    free(ids);
    return code ? rp_fail(error, rp_database_status(code), "cannot repair %s: %s",
                          store->database.path, mdb_strerror(code))
                : RP_OK;
}

/* ---- all of it -------------------------------------------------------------- */

static rp_status
load_meta(rp_store *store, rp_error *error)
{
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return rp_fail(error, RP_ERR_NOMEM, "cannot read %s", store->database.path);
    rp_status status = load_head(store, reader->txn, error);
    if (status == RP_OK)
        status = load_side_tables(store, reader->txn, error);
    if (status == RP_OK) {
        load_outcome_bounds(store, reader->txn);
        store->stats.disk_bytes = rp_database_used_bytes(&store->database, reader->txn);
    }
    rp_database_read_end(&store->database, reader);
    return status;
}

rp_status
rp_store_load(rp_store *store, rp_error *error)
{
    rp_status status = load_meta(store, error);
    if (status == RP_OK)
        status = load_rows(store, 0, error);
    if (status != RP_OK || store->read_only)
        return status;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return rp_fail(error, RP_ERR_IO, "cannot read %s", store->database.path);
    const size_t entries = rp_database_rows(&store->database, reader->txn, RP_TABLE_ENTRY);
    rp_database_read_end(&store->database, reader);
    if (entries == store->slots.count)
        return RP_OK;
    status = repair_orphans(store, error);
    return status == RP_OK ? load_rows(store, 0, error) : status;
}

/* ---- after the environment died ---------------------------------------------- */

static const rp_entry *
load_whole(rp_store *store, MDB_txn *txn, rp_entry_id id)
{
    rp_str bytes;
    rp_entry view;
    rp_stored_reply reply;
    rp_vector_view vectors;
    if (rp_database_get_id(&store->database, txn, RP_TABLE_ENTRY, id, &bytes) != 0 ||
        rp_entry_record_decode(bytes, id, &view, &reply) != RP_OK)
        return NULL;
    if (rp_database_get_id(&store->database, txn, RP_TABLE_VEC, id, &bytes) == 0 &&
        rp_vector_record_decode(bytes, id, &vectors) == RP_OK) {
        view.encoder = vectors.encoder;
        view.dim = vectors.dim;
        view.window_count = vectors.window_count;
        view.mean = vectors.mean;
        view.windows = vectors.windows ? vectors.windows : view.mean;
    }
    return rp_entry_copy(&view, RP_PART_VECTORS);
}

/* Entries that the commit made of which nobody knew whether it happened. */
static void
tell_added(rp_store *store)
{
    for (uint32_t number = 1; number <= store->slots.top; number++) {
        rp_slot *slot = rp_slots_at(&store->slots, number);
        rp_reader *reader =
            slot->flags & RP_SLOT_UNTOLD ? rp_database_read(&store->database) : NULL;
        if (!reader)
            continue;
        const rp_entry *entry = load_whole(store, reader->txn, slot->id);
        rp_database_read_end(&store->database, reader);
        pthread_mutex_lock(&store->lock);
        slot->flags &= ~(uint32_t)RP_SLOT_UNTOLD;
        pthread_mutex_unlock(&store->lock);
        if (entry && store->events.added)
            store->events.added(store->events.context, entry);
        rp_entry_unref(entry);
    }
}

bool
rp_store_reload(rp_store *store)
{
    size_t last = 0;
    if (rp_database_reopen(&store->database, &last, NULL) != RP_OK)
        return false;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return false;
    load_outcome_bounds(store, reader->txn);
    rp_database_read_end(&store->database, reader);
    /* What was doomed is out of service either way, and removing it twice is harmless. */
    if (load_rows(store, RP_SLOT_UNTOLD, NULL) != RP_OK)
        return false;
    store->reload_wanted = false;
    tell_added(store);
    return true;
}
