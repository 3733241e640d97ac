/* store_rows.c - the rows of one entry, in a write transaction: how the databases hang
 * together (docs/file-format.md, invariants). */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/store_internal.h"

enum {
    SCOPE_KEY_SIZE = 33, /* scope and a letter: 'c' count of its entries, 'f' its fields */
    PAGE_SIZE = 4096,    /* LMDB takes the system's; a guess is enough for an estimate */
    INLINE_SIZE_MAX = 2000, /* larger values lie on pages of their own */
};

/* Numbers in keys are big-endian, so that bytes sort as numbers do. */
static void
store_be64(char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (char)(value >> (56 - 8 * i));
}

void
rp_rows_expiry_key(rp_time expires, rp_entry_id id, char out[16])
{
    store_be64(out, (uint64_t)expires);
    store_be64(out + 8, id);
}

void
rp_rows_tag_key(rp_str tag, rp_entry_id id, char out[16])
{
    store_be64(out, rp_hash64(tag));
    store_be64(out + 8, id);
}

static size_t
pages_size(size_t size)
{
    return size <= INLINE_SIZE_MAX ? PAGE_SIZE / ((PAGE_SIZE - 16) / (size + 18))
                                   : (size + 16 + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
}

uint32_t
rp_rows_disk_size(const rp_entry *entry, size_t record_size)
{
    /* An exact row and its key take 90 bytes in leaves that are two thirds full. */
    size_t size = pages_size(record_size) + 136;
    if (entry->dim)
        size += pages_size(rp_vector_record_size(entry->dim, entry->window_count));
    if (entry->expires)
        size += 40;
    for (size_t i = 0; i < entry->tags.len; i++)
        size += entry->tags.ptr[i] == '\n' ? 40 : 0;
    return (uint32_t)(size + (entry->tags.len ? 40 : 0));
}

/* ---- values ----------------------------------------------------------------- */

int
rp_rows_put_value(rp_store *store, MDB_txn *txn, rp_table table, rp_str key, rp_str payload)
{
    rp_buffer value;
    rp_buffer_init(&value, 0);
    rp_value_encode(rp_hash64(key), payload, store->compressor, &value);
    const int code = rp_buffer_failed(&value)
        ? ENOMEM
        : rp_database_put(&store->database, txn, table, key, rp_buffer_str(&value));
    rp_buffer_fini(&value);
    return code;
}

/* ---- scope: how many entries share it, and its fields once ------------------- */

static rp_str
scope_key(const rp_scope *scope, char letter, char out[SCOPE_KEY_SIZE])
{
    memcpy(out, scope->bytes, sizeof scope->bytes);
    out[SCOPE_KEY_SIZE - 1] = letter;
    return (rp_str){ out, SCOPE_KEY_SIZE };
}

/* A damaged count reads as 1: its fields go with the next removal, and export says
 * that they are gone. */
static int
read_count(rp_store *store, MDB_txn *txn, rp_str key, uint64_t *out)
{
    rp_str bytes;
    const int code = rp_database_get(&store->database, txn, RP_TABLE_SCOPE, key, &bytes);
    *out = 0;
    if (code)
        return code == MDB_NOTFOUND ? 0 : code;
    rp_buffer payload;
    rp_buffer_init(&payload, 64);
    *out = 1;
    if (rp_value_decode(rp_hash64(key), bytes, 64, &payload) == RP_OK && payload.len == 8)
        *out = rp_load_le64(payload.ptr);
    rp_buffer_fini(&payload);
    return 0;
}

static int
change_scope(rp_store *store, MDB_txn *txn, const rp_scope *scope, rp_str fields, int64_t change)
{
    char count_bytes[SCOPE_KEY_SIZE], fields_bytes[SCOPE_KEY_SIZE];
    const rp_str count_key = scope_key(scope, 'c', count_bytes);
    const rp_str fields_key = scope_key(scope, 'f', fields_bytes);
    uint64_t count;
    int code = read_count(store, txn, count_key, &count);
    if (code)
        return code;
    if (change > 0 && count == 0 && fields.len)
        code = rp_rows_put_value(store, txn, RP_TABLE_SCOPE, fields_key, fields);
    if (change < 0 && count <= 1) {
        code = rp_database_delete(&store->database, txn, RP_TABLE_SCOPE, fields_key);
        return code ? code : rp_database_delete(&store->database, txn, RP_TABLE_SCOPE, count_key);
    }
    char payload[8];
    rp_store_le64(payload, count + (uint64_t)change);
    return code ? code
                : rp_rows_put_value(store, txn, RP_TABLE_SCOPE, count_key, (rp_str){ payload, 8 });
}

/* ---- an entry --------------------------------------------------------------- */

static int
put_vectors(rp_store *store, MDB_txn *txn, const rp_entry *entry)
{
    const size_t size = rp_vector_record_size(entry->dim, entry->window_count);
    MDB_val key = { sizeof entry->id, (void *)(uintptr_t)&entry->id }, value = { size, NULL };
    const MDB_dbi table = store->database.tables[RP_TABLE_VEC];
    int code = mdb_put(txn, table, &key, &value, MDB_RESERVE | MDB_APPEND);
    if (code == MDB_KEYEXIST) {
        value = (MDB_val){ size, NULL };
        code = mdb_put(txn, table, &key, &value, MDB_RESERVE);
    }
    if (code)
        return code;
    rp_vector_record_encode(entry->id, entry->encoder,
                            rp_vector_scope(entry->scope, entry->template_), entry->dim,
                            entry->window_count, entry->mean, entry->windows, value.mv_data);
    return 0;
}

static int
change_tags(rp_store *store, MDB_txn *txn, rp_str tags, rp_entry_id id, bool put)
{
    int code = 0;
    while (tags.len && !code) {
        const rp_str tag = rp_str_split(&tags, '\n');
        char key[16];
        rp_rows_tag_key(tag, id, key);
        const rp_str key_str = { key, sizeof key };
        code = put ? rp_database_put(&store->database, txn, RP_TABLE_TAG, key_str, RP_STR(""))
                   : rp_database_delete(&store->database, txn, RP_TABLE_TAG, key_str);
    }
    return code;
}

int
rp_rows_put(rp_store *store, MDB_txn *txn, rp_op *op)
{
    const rp_entry *entry = op->entry;
    rp_database *database = &store->database;
    int code = rp_database_put_id(database, txn, RP_TABLE_ENTRY, entry->id,
                                  rp_buffer_str(&op->record));
    if (!code && entry->mean)
        code = put_vectors(store, txn, entry);
    if (!code) {
        char row[RP_EXACT_ROW_SIZE];
        rp_exact_row_encode(entry->key,
                            &(rp_exact_row){ entry->id, entry->expires, op->tenant, op->disk_size,
                                             entry->flags },
                            row);
        code = rp_database_put(database, txn, RP_TABLE_EXACT,
                               (rp_str){ (const char *)entry->key.bytes, sizeof entry->key },
                               (rp_str){ row, sizeof row });
    }
    if (!code)
        code = change_scope(store, txn, &entry->scope, entry->scope_fields, 1);
    if (!code)
        code = change_tags(store, txn, entry->tags, entry->id, true);
    if (!code && entry->expires) {
        char key[16];
        rp_rows_expiry_key(entry->expires, entry->id, key);
        code = rp_database_put(database, txn, RP_TABLE_EXPIRY, (rp_str){ key, sizeof key },
                               RP_STR(""));
    }
    return code;
}

/* The exact row of an entry whose own record cannot be read: its key begins with the
 * fingerprint. */
static int
remove_exact_by_fingerprint(rp_store *store, MDB_txn *txn, uint64_t fingerprint, rp_entry_id id)
{
    MDB_cursor *cursor;
    int code = mdb_cursor_open(txn, store->database.tables[RP_TABLE_EXACT], &cursor);
    if (code)
        return code;
    char start[8];
    rp_store_le64(start, fingerprint);
    MDB_val key = { sizeof start, start }, value;
    code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!code && key.mv_size == sizeof(rp_key) && rp_load_le64(key.mv_data) == fingerprint) {
        rp_exact_row row;
        if (rp_exact_row_decode((rp_str){ key.mv_data, key.mv_size },
                                (rp_str){ value.mv_data, value.mv_size }, &row) == RP_OK &&
            row.id == id) {
            code = mdb_cursor_del(cursor, 0);
            break;
        }
        code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

static int
remove_exact(rp_store *store, MDB_txn *txn, const rp_key *key, rp_entry_id id)
{
    const rp_str key_str = { (const char *)key->bytes, sizeof key->bytes };
    rp_str bytes;
    int code = rp_database_get(&store->database, txn, RP_TABLE_EXACT, key_str, &bytes);
    if (code)
        return code == MDB_NOTFOUND ? 0 : code;
    rp_exact_row row;
    /* By now the key may belong to the entry that replaced this one. */
    if (rp_exact_row_decode(key_str, bytes, &row) == RP_OK && row.id != id)
        return 0;
    return rp_database_delete(&store->database, txn, RP_TABLE_EXACT, key_str);
}

rp_scope
rp_rows_scope(rp_store *store, MDB_txn *txn, rp_entry_id id)
{
    rp_str bytes;
    rp_entry view;
    rp_stored_reply reply;
    rp_vector_view vectors;
    if (rp_database_get_id(&store->database, txn, RP_TABLE_ENTRY, id, &bytes) == 0 &&
        rp_entry_record_decode(bytes, id, &view, &reply) == RP_OK)
        return view.scope;
    if (rp_database_get_id(&store->database, txn, RP_TABLE_VEC, id, &bytes) == 0 &&
        rp_vector_record_decode(bytes, id, &vectors) == RP_OK)
        return vectors.scope;
    return (rp_scope){ { 0 } };
}

int
rp_rows_remove(rp_store *store, MDB_txn *txn, rp_entry_id id, uint64_t fingerprint,
               rp_time expires, rp_scope *scope)
{
    rp_database *database = &store->database;
    rp_str bytes;
    *scope = rp_rows_scope(store, txn, id);
    int code = rp_database_get_id(database, txn, RP_TABLE_ENTRY, id, &bytes);
    if (code && code != MDB_NOTFOUND)
        return code;
    rp_entry view;
    rp_stored_reply reply;
    if (!code && rp_entry_record_decode(bytes, id, &view, &reply) == RP_OK) {
        expires = view.expires;
        /* The view lies on a page that the changes below may move: take what it says. */
        const rp_key key = view.key;
        const rp_scope its_scope = view.scope;
        rp_buffer tags;
        rp_buffer_init(&tags, 0);
        rp_buffer_append(&tags, view.tags);
        code = rp_buffer_failed(&tags) ? ENOMEM : remove_exact(store, txn, &key, id);
        if (!code)
            code = change_scope(store, txn, &its_scope, (rp_str){ 0 }, -1);
        if (!code)
            code = change_tags(store, txn, rp_buffer_str(&tags), id, false);
        rp_buffer_fini(&tags);
    } else {
        code = remove_exact_by_fingerprint(store, txn, fingerprint, id);
    }
    if (!code && expires) {
        char key[16];
        rp_rows_expiry_key(expires, id, key);
        code = rp_database_delete(database, txn, RP_TABLE_EXPIRY, (rp_str){ key, sizeof key });
    }
    if (!code)
        code = rp_database_delete_id(database, txn, RP_TABLE_VEC, id);
    if (!code)
        code = rp_database_delete_id(database, txn, RP_TABLE_ENTRY, id);
    return code;
}
