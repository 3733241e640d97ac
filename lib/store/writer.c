/* writer.c - the one thread that changes what is on the disk.
 *
 * Group commit: it takes whatever is queued when it comes around, up to a bound of
 * bytes, and commits that in one transaction; while the disk syncs, the next batch
 * gathers. Idle, an operation is committed at once.
 *
 * A batch is all or nothing:
 *   1. memory for its result is taken, so that nothing can fail after the commit;
 *   2. rows are changed; what must go (replaced, evicted, expired, removed) is doomed:
 *      out of service at once, told to `removed`, its rows deleted;
 *   3. commit;
 *   4. doomed slots are freed, new ones made, `added` and `done` called.
 * If the commit fails, what was doomed stays out of service and goes with the next
 * batch; new entries are refused; admission pauses, and a commit is tried again after
 * 1 s, 2 s ... 64 s, or when rp_store_sync asks. A full map first evicts more.
 * Operations that must not be lost (a revoked credential) wait for that attempt. */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/entry.h"
#include "store/store_internal.h"

#include <errno.h>
#include <zstd.h>

enum {
    BATCH_OPS_MAX = 1024,    /* a guess: about 10 ms of work */
    /* What an operation may cost in pages besides its own bytes: a leaf and its path in
     * each of six tables, copied on write. A guess on the safe side. */
    OP_PAGES_SIZE = 32 << 10,
    VICTIMS_MIN = 4,         /* evictions of one batch are bounded by the same cost */
    VICTIMS_MAX = 2048,
    ROOM_ROUNDS_MAX = 1000,
    VICTIMS_BETWEEN_LOOKS = 8, /* counting used pages costs as much as an eviction */
    EXPIRED_MAX = 512,
    ATTEMPTS_MAX = 6,
    TICK_US = 250000,        /* how late an expired entry may leave the disk; a guess */
    RETRY_US = 1000000,
    RETRY_US_MAX = 64000000,
    IDS_RESERVED = 1 << 16,  /* given out without a further commit */
};

typedef struct writer_batch {
    rp_op *ops;
    size_t put_count;
    bool tick;           /* also expire and evict */
    bool changed;        /* the transaction has something to commit */
    bool more;           /* a bound stopped it: come again at once */
    bool over_budget;    /* that bound was the number of evictions */
    rp_entry_id id_bound; /* new one, or 0 */
    uint64_t outcome_next, outcome_count;
    MDB_txn *txn;
} writer_batch;

/* ---- the queue -------------------------------------------------------------- */

void
rp_op_free(rp_op *op)
{
    rp_entry_unref(op->entry);
    rp_buffer_fini(&op->key);
    rp_buffer_fini(&op->value);
    rp_buffer_fini(&op->record);
    if (!op->waited_for)
        free(op);
}

static void
append_to_queue(rp_store *store, rp_op *op)
{
    op->next = NULL;
    if (store->queue_tail)
        store->queue_tail->next = op;
    else
        store->queue_head = op;
    store->queue_tail = op;
    store->queue_count++;
    store->queue_bytes += op->size;
    pthread_cond_signal(&store->wake);
}

rp_status
rp_writer_push(rp_store *store, rp_op *op)
{
    if (store->stopping)
        return RP_ERR_CLOSED;
    if (store->queue_count >= RP_PENDING_MAX ||
        store->queue_bytes + op->size > RP_PENDING_SIZE_MAX)
        return RP_ERR_BUSY;
    append_to_queue(store, op);
    return RP_OK;
}

rp_status
rp_writer_push_lasting(rp_store *store, rp_op *op)
{
    if (store->stopping)
        return RP_ERR_CLOSED;
    op->is_lasting = true;
    append_to_queue(store, op);
    return RP_OK;
}

