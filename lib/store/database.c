/* database.c - see database.h. */
#include "store/database.h"
#include "base/bytes.h"
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

/* MDB_INTEGERKEY keys are in the machine's byte order and vectors are read where they
 * lie; every machine we have kernels for is little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store needs a little-endian machine");

enum {
    READERS_MAX = 512, /* threads of the pool, each at one transaction; a guess with room */
    TABLES_MAX = 16,   /* a newer program may add some */
};

static const struct {
    const char *name;
    unsigned flags;
} table_forms[RP_TABLE_COUNT] = {
    [RP_TABLE_ENTRY] = { "entry", MDB_INTEGERKEY }, [RP_TABLE_VEC] = { "vec", MDB_INTEGERKEY },
    [RP_TABLE_EXACT] = { "exact", 0 },              [RP_TABLE_SCOPE] = { "scope", 0 },
    [RP_TABLE_TAG] = { "tag", 0 },                  [RP_TABLE_EXPIRY] = { "expiry", 0 },
    [RP_TABLE_OUTCOME] = { "outcome", MDB_INTEGERKEY }, [RP_TABLE_META] = { "meta", 0 },
};

rp_status
rp_database_status(int code)
{
    switch (code) {
    case MDB_SUCCESS: return RP_OK;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL: return RP_ERR_LIMIT;
    case MDB_NOTFOUND:
    case ENOENT: return RP_ERR_NOT_FOUND;
    case MDB_VERSION_MISMATCH: return RP_ERR_STALE;
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_PAGE_NOTFOUND:
    case MDB_BAD_VALSIZE: return RP_ERR_CORRUPT;
    case ENOMEM: return RP_ERR_NOMEM;
    default: return RP_ERR_IO;
    }
}

static rp_status
fail_code(rp_error *error, const char *verb, const char *path, int code)
{
    return rp_fail(error, rp_database_status(code), "cannot %s %s: %s", verb, path,
                   mdb_strerror(code));
}

/* ---- opening ---------------------------------------------------------------- */

/* LMDB maps the file and believes its page numbers: reading a page behind the end would
 * be a bus error. A shorter file is usual if the last pages were taken and given back in
 * one transaction, and damage otherwise; both are cured by a hole up to where the pages
 * should end. A page of zeros is not one, and LMDB or a checksum says so. */
static rp_status
extend_to_pages(MDB_env *env, const char *path, unsigned page_size, rp_error *error)
{
    MDB_envinfo info;
    struct stat file;
    mdb_env_info(env, &info);
    const uint64_t needed = ((uint64_t)info.me_last_pgno + 1) * page_size;
    if (stat(path, &file) != 0)
        return rp_fail(error, RP_ERR_IO, "cannot examine %s: %s", path, strerror(errno));
    if ((uint64_t)file.st_size < needed && truncate(path, (off_t)needed) != 0)
        return rp_fail(error, RP_ERR_IO, "cannot extend %s to %llu bytes: %s", path,
                       (unsigned long long)needed, strerror(errno));
    return RP_OK;
}

/* What a file in use needs at least, when disk_max was lowered. */
static uint64_t
map_size_for(const char *path, uint64_t wanted)
{
    struct stat file;
    const uint64_t size = stat(path, &file) == 0 ? (uint64_t)file.st_size : 0;
    /* An eighth more: evicting needs a few pages before it frees any. */
    return RP_MAX(wanted, size + size / 8);
}

static rp_status
open_environment(const char *path, uint64_t map_size, bool read_only, MDB_env **out,
                 unsigned *out_page_size, rp_error *error)
{
    MDB_env *env = NULL;
    int code = mdb_env_create(&env);
    if (code)
        return fail_code(error, "prepare", path, code);
    mdb_env_set_maxdbs(env, TABLES_MAX);
    mdb_env_set_maxreaders(env, READERS_MAX);
    mdb_env_set_mapsize(env, map_size_for(path, map_size) / 65536 * 65536);
    /* Read only, the folder's lock keeps writers out, so LMDB's own lock file, which
     * may not be writable, is not needed. */
    const unsigned flags =
        MDB_NOSUBDIR | MDB_NOTLS | (read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
    code = mdb_env_open(env, path, flags, 0600);
    if (code) {
        mdb_env_close(env);
        return fail_code(error, "open", path, code);
    }
    MDB_stat stat_now;
    mdb_env_stat(env, &stat_now);
    const rp_status status = extend_to_pages(env, path, stat_now.ms_psize, error);
    if (status != RP_OK) {
        mdb_env_close(env);
        return status;
    }
    *out = env;
    *out_page_size = stat_now.ms_psize;
    return RP_OK;
}

static int
open_tables(rp_database *database, MDB_txn *txn, unsigned flags)
{
    for (int i = 0; i < RP_TABLE_COUNT; i++) {
        const int code = mdb_dbi_open(txn, table_forms[i].name, table_forms[i].flags | flags,
                                      &database->tables[i]);
        if (code)
            return code;
    }
    return 0;
}

static rp_status
open_existing(rp_database *database, rp_error *error)
{
    rp_status status = open_environment(database->path, database->map_size, database->read_only,
                                        &database->env, &database->page_size, error);
    if (status != RP_OK)
        return status;
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(database->env, NULL, MDB_RDONLY, &txn);
    if (!code)
        code = open_tables(database, txn, 0);
    /* Handles opened in a transaction stay only if it is committed, a reading one too. */
    if (!code)
        code = mdb_txn_commit(txn);
    else if (txn)
        mdb_txn_abort(txn);
    if (code) {
        mdb_env_close(database->env);
        database->env = NULL;
        return code == MDB_NOTFOUND
            ? rp_fail(error, RP_ERR_CORRUPT, "%s lacks one of its tables", database->path)
            : fail_code(error, "read", database->path, code);
    }
    return RP_OK;
}

static rp_status
sync_path(const char *path, rp_error *error)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool synced = fd >= 0 && fsync(fd) == 0;
    const int failure = errno;
    if (fd >= 0)
        close(fd);
    return synced ? RP_OK
                  : rp_fail(error, RP_ERR_IO, "cannot sync %s: %s", path, strerror(failure));
}

