/* store_internal.h - what the files of the store share: its state, and operations on
 * their way to the writer thread.
 *
 * One lock guards everything in memory (tables, queue, figures); it is held for less
 * than a microsecond on the paths of loop threads, and never over LMDB, an event or a
 * callback. Only the writer thread changes the set of slots and what is committed. */
#ifndef RP_STORE_STORE_INTERNAL_H
#define RP_STORE_STORE_INTERNAL_H

#include "store/data_folder.h"
#include "store/database.h"
#include "store/entry_record.h"
#include "store/side_tables.h"
#include "store/slots.h"
#include "store/store.h"

#include <errno.h>
#include <stdatomic.h>

enum {
    RP_FORMAT_VERSION = 1,
    RP_PENDING_BUCKETS = 2048,
    RP_META_KEY_SIZE_MAX = 500, /* LMDB takes keys of at most 511 bytes */
};

typedef enum rp_op_kind {
    RP_OP_PUT,         /* entry, done */
    RP_OP_REMOVE,      /* ids (count) */
    RP_OP_DAMAGED,     /* id: remove it because a value of it is damaged */
    RP_OP_META,        /* key -> value, or away with it if value_is_gone */
    RP_OP_OUTCOME,     /* value */
    RP_OP_VECTORS,     /* id, value: a vector record; dim and window_count */
    RP_OP_SYNC,        /* nothing: everything before is done when this is */
} rp_op_kind;

/* One operation for the writer. Those that a thread waits for live on its stack; others
 * are on the heap and freed by the writer. */
typedef struct rp_op {
    struct rp_op *next;
    rp_op_kind kind;
    bool waited_for; /* by a thread, until `finished` */
    bool finished;
    bool is_sync_eager; /* SYNC: also do what would wait for a timer */
    bool is_lasting; /* META: tried again until it is committed */
    rp_status status;
    size_t size;     /* bytes it counts against RP_PENDING_SIZE_MAX */

    const rp_entry *entry; /* owned reference */
    rp_store_done *done;
    void *context;
    struct rp_op *next_by_id, *next_by_key; /* in the pending table */
    bool hidden;    /* not in the pending table (any more) */
    bool cancelled; /* removed before its commit: hides what it replaces, answers nothing */

    rp_entry_id id;
    const rp_entry_id *ids; /* borrowed from the waiting thread */
    size_t count;           /* ids */
    size_t doomed_count, superseded_count; /* ids that were in service, in the pending batch */
    bool more;              /* SYNC: a bound left work over */
    rp_buffer key, value;   /* owned */
    bool value_is_gone;
    uint32_t dim, window_count;

    /* The writer's own. */
    rp_buffer record;    /* the entry's record, made once even if the batch is tried again */
    uint32_t disk_size;  /* about */
    uint64_t tenant;     /* hash */
    bool superseded;     /* by a later operation of the same batch */
    bool applied;
} rp_op;

typedef struct rp_hot_place {
    const rp_entry *entry; /* owned reference */
    uint32_t slot, next_free;
} rp_hot_place;

/* Entries with their replies, within a budget of bytes. */
typedef struct rp_hot {
    rp_chunks places;
    rp_s3fifo eviction;
    uint32_t top, free_head;
    size_t count, count_max;
    uint64_t bytes_max;
} rp_hot;

struct rp_store {
    rp_store_events events;
    const rp_clock *clock;
    bool read_only;
    uint64_t disk_max, memory_max;
    uint64_t budget_bytes;   /* of pages in use; writer only. Lowered when the map was full, */
    uint64_t budget_wanted_bytes; /* and grows back to this */
    uint64_t share_max_bytes, entry_size_max, batch_size_max;
    _Atomic uint64_t encoder; /* hash of the fingerprint of the one in use; 0: none */
    size_t encoder_dim;
    char encoder_fingerprint[RP_FINGERPRINT_SIZE + 1]; /* as opened */
    rp_data_folder folder;
    rp_database database;

    bool data_lock_made;
    pthread_mutex_t lock; /* guards all below unless it says otherwise */
    struct rp_tenant_share {
        uint64_t tenant; /* hash of its name */
        uint64_t bytes;
    } *shares;              /* owned: of tenants with another than share_max_bytes */
    size_t share_count;
    pthread_cond_t wake;    /* the writer: there is work */
    pthread_cond_t settled; /* waiting threads: a batch is done, or the queue has room */
    rp_slots slots;
    rp_hot hot;
    rp_credentials credentials;
    rp_epochs epochs;
    rp_op *queue_head, *queue_tail;
    size_t queue_count, queue_bytes; /* until their batch is done */
    rp_op *pending_by_id[RP_PENDING_BUCKETS], *pending_by_key[RP_PENDING_BUCKETS];
    size_t pending_count;
    rp_entry_id id_next, id_bound; /* ids below id_bound may be given out: that is committed */
    bool stopping;
    bool paused;             /* a commit failed: nothing is admitted */
    int64_t retry_us, retry_delay_us; /* monotonic, real time */
    char fingerprints[2][RP_FINGERPRINT_SIZE + 1]; /* of the vectors inside; old and new */
    const char *_Atomic fingerprint; /* one of them; release by its setter */
    _Atomic uint64_t stored_encoder; /* its hash; 0: none */
    size_t stored_dim;
    rp_store_stats stats;