rp_status
rp_writer_wait(rp_store *store, rp_op *op)
{
    assert(!rp_writer_is_me(store));
    op->waited_for = true;
    pthread_mutex_lock(&store->lock);
    if (store->stopping) {
        op->status = RP_ERR_CLOSED;
    } else {
        append_to_queue(store, op);
        while (!op->finished)
            pthread_cond_wait(&store->settled, &store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return op->status;
}

/* Real time, whatever clock the store was given: a test that stands still must not make
 * the writer stand still. */
static int64_t
real_us(void)
{
    return rp_clock_monotonic_us(&rp_clock_system);
}

/* Wait for work; false when there will be none. */
static bool
take_batch(rp_store *store, writer_batch *out, int64_t *next_tick_us)
{
    *out = (writer_batch){ 0 };
    pthread_mutex_lock(&store->lock);
    while (!store->queue_head && !store->stopping && real_us() < *next_tick_us) {
        const struct timespec until = { *next_tick_us / 1000000, *next_tick_us % 1000000 * 1000 };
        pthread_cond_timedwait(&store->wake, &store->lock, &until);
    }
    const bool ends = store->stopping && !store->queue_head;
    size_t bytes = 0, count = 0;
    rp_op **tail = &out->ops;
    while (store->queue_head && count < BATCH_OPS_MAX) {
        rp_op *op = store->queue_head;
        const size_t cost = op->size + OP_PAGES_SIZE;
        if (count && bytes + cost > store->batch_size_max)
            break;
        store->queue_head = op->next;
        if (!store->queue_head)
            store->queue_tail = NULL;
        *tail = op;
        tail = &op->next;
        op->next = NULL;
        bytes += cost;
        count++;
        out->put_count += op->kind == RP_OP_PUT;
        out->tick = out->tick || op->is_sync_eager;
    }
    pthread_mutex_unlock(&store->lock);
    if (real_us() >= *next_tick_us || ends) {
        out->tick = true;
        *next_tick_us = real_us() + TICK_US;
    }
    return !ends;
}

/* ---- dooming ---------------------------------------------------------------- */

static bool
reserve_doomed(rp_store *store, size_t more)
{
    const size_t wanted = store->doomed_count + more;
    if (wanted <= store->doomed_capacity)
        return true;
    const size_t capacity = RP_MAX(wanted, store->doomed_capacity * 2);
    uint32_t *grown = realloc(store->doomed, capacity * sizeof grown[0]);
    if (!grown)
        return false;
    store->doomed = grown;
    store->doomed_capacity = capacity;
    return true;
}

/* Take a slot out of service, under the lock, after reserve_doomed. */
static void
doom(rp_store *store, uint32_t number, uint64_t *counter)
{
    rp_hot_drop(store, number);
    rp_slots_doom(&store->slots, number);
    store->doomed[store->doomed_count++] = number;
    ++*counter;
}

/* Tell and delete the rows of a doomed slot; the lock is not held. Only this thread
 * changes slots, so reading one is safe. */
static int
remove_doomed(rp_store *store, writer_batch *batch, uint32_t number)
{
    rp_slot *slot = rp_slots_at(&store->slots, number);
    const rp_entry_id id = slot->id;
    if (!(slot->flags & RP_SLOT_TOLD)) {
        if (store->events.removed)
            store->events.removed(store->events.context, id,
                                  rp_rows_scope(store, batch->txn, id));
        pthread_mutex_lock(&store->lock);
        slot->flags |= RP_SLOT_TOLD;
        pthread_mutex_unlock(&store->lock);
    }
    rp_scope scope;
    batch->changed = true;
    return rp_rows_remove(store, batch->txn, id, slot->fingerprint, slot->expires, &scope);
}

/* Doom an entry that has a slot and delete its rows. */
static int
doom_and_remove(rp_store *store, writer_batch *batch, uint32_t number, uint64_t *counter)
{
    if (!reserve_doomed(store, 1))
        return ENOMEM;
    pthread_mutex_lock(&store->lock);
    doom(store, number, counter);
    pthread_mutex_unlock(&store->lock);
    return remove_doomed(store, batch, number);
}

/* ---- operations ------------------------------------------------------------- */

static rp_op *
find_in_batch(const writer_batch *batch, rp_entry_id id)
{
    for (rp_op *op = batch->ops; op; op = op->next)
        if (op->kind == RP_OP_PUT && op->id == id)
            return op;
    return NULL;
}

typedef enum removal { REMOVAL_NONE, REMOVAL_DOOMED, REMOVAL_SUPERSEDED } removal;

/* Remove an entry by id, whether it has a slot or was put earlier in this batch. */
static int
remove_id(rp_store *store, writer_batch *batch, rp_entry_id id, uint64_t *counter, removal *what)
{
    pthread_mutex_lock(&store->lock);
    const uint32_t number = rp_slots_find_id(&store->slots, id);
    const bool doomed = number && rp_slots_at(&store->slots, number)->flags & RP_SLOT_DOOMED;
    pthread_mutex_unlock(&store->lock);
    *what = REMOVAL_NONE;
    if (doomed)
        return 0;
    if (number) {
        *what = REMOVAL_DOOMED;
        return doom_and_remove(store, batch, number, counter);
    }
    rp_op *op = find_in_batch(batch, id);
    if (!op || !op->applied || op->superseded)
        return 0;
    op->superseded = true;
    *what = REMOVAL_SUPERSEDED;
    pthread_mutex_lock(&store->lock);
    ++*counter;
    pthread_mutex_unlock(&store->lock);
    rp_scope scope;
    return rp_rows_remove(store, batch->txn, id, rp_load_le64(op->entry->key.bytes),
                          op->entry->expires, &scope);
}

static rp_status
prepare_record(rp_store *store, rp_op *op)
{
    if (op->record.len)
        return RP_OK;
    rp_buffer_init(&op->record, 0);
    const rp_status status =
        rp_entry_record_encode(op->entry, op->id, store->compressor, &op->record);
    if (status != RP_OK)
        return status;
    op->disk_size = rp_rows_disk_size(op->entry, op->record.len);
    op->tenant = rp_hash64(op->entry->tenant);
    return RP_OK;
}

/* Bytes that earlier operations of this batch give the same tenant. */
static uint64_t
tenant_bytes_in_batch(const writer_batch *batch, const rp_op *until)
{
    uint64_t bytes = 0;
    for (const rp_op *op = batch->ops; op != until; op = op->next)
        if (op->kind == RP_OP_PUT && op->applied && !op->superseded && op->tenant == until->tenant)
            bytes += op->disk_size;
    return bytes;
}

/* Make room within the tenant's share, out of its own entries. */
static int
keep_share(rp_store *store, writer_batch *batch, rp_op *op)
{
    const uint64_t more = op->disk_size + tenant_bytes_in_batch(batch, op);
    for (;;) {
        if (!reserve_doomed(store, 1))
            return ENOMEM;
        uint32_t number = 0;
        pthread_mutex_lock(&store->lock);
        const rp_slot_tenant *tenant = rp_slots_tenant(&store->slots, op->tenant);
        const uint64_t held = tenant ? tenant->bytes - tenant->doomed_bytes : 0;
        const bool over = held + more > rp_store_share_of(store, op->tenant);
        if (over)
            number = rp_slots_evict_tenant(&store->slots, op->tenant);
        if (number) {
            rp_hot_drop(store, number);
            store->doomed[store->doomed_count++] = number;
            store->stats.evicted_disk++;
        }
        pthread_mutex_unlock(&store->lock);
        if (over && !number)
            op->status = RP_ERR_LIMIT;
        if (!number)
            return 0;
        const int code = remove_doomed(store, batch, number);
        if (code)
            return code;
    }
}

/* Whatever had the key goes, even if the new entry was removed while it waited. */
static int
replace_old(rp_store *store, writer_batch *batch, const rp_op *op)
{
    const rp_str key = { (const char *)op->entry->key.bytes, sizeof(rp_key) };
    rp_str bytes;
    const int code = rp_database_get(&store->database, batch->txn, RP_TABLE_EXACT, key, &bytes);
    rp_exact_row row;
    if (code || rp_exact_row_decode(key, bytes, &row) != RP_OK)
        return code == MDB_NOTFOUND ? 0 : code;
    removal what;
    return remove_id(store, batch, row.id, &store->stats.replaced, &what);
}

static int
apply_put(rp_store *store, writer_batch *batch, rp_op *op)
{
    pthread_mutex_lock(&store->lock);
    op->superseded = op->cancelled;
    pthread_mutex_unlock(&store->lock);
    op->status = op->superseded ? RP_OK : prepare_record(store, op);
    if (op->status != RP_OK)
        return 0;
    int code = replace_old(store, batch, op);
    if (code || op->superseded)
        return code;
    code = keep_share(store, batch, op);
    if (code || op->status != RP_OK)
        return code;
    code = rp_rows_put(store, batch->txn, op);
    op->applied = true;
    batch->changed = true;
    return code;
}

static int
apply_remove(rp_store *store, writer_batch *batch, rp_op *op)
{
    /* What is doomed stays so when the batch is tried again; what is superseded does not. */
    op->superseded_count = 0;
    for (size_t i = 0; i < op->count; i++) {
        removal what;
        const int code = remove_id(store, batch, op->ids[i], &store->stats.removed, &what);
        op->doomed_count += what == REMOVAL_DOOMED;
        op->superseded_count += what == REMOVAL_SUPERSEDED;
        if (code)
            return code;
    }
    return 0;
}

static int
apply_meta(rp_store *store, writer_batch *batch, rp_op *op)
{
    batch->changed = true;
    const rp_str key = rp_buffer_str(&op->key);
    return op->value_is_gone
        ? rp_database_delete(&store->database, batch->txn, RP_TABLE_META, key)
        : rp_rows_put_value(store, batch->txn, RP_TABLE_META, key, rp_buffer_str(&op->value));
}

/* Outcomes may take an eighth of the budget, so that they cannot push out the entries. */
static bool
has_too_many_outcomes(rp_store *store, const writer_batch *batch)
{
    MDB_stat now;
    if (batch->outcome_count > RP_OUTCOMES_MAX)
        return true;
    if (mdb_stat(batch->txn, store->database.tables[RP_TABLE_OUTCOME], &now) != 0)
        return false;
    const uint64_t pages = now.ms_branch_pages + now.ms_leaf_pages + now.ms_overflow_pages;
    return pages * now.ms_psize > store->budget_bytes / 8;
}

static int
apply_outcome(rp_store *store, writer_batch *batch, rp_op *op)
{
    rp_buffer value;
    rp_buffer_init(&value, 0);
    const uint64_t sequence = batch->outcome_next;
    rp_value_encode(sequence, rp_buffer_str(&op->value), NULL, &value);
    int code = rp_buffer_failed(&value)
        ? ENOMEM
        : rp_database_put_id(&store->database, batch->txn, RP_TABLE_OUTCOME, sequence,
                             rp_buffer_str(&value));
    rp_buffer_fini(&value);
    if (code)
        return code;
    batch->changed = true;
    batch->outcome_next++;
    batch->outcome_count++;
    MDB_cursor *cursor;
    code = mdb_cursor_open(batch->txn, store->database.tables[RP_TABLE_OUTCOME], &cursor);
    if (code)
        return code;
    while (!code && batch->outcome_count > 1 && has_too_many_outcomes(store, batch)) {
        MDB_val oldest_key, oldest;
        code = mdb_cursor_get(cursor, &oldest_key, &oldest, MDB_FIRST);
        if (!code)
            code = mdb_cursor_del(cursor, 0);
        if (!code)
            batch->outcome_count--;
    }
    mdb_cursor_close(cursor);
    return code;
}

static int
apply_vectors(rp_store *store, writer_batch *batch, rp_op *op)
{
    rp_str bytes;
    int code = rp_database_get_id(&store->database, batch->txn, RP_TABLE_ENTRY, op->id, &bytes);
    if (code) {
        op->status = code == MDB_NOTFOUND ? RP_ERR_NOT_FOUND : RP_OK;
        return code == MDB_NOTFOUND ? 0 : code;
    }
    rp_buffer record;
    rp_buffer_init(&record, 0);
    rp_buffer_append(&record, bytes);
    if (rp_buffer_failed(&record)) {
        rp_buffer_fini(&record);
        return ENOMEM;
    }
    op->status = rp_entry_record_set_windows(record.ptr, record.len, op->id, op->dim,
                                             op->window_count);
    if (op->status == RP_OK) {
        code = rp_database_put_id(&store->database, batch->txn, RP_TABLE_ENTRY, op->id,
                                  rp_buffer_str(&record));
        if (!code)
            code = rp_database_put_id(&store->database, batch->txn, RP_TABLE_VEC, op->id,
                                      rp_buffer_str(&op->value));
        batch->changed = true;
    }
    rp_buffer_fini(&record);
    return code;
}

static int
apply(rp_store *store, writer_batch *batch, rp_op *op)
{
    removal what;
    switch (op->kind) {
    case RP_OP_PUT: return apply_put(store, batch, op);
    case RP_OP_REMOVE: return apply_remove(store, batch, op);
    case RP_OP_DAMAGED:
        return remove_id(store, batch, op->id, &store->stats.removed, &what);
    case RP_OP_META: return apply_meta(store, batch, op);
    case RP_OP_OUTCOME: return apply_outcome(store, batch, op);
    case RP_OP_VECTORS: return apply_vectors(store, batch, op);
    case RP_OP_SYNC: return 0;
    }
    return 0;
}

/* ---- budgets and time ------------------------------------------------------- */

static int
expire(rp_store *store, writer_batch *batch)
{
    const uint64_t now = (uint64_t)rp_clock_wall_us(store->clock);
    for (int i = 0; i < EXPIRED_MAX; i++) {
        MDB_cursor *cursor;
        MDB_val key, value;
        int code = mdb_cursor_open(batch->txn, store->database.tables[RP_TABLE_EXPIRY], &cursor);
        if (code)
            return code;
        code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        char copy[16];
        const bool well_formed = !code && key.mv_size == sizeof copy;
        if (well_formed)
            memcpy(copy, key.mv_data, sizeof copy);
        mdb_cursor_close(cursor);
        if (code == MDB_NOTFOUND)
            return 0;
        if (code || !well_formed)
            return code ? code : MDB_CORRUPTED;
        const uint64_t expires = __builtin_bswap64(rp_load_le64(copy));
        const rp_entry_id id = __builtin_bswap64(rp_load_le64(copy + 8));
        if (expires > now)
            return 0;
        removal what;
        code = remove_id(store, batch, id, &store->stats.expired, &what);
        if (!code) /* a row whose entry is gone already must not stop the others */
            code = rp_database_delete(&store->database, batch->txn, RP_TABLE_EXPIRY,
                                      (rp_str){ copy, sizeof copy });
        batch->changed = true;
        if (code)
            return code;
    }
    batch->more = true;
    return 0;
}

static int
evict_one(rp_store *store, writer_batch *batch, bool *found)
{
    if (!reserve_doomed(store, 1))
        return ENOMEM;
    pthread_mutex_lock(&store->lock);
    const uint32_t number = rp_slots_evict(&store->slots);
    if (number) {
        rp_hot_drop(store, number);
        store->doomed[store->doomed_count++] = number;
        store->stats.evicted_disk++;
    }
    rp_hot_trim(store, 0); /* the ghost list may have grown */
    pthread_mutex_unlock(&store->lock);
    *found = number != 0;
    return number ? remove_doomed(store, batch, number) : 0;
}

static int
evict(rp_store *store, writer_batch *batch)
{
    const unsigned victims_max = (unsigned)RP_MIN(
        RP_MAX(store->batch_size_max / OP_PAGES_SIZE, (uint64_t)VICTIMS_MIN), (uint64_t)VICTIMS_MAX);
    bool found = true;
    for (unsigned victims = 0; found; victims++) {
        if (victims % VICTIMS_BETWEEN_LOOKS == 0 &&
            rp_database_used_bytes(&store->database, batch->txn) <= store->budget_bytes)
            return 0;
        if (victims >= victims_max) {
            batch->more = batch->over_budget = true;
            return 0;
        }
        const int code = evict_one(store, batch, &found);
        if (code)
            return code;
    }
    return 0;
}

/* Memory bounds the number of entries too. Slots of doomed ones are free after the
 * commit only, so a batch leaves room for itself. */
static int
evict_by_count(rp_store *store, writer_batch *batch)
{
    bool found = true;
    while (found && store->slots.count - store->doomed_count + 2 * BATCH_OPS_MAX >
                        store->slots.count_max) {
        const int code = evict_one(store, batch, &found);
        if (code)
            return code;
    }
    return 0;
}

/* ---- one transaction -------------------------------------------------------- */

static int
reserve_ids(rp_store *store, writer_batch *batch)
{
    pthread_mutex_lock(&store->lock);
    const rp_entry_id next = store->id_next, bound = store->id_bound;
    pthread_mutex_unlock(&store->lock);
    batch->id_bound = 0;
    if (bound - next > IDS_RESERVED / 2)
        return 0;
    batch->id_bound = bound + IDS_RESERVED;
    batch->changed = true;
    char payload[8];
    rp_store_le64(payload, batch->id_bound);
    return rp_rows_put_value(store, batch->txn, RP_TABLE_META, RP_STR("next-id"),
                             (rp_str){ payload, 8 });
}

static int
fill_transaction(rp_store *store, writer_batch *batch)
{
    batch->changed = batch->more = batch->over_budget = false;
    batch->outcome_next = store->outcome_next;
    batch->outcome_count = store->outcome_count;
    int code = 0;
    for (size_t i = 0; i < store->doomed_count && !code; i++)
        code = remove_doomed(store, batch, store->doomed[i]);
    for (rp_op *op = batch->ops; op; op = op->next)
        op->applied = false;
    for (rp_op *op = batch->ops; op && !code; op = op->next)
        code = apply(store, batch, op);
    if (!code && batch->tick)
        code = expire(store, batch);
    if (!code)
        code = evict_by_count(store, batch);
    if (!code)
        code = evict(store, batch);
    if (!code)
        code = reserve_ids(store, batch);
    /* After a failure something must be written to learn whether that works again. */
    if (!code && store->paused && !batch->changed) {
        char payload[8];
        rp_store_le64(payload, (uint64_t)rp_clock_wall_us(store->clock));
        code = rp_rows_put_value(store, batch->txn, RP_TABLE_META, RP_STR("probe"),
                                 (rp_str){ payload, 8 });
        batch->changed = true;
    }
    return code;
}

/* Everything that publishing needs, before the commit. */
static bool
reserve_slots(rp_store *store, size_t put_count)
{
    rp_slots_growth growth;
    if (!rp_slots_growth_prepare(&store->slots, store->slots.count + put_count, &growth))
        return false;
    pthread_mutex_lock(&store->lock);
    rp_slots_growth_swap(&store->slots, &growth);
    const bool reserved = rp_slots_reserve(&store->slots, put_count);
    rp_hot_trim(store, 0);
    pthread_mutex_unlock(&store->lock);
    rp_slots_growth_free(&growth);
    return reserved;
}

/* An error while writing a meta page leaves it open whether the commit is on the disk,
 * and the environment dead (MDB_PANIC). Opening it anew shows which. */
static int
settle_failed_commit(rp_store *store, size_t transaction, int code)
{
    MDB_txn *probe = NULL;
    const int state = mdb_txn_begin(store->database.env, NULL, 0, &probe);
    if (probe)
        mdb_txn_abort(probe);
    if (state != MDB_PANIC)
        return code;
    size_t last = 0;
    if (rp_database_reopen(&store->database, &last, NULL) != RP_OK) {
        store->reload_wanted = true;
        return code;
    }
    return last == transaction ? 0 : code;
}

static int
try_batch(rp_store *store, writer_batch *batch)
{
    if (!store->database.env)
        return MDB_PANIC;
    if (!reserve_slots(store, batch->put_count))
        return ENOMEM;
    int code = mdb_txn_begin(store->database.env, NULL, 0, &batch->txn);
    if (code == MDB_PANIC)
        store->reload_wanted = true;
    if (code)
        return code;
    code = fill_transaction(store, batch);
    if (!code && !reserve_doomed(store, batch->put_count)) /* publish_put may need them */
        code = ENOMEM;
    if (code || !batch->changed) {
        mdb_txn_abort(batch->txn);
        return code;
    }
    const size_t transaction = mdb_txn_id(batch->txn);
    const uint64_t used_bytes = rp_database_used_bytes(&store->database, batch->txn);
    code = mdb_txn_commit(batch->txn);
    if (code)
        code = settle_failed_commit(store, transaction, code);
    if (code)
        return code;
    pthread_mutex_lock(&store->lock);
    store->stats.commits++;
    store->stats.disk_bytes = used_bytes;
    store->outcome_next = batch->outcome_next;
    store->outcome_count = batch->outcome_count;
    pthread_mutex_unlock(&store->lock);
    return 0;
}

/* The map is full although pages were to spare: they lie scattered. Lower the budget, so
 * that eviction makes room, and try again. */
static void
lower_budget(rp_store *store)
{
    const uint64_t least = store->disk_max / 4;
    store->budget_bytes = RP_MAX(least, store->budget_bytes / 8 * 7);
}

/* ---- publishing ------------------------------------------------------------- */

static void
free_doomed(rp_store *store)
{
    for (size_t i = 0; i < store->doomed_count; i++)
        rp_slots_remove(&store->slots, store->doomed[i]);
    store->doomed_count = 0;
}

/* Returns whether the entry is in service. */
static bool
publish_put(rp_store *store, rp_op *op, const rp_entry *hot)
{
    rp_pending_remove(store, op);
    if (op->status != RP_OK)
        return false;
    store->stats.committed++;
    if (op->superseded)
        return false;
    const rp_slot values = {
        .id = op->id,
        .expires = op->entry->expires,
        .size = op->disk_size,
        .flags = op->entry->flags & RP_ENTRY_STATIC ? RP_SLOT_STATIC : 0,
    };
    const uint32_t number = rp_slots_insert(
        &store->slots, rp_load_le64(op->entry->key.bytes), &values, op->tenant, false);
    if (op->cancelled) {
        /* Removed while it was being committed: the removal follows in the queue, and
         * nobody may see the entry until then. */
        doom(store, number, &store->stats.removed);
        rp_slots_at(&store->slots, number)->flags |= RP_SLOT_TOLD;
        return false;
    }
    if (hot)
        rp_hot_insert(store, number, hot);
    return true;
}

static void
publish(rp_store *store, writer_batch *batch)
{
    pthread_mutex_lock(&store->lock);
    free_doomed(store);
    if (batch->id_bound)
        store->id_bound = batch->id_bound;
    store->paused = false;
    store->retry_delay_us = RETRY_US;
    pthread_mutex_unlock(&store->lock);
    store->budget_bytes += (store->budget_wanted_bytes - store->budget_bytes) / 1024; /* a guess */
    for (rp_op *op = batch->ops; op; op = op->next) {
        if (op->kind != RP_OP_PUT)
            continue;
        /* Copied without the lock. Without memory it is just not hot. */
        const rp_entry *hot =
            op->status == RP_OK && !op->superseded ? rp_hot_form(op->entry) : NULL;
        pthread_mutex_lock(&store->lock);
        const bool lives = publish_put(store, op, hot);
        pthread_mutex_unlock(&store->lock);
        rp_entry_unref(hot);
        if (lives && store->events.added)
            store->events.added(store->events.context, op->entry);
    }
}

/* Evict to the lowered budget in a transaction of its own: within the failed one the
 * freed pages could not be used. */
static int
make_room(rp_store *store)
{
    for (int round = 0; round < ROOM_ROUNDS_MAX; round++) {
        writer_batch room = { 0 };
        const int code = try_batch(store, &room);
        if (code)
            return code;
        publish(store, &room);
        if (!room.more)
            return 0;
    }
    return 0;
}

static int
run_attempts(rp_store *store, writer_batch *batch)
{
    int code = 0;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        code = try_batch(store, batch);
        if (code != MDB_MAP_FULL && code != MDB_TXN_FULL)
            break;
        lower_budget(store);
        if (make_room(store) != 0)
            break;
        /* Pages that a transaction frees may be used by the next but one. */
        make_room(store);
    }
    return code;
}

static void
refuse(rp_store *store, writer_batch *batch, rp_status status)
{
    pthread_mutex_lock(&store->lock);
    for (rp_op *op = batch->ops; op; op = op->next) {
        op->status = status;
        if (op->kind == RP_OP_PUT)
            rp_pending_remove(store, op);
    }
    pthread_mutex_unlock(&store->lock);
}

static void
pause_admission(rp_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->stats.commit_failures++;
    store->paused = true;
    store->retry_us = real_us() + store->retry_delay_us;
    store->retry_delay_us = RP_MIN(store->retry_delay_us * 2, (int64_t)RETRY_US_MAX);
    pthread_mutex_unlock(&store->lock);
}

static void
give_up(rp_store *store, writer_batch *batch, int code)
{
    pause_admission(store);
    refuse(store, batch, code == ENOMEM ? RP_ERR_NOMEM : RP_ERR_IO);
}

/* What could not be committed before goes ahead of what is newer. */
static void
take_lasting(rp_store *store, writer_batch *batch)
{
    if (!store->lasting_head)
        return;
    pthread_mutex_lock(&store->lock);
    for (rp_op *op = store->lasting_head; op; op = op->next) {
        op->status = RP_OK;
        store->queue_count++;
        store->queue_bytes += op->size;
    }
    pthread_mutex_unlock(&store->lock);
    store->lasting_tail->next = batch->ops;
    batch->ops = store->lasting_head;
    store->lasting_head = store->lasting_tail = NULL;
}

static void
keep_lasting(rp_store *store, rp_op *op)
{
    op->next = NULL;
    if (store->lasting_tail)
        store->lasting_tail->next = op;
    else
        store->lasting_head = op;
    store->lasting_tail = op;
}

static void
finish_ops(rp_store *store, writer_batch *batch)
{
    for (rp_op *op = batch->ops; op; op = op->next) {
        if (op->done)
            op->done(op->context, op->status, op->id);
        op->done = NULL; /* told once, also if it is tried again */
    }
    rp_op *ours = NULL;
    pthread_mutex_lock(&store->lock);
    for (rp_op *op = batch->ops, *next; op; op = next) {
        next = op->next;
        store->queue_count--;
        store->queue_bytes -= op->size;
        if (op->waited_for) {
            op->more = batch->more;
            op->finished = true; /* from here on it belongs to the thread that waits */
        } else if (op->is_lasting && op->status != RP_OK) {
            keep_lasting(store, op);
        } else {
            op->next = ours;
            ours = op;
        }
    }
    pthread_mutex_unlock(&store->lock);
    pthread_cond_broadcast(&store->settled);
    while (ours) {
        rp_op *next = ours->next;
        rp_op_free(ours);
        ours = next;
    }
}

/* ---- the thread ------------------------------------------------------------- */

static void
run_batch(rp_store *store, writer_batch *batch)
{
    bool now = false;
    for (const rp_op *op = batch->ops; op; op = op->next)
        now = now || op->waited_for;
    pthread_mutex_lock(&store->lock);
    now = now || !store->paused || store->stopping || real_us() >= store->retry_us;
    pthread_mutex_unlock(&store->lock);
    /* Paused and nobody waits: no further commit before its time (or the end). */
    if (!now) {
        refuse(store, batch, RP_ERR_IO);
        finish_ops(store, batch);
        return;
    }
    if (store->reload_wanted && !rp_store_reload(store)) {
        give_up(store, batch, EIO);
        finish_ops(store, batch);
        return;
    }
    take_lasting(store, batch);
    const int code = run_attempts(store, batch);
    if (code)
        give_up(store, batch, code);
    else
        publish(store, batch);
    /* Back under the budget before more is taken in. */
    if (!code && batch->over_budget && make_room(store) != 0)
        pause_admission(store);
    finish_ops(store, batch);
}

static void *
writer_main(void *context)
{
    rp_store *store = context;
    int64_t next_tick_us = real_us() + TICK_US;
    writer_batch batch;
    bool goes_on;
    do {
        goes_on = take_batch(store, &batch, &next_tick_us);
        if (batch.ops || batch.tick)
            run_batch(store, &batch);
        if (batch.more)
            next_tick_us = real_us();
    } while (goes_on);
    return NULL;
}

rp_status
rp_writer_start(rp_store *store, rp_error *error)
{
    store->compressor = ZSTD_createCCtx();
    if (!store->compressor)
        return rp_fail(error, RP_ERR_NOMEM, "no memory");
    store->retry_delay_us = RETRY_US;
    if (pthread_create(&store->writer, NULL, writer_main, store) != 0)
        return rp_fail(error, RP_ERR_NOMEM, "cannot start the store's writer thread");
    store->writer_started = true;
    return RP_OK;
}

void
rp_writer_stop(rp_store *store)
{
    if (store->writer_started) {
        pthread_mutex_lock(&store->lock);
        store->stopping = true;
        pthread_mutex_unlock(&store->lock);
        pthread_cond_signal(&store->wake);
        pthread_join(store->writer, NULL);
        store->writer_started = false;
    }
    while (store->lasting_head) {
        rp_op *next = store->lasting_head->next;
        rp_op_free(store->lasting_head);
        store->lasting_head = next;
    }
    store->lasting_tail = NULL;
    ZSTD_freeCCtx(store->compressor);
    store->compressor = NULL;
    free(store->doomed);
    store->doomed = NULL;
}