/* Make the file under another name, commit its first rows, then give it its name. LMDB
 * writes the first two pages of a new file without a sync; a power cut there would
 * otherwise leave something that cannot be opened. */
static rp_status
make_new(rp_database *database, const char *folder, rp_database_first *first, void *context,
         rp_error *error)
{
    char path[PATH_MAX], lock_path[PATH_MAX + 8];
    if ((size_t)snprintf(path, sizeof path, "%s/data.mdb.new", folder) >= sizeof path)
        return rp_fail(error, RP_ERR_INVALID, "path too long: %s", folder);
    snprintf(lock_path, sizeof lock_path, "%s-lock", path);
    unlink(path);
    unlink(lock_path);
    MDB_env *env = NULL;
    rp_status status =
        open_environment(path, database->map_size, false, &env, &database->page_size, error);
    if (status != RP_OK)
        goto out;
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(env, NULL, 0, &txn);
    if (!code)
        code = open_tables(database, txn, MDB_CREATE);
    if (!code)
        code = first(context, database, txn);
    if (!code)
        code = mdb_txn_commit(txn);
    else if (txn)
        mdb_txn_abort(txn);
    mdb_env_close(env);
    if (code)
        status = fail_code(error, "make", path, code);
    if (status == RP_OK)
        status = sync_path(path, error);
    if (status == RP_OK && rename(path, database->path) != 0)
        status = rp_fail(error, RP_ERR_IO, "cannot rename %s: %s", path, strerror(errno));
    if (status == RP_OK)
        status = sync_path(folder, error);
out:
    unlink(lock_path);
    if (status != RP_OK)
        unlink(path);
    return status;
}

rp_status
rp_database_open(rp_database *database, const char *folder, uint64_t map_size, bool read_only,
                 rp_database_first *first, void *context, rp_error *error)
{
    *database = (rp_database){ .read_only = read_only, .map_size = map_size };
    if (asprintf(&database->path, "%s/data.mdb", folder) < 0) {
        database->path = NULL;
        return rp_fail(error, RP_ERR_NOMEM, "no memory");
    }
    pthread_rwlock_init(&database->reopening, NULL);
    pthread_mutex_init(&database->idle_lock, NULL);
    rp_status status = RP_OK;
    if (!rp_file_exists(database->path)) {
        status = read_only ? rp_fail(error, RP_ERR_NOT_FOUND, "there is no store in %s", folder)
                           : make_new(database, folder, first, context, error);
    }
    if (status == RP_OK)
        status = open_existing(database, error);
    if (status != RP_OK)
        rp_database_close(database);
    return status;
}

static void
free_reader(rp_reader *reader)
{
    if (reader->txn)
        mdb_txn_abort(reader->txn);
    ZSTD_freeDCtx(reader->decompressor);
    free(reader);
}

static void
free_idle_readers(rp_database *database)
{
    pthread_mutex_lock(&database->idle_lock);
    while (database->idle_count)
        free_reader(database->idle[--database->idle_count]);
    pthread_mutex_unlock(&database->idle_lock);
}

void
rp_database_close(rp_database *database)
{
    if (!database->path)
        return;
    free_idle_readers(database);
    if (database->env)
        mdb_env_close(database->env);
    pthread_rwlock_destroy(&database->reopening);
    pthread_mutex_destroy(&database->idle_lock);
    free(database->path);
    *database = (rp_database){ 0 };
}