    /* The writer's own. */
    pthread_t writer;
    bool writer_started;
    void *compressor; /* ZSTD_CCtx */
    uint32_t *doomed; /* owned; slots whose removal is not committed yet */
    size_t doomed_count, doomed_capacity;
    uint64_t outcome_next, outcome_count;
    bool reload_wanted; /* the environment could not be opened anew */
    rp_op *lasting_head, *lasting_tail; /* operations to be tried again, oldest first */
};

/* ---- store_memory.c: under the lock ----------------------------------------- */

bool rp_hot_init(rp_hot *hot, uint64_t bytes_max, size_t count_max);
void rp_hot_fini(rp_store *store);
/* Keep an entry that has its reply; takes its own reference. */
void rp_hot_insert(rp_store *store, uint32_t slot, const rp_entry *entry);
/* Keep within memory_max, with room for so many bytes more: call it when a table grew. */
void rp_hot_trim(rp_store *store, size_t room);
void rp_hot_drop(rp_store *store, uint32_t slot);
uint64_t rp_store_memory_bytes(const rp_store *store);
/* What is kept hot of `entry`: a reference to it, or a copy without what a hit does not
 * need. NULL: no memory. */
const rp_entry *rp_hot_form(const rp_entry *entry);

void rp_pending_insert(rp_store *store, rp_op *op);
void rp_pending_remove(rp_store *store, rp_op *op);
rp_op *rp_pending_find(const rp_store *store, rp_entry_id id);
/* The slot of an entry in service, 0: none. */
uint32_t rp_store_find_live(const rp_store *store, rp_entry_id id, rp_time now);

/* ---- writer.c --------------------------------------------------------------- */

RP_NODISCARD rp_status rp_writer_start(rp_store *store, rp_error *error);
void rp_writer_stop(rp_store *store);
/* Hand over an operation on the heap. Fails: RP_ERR_BUSY (queue full), RP_ERR_CLOSED;
 * the caller keeps it then. Under the lock. */
RP_NODISCARD rp_status rp_writer_push(rp_store *store, rp_op *op);
/* The same for one that must not be lost: the bound of the queue does not hold for it, and it is
 * tried again until it is committed. */
RP_NODISCARD rp_status rp_writer_push_lasting(rp_store *store, rp_op *op);
/* Hand over an operation on the caller's stack and wait until it is finished. Takes the
 * lock. Returns its status. */
rp_status rp_writer_wait(rp_store *store, rp_op *op);
void rp_op_free(rp_op *op);
static inline bool
rp_writer_is_me(const rp_store *store)
{
    return store->writer_started && pthread_equal(store->writer, pthread_self());
}

/* ---- store_load.c ----------------------------------------------------------- */

/* Fill the tables from the database: at start, and when the environment had to be
 * opened anew and it is unknown what the last commit did (then `added` and `removed`
 * tell the difference). On the thread that opens, or the writer's. */
RP_NODISCARD rp_status rp_store_load(rp_store *store, rp_error *error);
bool rp_store_reload(rp_store *store);
/* The rows that a new database starts with. */
int rp_store_write_first(void *context, rp_database *database, MDB_txn *txn);
/* What a tenant (hash of its name) may hold. The lock is held. */
uint64_t rp_store_share_of(const rp_store *store, uint64_t tenant);
void rp_store_fingerprint_now(rp_store *store, const char *fingerprint, size_t dim);

/* ---- store_rows.c: the rows of an entry in a write transaction --------------- */

/* LMDB's codes. */
int rp_rows_put(rp_store *store, MDB_txn *txn, rp_op *op);
/* Remove all rows of an entry as far as they can be found; *scope is what its record
 * says, zero if that is damaged. */
int rp_rows_remove(rp_store *store, MDB_txn *txn, rp_entry_id id, uint64_t fingerprint,
                   rp_time expires, rp_scope *scope);
rp_scope rp_rows_scope(rp_store *store, MDB_txn *txn, rp_entry_id id);
int rp_rows_put_value(rp_store *store, MDB_txn *txn, rp_table table, rp_str key, rp_str payload);
uint32_t rp_rows_disk_size(const rp_entry *entry, size_t record_size);
void rp_rows_expiry_key(rp_time expires, rp_entry_id id, char out[16]);
void rp_rows_tag_key(rp_str tag, rp_entry_id id, char out[16]);

#endif
