/* database.h - the LMDB environment: databases, short read transactions, sizes.
 *
 * Rules that LMDB asks for (and what we do about them):
 *   - a read transaction keeps every page of its moment from being reused: it lasts
 *     microseconds, never across a callback that may wait;
 *   - one writer: the store's writer thread;
 *   - no WRITEMAP, NOSYNC, NOMETASYNC: a commit that returned is on the disk;
 *   - a meta page that could not be written leaves the environment unusable until it is
 *     opened anew: rp_database_reopen, which waits for readers.
 *
 * The map is disk_max bytes from the start (address space, not disk); the file grows in
 * it. Pages in use are counted from the statistics of all databases, not from the file's
 * size, because LMDB reuses freed pages but never gives them back.
 *
 * Threads: read transactions from any thread; write transactions from one. */
#ifndef RP_STORE_DATABASE_H
#define RP_STORE_DATABASE_H

#include <lmdb.h>
#include <pthread.h>
#include <reprise/status.h>
#include <reprise/types.h>

typedef enum rp_table {
    RP_TABLE_ENTRY,
    RP_TABLE_VEC,
    RP_TABLE_EXACT,
    RP_TABLE_SCOPE,
    RP_TABLE_TAG,
    RP_TABLE_EXPIRY,
    RP_TABLE_OUTCOME,
    RP_TABLE_META,
    RP_TABLE_COUNT,
} rp_table;

enum { RP_READERS_KEPT = 16 };

/* A read transaction with what unpacking needs. */
typedef struct rp_reader {
    MDB_txn *txn;
    void *decompressor; /* ZSTD_DCtx */
} rp_reader;

typedef struct rp_database {
    char *path;  /* owned: the data file */
    bool read_only;
    uint64_t map_size;
    MDB_env *env;
    MDB_dbi tables[RP_TABLE_COUNT];
    unsigned page_size;
    pthread_rwlock_t reopening; /* readers share it; rank: below the store's lock */
    pthread_mutex_t idle_lock;
    rp_reader *idle[RP_READERS_KEPT]; /* reset transactions, for the next reader */
    size_t idle_count;
} rp_database;

/* Open DATA/data.mdb; make it first if there is none (and not read_only), with every
 * table and `first`'s rows in its first commit, so that a half-made file never has
 * that name. Fails: RP_ERR_IO, RP_ERR_CORRUPT, RP_ERR_STALE (LMDB's own format),
 * RP_ERR_NOT_FOUND (read only), RP_ERR_NOMEM. */
typedef int rp_database_first(void *context, rp_database *database, MDB_txn *txn);
RP_NODISCARD rp_status rp_database_open(rp_database *database, const char *folder,
                                        uint64_t map_size, bool read_only,
                                        rp_database_first *first, void *context,
                                        rp_error *error);
void rp_database_close(rp_database *database);
/* After MDB_PANIC. *last_transaction: the newest that is committed. */
RP_NODISCARD rp_status rp_database_reopen(rp_database *database, size_t *last_transaction,
                                          rp_error *error);

/* NULL: no memory, or the environment cannot be read. */
rp_reader *rp_database_read(rp_database *database);
void rp_database_read_end(rp_database *database, rp_reader *reader);

/* Value under a key: LMDB's code; the bytes are good until the transaction ends. */
int rp_database_get(const rp_database *database, MDB_txn *txn, rp_table table, rp_str key,
                    rp_str *out);
int rp_database_get_id(const rp_database *database, MDB_txn *txn, rp_table table, uint64_t id,
                       rp_str *out);
int rp_database_put(const rp_database *database, MDB_txn *txn, rp_table table, rp_str key,
                    rp_str value);
/* Ids mostly grow: appends, and falls back to an ordinary put. */
int rp_database_put_id(const rp_database *database, MDB_txn *txn, rp_table table, uint64_t id,
                       rp_str value);
/* Removing what is not there succeeds. */
int rp_database_delete(const rp_database *database, MDB_txn *txn, rp_table table, rp_str key);
int rp_database_delete_id(const rp_database *database, MDB_txn *txn, rp_table table, uint64_t id);

/* Bytes of pages in use as this transaction sees them. 0: cannot tell. */
uint64_t rp_database_used_bytes(const rp_database *database, MDB_txn *txn);
size_t rp_database_rows(const rp_database *database, MDB_txn *txn, rp_table table);

/* LMDB's code as ours: RP_ERR_LIMIT for a full map, RP_ERR_CORRUPT, RP_ERR_NOMEM, RP_ERR_IO. */
rp_status rp_database_status(int code);

static inline MDB_val
rp_database_val(rp_str bytes)
{
    return (MDB_val){ bytes.len, (void *)(uintptr_t)bytes.ptr };
}

#endif