rp_status
rp_database_reopen(rp_database *database, size_t *last_transaction, rp_error *error)
{
    pthread_rwlock_wrlock(&database->reopening);
    free_idle_readers(database);
    if (database->env)
        mdb_env_close(database->env);
    database->env = NULL;
    const rp_status status = open_existing(database, error);
    if (status == RP_OK) {
        MDB_envinfo info;
        mdb_env_info(database->env, &info);
        *last_transaction = info.me_last_txnid;
    }
    pthread_rwlock_unlock(&database->reopening);
    return status;
}

/* ---- reading ---------------------------------------------------------------- */

static rp_reader *
take_idle(rp_database *database)
{
    rp_reader *reader = NULL;
    pthread_mutex_lock(&database->idle_lock);
    if (database->idle_count)
        reader = database->idle[--database->idle_count];
    pthread_mutex_unlock(&database->idle_lock);
    return reader;
}

static rp_reader *
make_reader(rp_database *database)
{
    rp_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    reader->decompressor = ZSTD_createDCtx();
    if (!reader->decompressor ||
        mdb_txn_begin(database->env, NULL, MDB_RDONLY, &reader->txn) != 0) {
        reader->txn = NULL;
        free_reader(reader);
        return NULL;
    }
    return reader;
}

rp_reader *
rp_database_read(rp_database *database)
{
    pthread_rwlock_rdlock(&database->reopening);
    rp_reader *reader = NULL;
    if (database->env) {
        reader = take_idle(database);
        if (reader && mdb_txn_renew(reader->txn) != 0) {
            free_reader(reader);
            reader = NULL;
        } else if (!reader) {
            reader = make_reader(database);
        }
    }
    if (!reader)
        pthread_rwlock_unlock(&database->reopening);
    return reader;
}

void
rp_database_read_end(rp_database *database, rp_reader *reader)
{
    mdb_txn_reset(reader->txn);
    pthread_mutex_lock(&database->idle_lock);
    if (database->idle_count < RP_READERS_KEPT) {
        database->idle[database->idle_count++] = reader;
        reader = NULL;
    }
    pthread_mutex_unlock(&database->idle_lock);
    if (reader)
        free_reader(reader);
    pthread_rwlock_unlock(&database->reopening);
}

/* ---- rows ------------------------------------------------------------------- */

int
rp_database_get(const rp_database *database, MDB_txn *txn, rp_table table, rp_str key, rp_str *out)
{
    MDB_val key_val = rp_database_val(key), value;
    const int code = mdb_get(txn, database->tables[table], &key_val, &value);
    if (!code)
        *out = (rp_str){ value.mv_data, value.mv_size };
    return code;
}

int
rp_database_get_id(const rp_database *database, MDB_txn *txn, rp_table table, uint64_t id,
                   rp_str *out)
{
    return rp_database_get(database, txn, table, (rp_str){ (char *)&id, sizeof id }, out);
}

int
rp_database_put(const rp_database *database, MDB_txn *txn, rp_table table, rp_str key,
                rp_str value)
{
    MDB_val key_val = rp_database_val(key), value_val = rp_database_val(value);
    return mdb_put(txn, database->tables[table], &key_val, &value_val, 0);
}

int
rp_database_put_id(const rp_database *database, MDB_txn *txn, rp_table table, uint64_t id,
                   rp_str value)
{
    /* Appending fills pages to the end, where an ordinary put would leave them half empty. */
    MDB_val key_val = { sizeof id, &id }, value_val = rp_database_val(value);
    const int code = mdb_put(txn, database->tables[table], &key_val, &value_val, MDB_APPEND);
    if (code != MDB_KEYEXIST)
        return code;
    return rp_database_put(database, txn, table, (rp_str){ (char *)&id, sizeof id }, value);
}

int
rp_database_delete(const rp_database *database, MDB_txn *txn, rp_table table, rp_str key)
{
    MDB_val key_val = rp_database_val(key);
    const int code = mdb_del(txn, database->tables[table], &key_val, NULL);
    return code == MDB_NOTFOUND ? 0 : code;
}

int
rp_database_delete_id(const rp_database *database, MDB_txn *txn, rp_table table, uint64_t id)
{
    return rp_database_delete(database, txn, table, (rp_str){ (char *)&id, sizeof id });
}

uint64_t
rp_database_used_bytes(const rp_database *database, MDB_txn *txn)
{
    /* Handle 0 is LMDB's own list of free pages, 1 the list of tables. */
    uint64_t pages = 2; /* the meta pages */
    for (int i = -2; i < RP_TABLE_COUNT; i++) {
        MDB_stat now;
        const MDB_dbi handle = i < 0 ? (MDB_dbi)(i + 2) : database->tables[i];
        if (mdb_stat(txn, handle, &now) != 0)
            return 0;
        pages += now.ms_branch_pages + now.ms_leaf_pages + now.ms_overflow_pages;
    }
    return pages * database->page_size;
}

size_t
rp_database_rows(const rp_database *database, MDB_txn *txn, rp_table table)
{
    MDB_stat now;
    return mdb_stat(txn, database->tables[table], &now) == 0 ? now.ms_entries : 0;
}
