/* store.c - see store.h: opening, closing, and what is asked of the disk. */
#include "store/store.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "store/entry.h"
#include "store/store_internal.h"

#include <stdio.h>

enum {
    DISK_DEFAULT_GIB = 20,
    MEMORY_DEFAULT_MIB = 256,
    MEMORY_MIN_MIB = 4,
    SLOT_SIZE_ABOUT = 84,    /* with its part of the indexes */
    COUNT_MAX_MIN = 16384,
    HOT_SIZE_MIN = 256,      /* no entry is smaller */
    WALK_ENTRIES = 64,       /* entries of one read transaction; a guess: 100 us */
    WALK_VECTORS = 256,
    WALK_SOON = 4,        /* entries fetched ahead; a guess */
    CREDENTIAL_PERSIST_US = 600000000, /* an acceptance is written at most this often */
};

/* ---- opening ---------------------------------------------------------------- */

static rp_status
take_options(rp_store *store, const rp_store_options *options, rp_error *error)
{
    store->events = options->events;
    store->clock = options->clock ? options->clock : &rp_clock_system;
    store->read_only = options->read_only;
    store->disk_max =
        options->disk_max ? options->disk_max : (uint64_t)DISK_DEFAULT_GIB << 30;
    store->memory_max =
        options->memory_max ? options->memory_max : (uint64_t)MEMORY_DEFAULT_MIB << 20;
    const double share_max = options->share_max != 0 ? options->share_max : 0.5;
    if (!options->folder || !*options->folder)
        return rp_fail(error, RP_ERR_INVALID, "the store needs a folder");
    if (store->disk_max < RP_DISK_MIN)
        return rp_fail(error, RP_ERR_INVALID, "disk_max is %llu bytes; at least %d are needed",
                       (unsigned long long)store->disk_max, RP_DISK_MIN);
    if (store->memory_max < (uint64_t)MEMORY_MIN_MIB << 20)
        return rp_fail(error, RP_ERR_INVALID, "memory_max is %llu bytes; at least %d MiB are needed",
                       (unsigned long long)store->memory_max, MEMORY_MIN_MIB);
    if (!(share_max > 0 && share_max <= 1))
        return rp_fail(error, RP_ERR_INVALID, "share_max is %g; it must be in (0, 1]", share_max);
    if (options->fingerprint && *options->fingerprint) {
        if (strlen(options->fingerprint) != RP_FINGERPRINT_SIZE || options->dim == 0 ||
            options->dim > RP_DIM_MAX)
            return rp_fail(error, RP_ERR_INVALID, "an encoder needs a fingerprint of %d digits and "
                           "1 to %d numbers in a vector", RP_FINGERPRINT_SIZE, RP_DIM_MAX);
        memcpy(store->encoder_fingerprint, options->fingerprint, RP_FINGERPRINT_SIZE);
        store->encoder = rp_hash64(rp_str_of(store->encoder_fingerprint));
        store->encoder_dim = options->dim;
    }
    /* The map holds disk_max; pages in use are kept below it by what one batch may need
     * before its evictions give pages back. The fractions and bounds are guesses; a map
     * that is full all the same lowers the budget (writer.c). */
    const uint64_t eighth = RP_MIN(store->disk_max / 8, (uint64_t)512 << 20);
    const uint64_t reserve = RP_MAX(eighth, RP_MIN(store->disk_max / 4, (uint64_t)8 << 20));
    store->budget_bytes = store->budget_wanted_bytes = store->disk_max - reserve;
    store->batch_size_max = RP_MIN(reserve / 4, (uint64_t)64 << 20);
    store->entry_size_max = RP_MIN(reserve / 4, (uint64_t)32 << 20);
    store->share_max_bytes = (uint64_t)((double)store->budget_bytes * share_max);
    return RP_OK;
}

static rp_status
init_memory(rp_store *store, rp_error *error)
{
    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &attributes);
    pthread_cond_init(&store->settled, &attributes);
    pthread_condattr_destroy(&attributes);
    store->data_lock_made = true;
    atomic_init(&store->fingerprint, store->fingerprints[0]);
    /* Slots may take three quarters of memory_max. */
    const size_t count_max =
        RP_MIN(RP_MAX(store->memory_max / 4 * 3 / SLOT_SIZE_ABOUT, (uint64_t)COUNT_MAX_MIN),
               (uint64_t)UINT32_MAX / 2);
    if (!rp_slots_init(&store->slots, store->budget_bytes, count_max) ||
        !rp_hot_init(&store->hot, store->memory_max,
                     RP_MIN(store->memory_max / HOT_SIZE_MIN, (uint64_t)UINT32_MAX / 2)))
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the store's tables");
    return RP_OK;
}

/* A store without vectors takes the encoder it is opened with. */
static rp_status
adopt_fingerprint(rp_store *store)
{
    if (store->read_only || !store->encoder || store->stored_encoder == store->encoder)
        return RP_OK;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return RP_ERR_IO;
    const size_t vectors = rp_database_rows(&store->database, reader->txn, RP_TABLE_VEC);
    rp_database_read_end(&store->database, reader);
    return vectors ? RP_OK
                   : rp_store_fingerprint_set(store, store->encoder_fingerprint,
                                              store->encoder_dim);
}

rp_status
rp_store_open(const rp_store_options *options, rp_store **out, rp_error *error)
{
    rp_store *store = calloc(1, sizeof *store);
    if (!store)
        return rp_fail(error, RP_ERR_NOMEM, "no memory");
    store->folder.lock_fd = -1;
    rp_status status = take_options(store, options, error);
    if (status == RP_OK)
        status = init_memory(store, error);
    if (status == RP_OK)
        status = rp_data_folder_open(&store->folder, options->folder, options->read_only, error);
    if (status == RP_OK)
        status = rp_database_open(&store->database, options->folder, store->disk_max,
                                  options->read_only, rp_store_write_first, store, error);
    if (status == RP_OK)
        status = rp_store_load(store, error);
    if (status == RP_OK && !store->read_only) {
        status = rp_writer_start(store, error);
        /* The first commit reserves ids; without it none can be given out. */
        if (status == RP_OK && rp_store_sync(store) != RP_OK)
            status = rp_fail(error, RP_ERR_IO, "cannot write to %s", store->database.path);
        if (status == RP_OK && adopt_fingerprint(store) != RP_OK)
            status = rp_fail(error, RP_ERR_IO, "cannot write to %s", store->database.path);
    }
    if (status != RP_OK) {
        rp_store_close(store);
        return status;
    }
    *out = store;
    return RP_OK;
}

void
rp_store_close(rp_store *store)
{
    if (!store)
        return;
    rp_writer_stop(store);
    rp_database_close(&store->database);
    if (store->data_lock_made) {
        rp_hot_fini(store);
        rp_slots_fini(&store->slots);
        rp_credentials_fini(&store->credentials);
        rp_epochs_fini(&store->epochs);
        pthread_mutex_destroy(&store->lock);
        pthread_cond_destroy(&store->wake);
        pthread_cond_destroy(&store->settled);
    }
    rp_data_folder_close(&store->folder);
    free(store->shares);
    free(store);
}

const char *
rp_store_fingerprint(const rp_store *store)
{
    return atomic_load(&store->fingerprint);
}

bool
rp_store_vectors_usable(const rp_store *store)
{
    const uint64_t encoder = atomic_load(&store->encoder);
    return encoder && atomic_load(&store->stored_encoder) == encoder;
}

const uint8_t *
rp_store_secret(const rp_store *store)
{
    return store->folder.secret;
}

void
rp_store_id_encode(const rp_store *store, rp_entry_id id, char out[33])
{
    rp_data_folder_id_encode(&store->folder, id, out);
}

bool
rp_store_id_decode(const rp_store *store, rp_str text, rp_entry_id *out)
{
    return rp_data_folder_id_decode(&store->folder, text, out);
}

/* ---- putting ---------------------------------------------------------------- */

static rp_status
check_draft(const rp_store *store, const rp_entry *draft)
{
    const rp_str texts[] = { draft->tenant, draft->namespace_name, draft->route, draft->model,
                             draft->category, draft->prompt, draft->tags };
    size_t size = draft->reply.len;
    for (size_t i = 0; i < RP_COUNT(texts); i++) {
        if (texts[i].len > RP_RECORD_TEXT_SIZE_MAX)
            return RP_ERR_LIMIT;
        size += texts[i].len;
    }
    if (draft->reply.len > RP_REPLY_SIZE_MAX || draft->scope_fields.len > RP_SCOPE_FIELDS_SIZE_MAX ||
        size > store->entry_size_max)
        return RP_ERR_LIMIT;
    if (draft->mean && (!rp_store_vectors_usable(store) || draft->dim != store->encoder_dim ||
                        draft->window_count == 0 || draft->window_count > RP_WINDOWS_MAX ||
                        (draft->window_count > 1 && !draft->windows)))
        return RP_ERR_INVALID;
    if (draft->expires < 0 || draft->created < 0)
        return RP_ERR_INVALID;
    return RP_OK;
}

uint64_t
rp_store_share_of(const rp_store *store, uint64_t tenant)
{
    for (size_t i = 0; i < store->share_count; i++)
        if (store->shares[i].tenant == tenant)
            return store->shares[i].bytes;
    return store->share_max_bytes;
}

rp_status
rp_store_shares_set(rp_store *store, const rp_store_share *shares, size_t count)
{
    struct rp_tenant_share *made = calloc(count ? count : 1, sizeof *made);
    if (!made)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        if (!(shares[i].share > 0 && shares[i].share <= 1)) {
            free(made);
            return RP_ERR_INVALID;
        }
        made[i].tenant = rp_hash64(shares[i].tenant);
        made[i].bytes = (uint64_t)((double)store->budget_wanted_bytes * shares[i].share);
    }
    pthread_mutex_lock(&store->lock);
    struct rp_tenant_share *before = store->shares;
    store->shares = made;
    store->share_count = count;
    pthread_mutex_unlock(&store->lock);
    free(before);
    return RP_OK;
}

/* A tenant whose static entries fill its share cannot make room. */
static bool
exceeds_share(const rp_store *store, const rp_op *op)
{
    const uint64_t size = rp_rows_disk_size(op->entry, RP_ENTRY_RECORD_HEADER_SIZE);
    const uint64_t name = rp_hash64(op->entry->tenant);
    const rp_slot_tenant *tenant = rp_slots_tenant(&store->slots, name);
    return size + (tenant ? tenant->static_bytes : 0) > rp_store_share_of(store, name);
}

rp_status
rp_store_put(rp_store *store, const rp_entry *draft, rp_entry_id *out_id, rp_store_done *done,
             void *context)
{
    if (store->read_only)
        return RP_ERR_UNSUPPORTED;
    rp_status status = check_draft(store, draft);
    if (status != RP_OK)
        return status;
    rp_op *op = calloc(1, sizeof *op);
    if (!op)
        return RP_ERR_NOMEM;
    rp_entry wanted = *draft;
    const uint64_t encoder = atomic_load(&store->encoder);
    if (!wanted.encoder)
        wanted.encoder = encoder;
    if (wanted.encoder != encoder) /* exchanged a moment ago */
        wanted.mean = wanted.windows = NULL;
    if (!wanted.mean) {
        wanted.encoder = 0;
        wanted.dim = wanted.window_count = 0;
        wanted.flags |= RP_ENTRY_EXACT_ONLY;
    }
    rp_entry *entry =
        rp_entry_copy(&wanted, RP_PART_REPLY | RP_PART_VECTORS | RP_PART_SCOPE);
    if (!entry) {
        free(op);
        return RP_ERR_NOMEM;
    }
    op->kind = RP_OP_PUT;
    op->entry = entry;
    op->done = done;
    op->context = context;
    op->size = rp_entry_size_bytes(entry);

    pthread_mutex_lock(&store->lock);
    if (store->paused)
        status = RP_ERR_IO;
    else if (exceeds_share(store, op))
        status = RP_ERR_LIMIT;
    else if (store->id_next >= store->id_bound)
        status = RP_ERR_BUSY;
    else
        status = rp_writer_push(store, op);
    if (status == RP_OK) {
        /* Ids are given in the order of the queue, so that rows are appended. */
        op->id = entry->id = store->id_next++;
        rp_pending_insert(store, op);
        store->stats.puts++;
        *out_id = op->id;
    }
    pthread_mutex_unlock(&store->lock);
    if (status != RP_OK)
        rp_op_free(op);
    return status;
}

rp_entry_id
rp_store_id_next(rp_store *store)
{
    pthread_mutex_lock(&store->lock);
    const rp_entry_id next = store->id_next;
    pthread_mutex_unlock(&store->lock);
    return next;
}

/* ---- credentials and epochs ------------------------------------------------- */

static rp_op *
make_meta_op(rp_str prefix, rp_str name, const rp_str *payload)
{
    rp_op *op = calloc(1, sizeof *op);
    if (!op)
        return NULL;
    op->kind = RP_OP_META;
    rp_buffer_append(&op->key, prefix);
    rp_buffer_append(&op->key, name);
    if (payload)
        rp_buffer_append(&op->value, *payload);
    op->value_is_gone = !payload;
    op->size = sizeof *op + op->key.len + op->value.len;
    if (rp_buffer_failed(&op->key) || rp_buffer_failed(&op->value)) {
        rp_op_free(op);
        return NULL;
    }
    return op;
}

/* Write or delete a credential's row some time soon. If the queue is full it stays as it
 * was: an acceptance is written with the next one, and one that was dropped for its age is
 * believed again after a restart, until credential_ttl. */
static void
push_credential(rp_store *store, const uint8_t hash[32], rp_time accepted)
{
    char payload[8];
    rp_store_le64(payload, (uint64_t)accepted);
    const rp_str payload_str = { payload, sizeof payload };
    rp_op *op = make_meta_op(RP_STR("credential/"), (rp_str){ (const char *)hash, 32 },
                             accepted ? &payload_str : NULL);
    if (op && rp_writer_push(store, op) != RP_OK)
        rp_op_free(op);
}

rp_time
rp_store_credential_accepted(rp_store *store, const uint8_t hash[32])
{
    pthread_mutex_lock(&store->lock);
    const rp_credential *place = rp_credentials_find(&store->credentials, hash);
    const rp_time accepted = place ? place->accepted : 0;
    pthread_mutex_unlock(&store->lock);
    return accepted;
}

void
rp_store_credential_accept(rp_store *store, const uint8_t hash[32], rp_time now)
{
    uint8_t dropped[32];
    bool has_dropped = false;
    pthread_mutex_lock(&store->lock);
    rp_credential *place = rp_credentials_make(&store->credentials, hash, dropped, &has_dropped);
    if (place) {
        place->accepted = RP_MAX(now, (rp_time)1);
        const bool old = !place->persisted || now < place->persisted ||
                         now - place->persisted >= CREDENTIAL_PERSIST_US;
        rp_hot_trim(store, 0);
        if (!store->read_only && !store->paused && old) {
            place->persisted = now;
            push_credential(store, hash, place->accepted);
        }
    }
    if (has_dropped && !store->read_only)
        push_credential(store, dropped, 0);
    pthread_mutex_unlock(&store->lock);
}

bool
rp_store_credential_revoke(rp_store *store, const uint8_t hash[32], rp_store_done *done,
                           void *context)
{
    bool pushed = false;
    pthread_mutex_lock(&store->lock);
    if (rp_credentials_remove(&store->credentials, hash) && !store->read_only) {
        rp_op *op = make_meta_op(RP_STR("credential/"), (rp_str){ (const char *)hash, 32 }, NULL);
        if (op) {
            op->done = done;
            op->context = context;
            pushed = rp_writer_push_lasting(store, op) == RP_OK;
        }
        if (op && !pushed)
            rp_op_free(op);
    }
    pthread_mutex_unlock(&store->lock);
    return pushed;
}

uint64_t
rp_store_epoch(rp_store *store, rp_str name)
{
    pthread_mutex_lock(&store->lock);
    const uint64_t epoch = rp_epochs_get(&store->epochs, name);
    pthread_mutex_unlock(&store->lock);
    return epoch;
}

static rp_status
put_meta_and_wait(rp_store *store, rp_str prefix, rp_str name, rp_str payload)
{
    rp_op op = { .kind = RP_OP_META };
    rp_buffer_append(&op.key, prefix);
    rp_buffer_append(&op.key, name);
    rp_buffer_append(&op.value, payload);
    rp_status status = RP_ERR_NOMEM;
    if (!rp_buffer_failed(&op.key) && !rp_buffer_failed(&op.value))
        status = rp_writer_wait(store, &op);
    rp_buffer_fini(&op.key);
    rp_buffer_fini(&op.value);
    return status;
}

rp_status
rp_store_epoch_bump(rp_store *store, rp_str name)
{
    if (store->read_only)
        return RP_ERR_UNSUPPORTED;
    if (name.len > RP_META_KEY_SIZE_MAX - sizeof "epoch/")
        return RP_ERR_INVALID;
    pthread_mutex_lock(&store->lock);
    if (store->epochs.count >= RP_EPOCHS_MAX && rp_epochs_get(&store->epochs, name) == 0)
        name.len = 0;
    /* In memory first: entries of before are out of reach from here on, whatever the disk
     * says. A commit that fails leaves the number higher, which forgets no less. */
    const uint64_t epoch = rp_epochs_get(&store->epochs, name) + 1;
    const bool set = rp_epochs_set(&store->epochs, name, epoch);
    pthread_mutex_unlock(&store->lock);
    if (!set)
        return RP_ERR_NOMEM;
    char payload[8];
    rp_store_le64(payload, epoch);
    return put_meta_and_wait(store, RP_STR("epoch/"), name, (rp_str){ payload, 8 });
}

/* ---- getting ---------------------------------------------------------------- */

/* A value of this entry is damaged: count it once and have it removed. */
static void
report_damaged(rp_store *store, rp_entry_id id)
{
    rp_op *op = calloc(1, sizeof *op);
    pthread_mutex_lock(&store->lock);
    const uint32_t number = rp_slots_find_id(&store->slots, id);
    if (number && !(rp_slots_at(&store->slots, number)->flags & RP_SLOT_DOOMED)) {
        store->stats.damaged++;
        if (op && !store->read_only) {
            op->kind = RP_OP_DAMAGED;
            op->id = id;
            op->size = sizeof *op;
            if (rp_writer_push(store, op) == RP_OK)
                op = NULL;
        }
    }
    pthread_mutex_unlock(&store->lock);
    free(op);
}

typedef enum read_result { READ_OK, READ_NONE, READ_DAMAGED } read_result;

static read_result
result_of(rp_status status)
{
    return status == RP_OK ? READ_OK : status == RP_ERR_NOT_FOUND ? READ_NONE : READ_DAMAGED;
}

/* Fill in the vectors of a view. The records' sizes are multiples of 8, so LMDB's leaves
 * keep them aligned; `scratch` takes over where a page does not. */
static read_result
read_vectors(rp_store *store, MDB_txn *txn, rp_entry *view, rp_buffer *scratch)
{
    rp_str bytes;
    const int code = rp_database_get_id(&store->database, txn, RP_TABLE_VEC, view->id, &bytes);
    if (code == MDB_NOTFOUND)
        return READ_DAMAGED; /* its record says that it has one */
    if (code)
        return READ_NONE;
    if ((uintptr_t)bytes.ptr % _Alignof(float)) {
        scratch->len = 0;
        rp_buffer_append(scratch, bytes);
        if (rp_buffer_failed(scratch))
            return READ_NONE;
        bytes = rp_buffer_str(scratch);
    }
    rp_vector_view vectors;
    const rp_scope scope = rp_vector_scope(view->scope, view->template_);
    if (rp_vector_record_decode(bytes, view->id, &vectors) != RP_OK ||
        memcmp(vectors.scope.bytes, scope.bytes, sizeof scope.bytes) != 0)
        return READ_DAMAGED;
    if (vectors.encoder != store->stored_encoder)
        return READ_OK; /* of another encoder: not shown */
    view->encoder = vectors.encoder;
    view->dim = vectors.dim;
    view->window_count = vectors.window_count;
    view->mean = vectors.mean;
    view->windows = vectors.windows ? vectors.windows : view->mean;
    return READ_OK;
}

static void
read_scope_fields(rp_store *store, MDB_txn *txn, rp_entry *view, rp_buffer *out)
{
    char key[33];
    memcpy(key, view->scope.bytes, 32);
    key[32] = 'f';
    rp_str bytes;
    const rp_str key_str = { key, sizeof key };
    if (rp_database_get(&store->database, txn, RP_TABLE_SCOPE, key_str, &bytes) == 0 &&
        rp_value_decode(rp_hash64(key_str), bytes, RP_SCOPE_FIELDS_SIZE_MAX, out) == RP_OK)
        view->scope_fields = rp_buffer_str(out);
}

/* Make an entry of the record `bytes` with the parts asked for. */
static read_result
build_entry(rp_store *store, rp_reader *reader, rp_str bytes, rp_entry_id id, unsigned parts,
            const rp_scope *scope, const rp_entry **out)
{
    rp_entry view;
    rp_stored_reply reply;
    const rp_status status = rp_entry_record_decode(bytes, id, &view, &reply);
    if (status != RP_OK)
        return READ_DAMAGED;
    if (scope && memcmp(scope->bytes, view.scope.bytes, sizeof scope->bytes) != 0)
        return READ_NONE;

    rp_buffer fields, scratch;
    rp_buffer_init(&fields, RP_SCOPE_FIELDS_SIZE_MAX);
    rp_buffer_init(&scratch, 0);
    read_result result = READ_OK;
    if (parts & RP_PART_VECTORS && view.dim)
        result = read_vectors(store, reader->txn, &view, &scratch);
    if (result == READ_OK && parts & RP_PART_SCOPE)
        read_scope_fields(store, reader->txn, &view, &fields);
    if (result == READ_OK) {
        char *room;
        const size_t reply_size = parts & RP_PART_REPLY ? reply.size : 0;
        rp_entry *entry = rp_entry_copy_with_room(&view, parts, reply_size, &room);
        if (!entry)
            result = READ_NONE;
        else if (parts & RP_PART_REPLY)
            result = result_of(rp_stored_reply_unpack(&reply, id, reader->decompressor, room));
        if (result == READ_OK)
            *out = entry;
        else
            rp_entry_unref(entry);
    }
    rp_buffer_fini(&fields);
    rp_buffer_fini(&scratch);
    return result;
}

static read_result
read_entry(rp_store *store, rp_entry_id id, unsigned parts, const rp_scope *scope,
           const rp_entry **out)
{
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return READ_NONE;
    rp_str bytes;
    const int code = rp_database_get_id(&store->database, reader->txn, RP_TABLE_ENTRY, id, &bytes);
    const read_result result = code == 0
        ? build_entry(store, reader, bytes, id, parts, scope, out)
        : code == MDB_NOTFOUND ? READ_DAMAGED : READ_NONE; /* a slot without its entry */
    rp_database_read_end(&store->database, reader);
    return result;
}

/* What is in memory, if it has the parts asked for. */
static const rp_entry *
find_in_memory(rp_store *store, const rp_scope *scope, rp_entry_id id, unsigned parts,
               bool *may_be_on_disk)
{
    const rp_time now = rp_clock_wall_us(store->clock);
    const rp_entry *entry = NULL;
    pthread_mutex_lock(&store->lock);
    const rp_op *op = rp_pending_find(store, id);
    const uint32_t number = op ? 0 : rp_store_find_live(store, id, now);
    *may_be_on_disk = number != 0;
    if (op)
        entry = op->cancelled ? NULL : op->entry;
    else if (number && rp_slots_at(&store->slots, number)->hot && !(parts & RP_PART_SCOPE))
        entry = ((rp_hot_place *)rp_chunks_at(&store->hot.places,
                                              rp_slots_at(&store->slots, number)->hot))->entry;
    if (entry && !op && parts & RP_PART_VECTORS &&
        ((entry->dim && !entry->mean) || entry->encoder != store->stored_encoder))
        entry = NULL;
    if (entry && memcmp(entry->scope.bytes, scope->bytes, sizeof scope->bytes) != 0) {
        entry = NULL;
        *may_be_on_disk = false;
    }
    if (entry && entry->expires && entry->expires <= now)
        entry = NULL;
    if (entry)
        rp_entry_ref(entry);
    pthread_mutex_unlock(&store->lock);
    return entry;
}

static void
keep_hot(rp_store *store, const rp_entry *entry)
{
    const rp_entry *hot = rp_hot_form(entry);
    if (!hot)
        return;
    pthread_mutex_lock(&store->lock);
    const uint32_t number =
        rp_store_find_live(store, entry->id, rp_clock_wall_us(store->clock));
    if (number)
        rp_hot_insert(store, number, hot);
    pthread_mutex_unlock(&store->lock);
    rp_entry_unref(hot);
}

const rp_entry *
rp_store_get(rp_store *store, rp_scope scope, rp_entry_id id, unsigned parts)
{
    bool may_be_on_disk;
    const rp_entry *entry = find_in_memory(store, &scope, id, parts, &may_be_on_disk);
    if (entry || !may_be_on_disk)
        return entry;
    switch (read_entry(store, id, parts, &scope, &entry)) {
    case READ_NONE: return NULL;
    case READ_DAMAGED: report_damaged(store, id); return NULL;
    case READ_OK: break;
    }
    /* Expiry is checked again: the table and the record must both agree. */
    if (entry->expires && entry->expires <= rp_clock_wall_us(store->clock)) {
        rp_entry_unref(entry);
        return NULL;
    }
    /* A hot entry of several windows has them; one that was read without stays cold. */
    if (parts & RP_PART_REPLY && (entry->window_count <= 1 || entry->mean))
        keep_hot(store, entry);
    return entry;
}

/* ---- removing --------------------------------------------------------------- */

size_t
rp_store_remove(rp_store *store, const rp_entry_id *ids, size_t count)
{
    if (store->read_only || count == 0)
        return 0;
    size_t cancelled_count = 0;
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < count; i++) {
        rp_op *op = rp_pending_find(store, ids[i]);
        if (!op || op->cancelled)
            continue;
        /* It stays in the pending table, as nothing: what it replaces must not come
         * back into sight. */
        op->cancelled = true;
        cancelled_count++;
    }
    pthread_mutex_unlock(&store->lock);
    rp_op op = { .kind = RP_OP_REMOVE, .ids = ids, .count = count };
    (void)rp_writer_wait(store, &op);
    return cancelled_count + op.doomed_count + op.superseded_count;
}

rp_status
rp_store_sync(rp_store *store)
{
    if (store->read_only)
        return RP_OK;
    for (;;) {
        rp_op op = { .kind = RP_OP_SYNC, .is_sync_eager = true };
        const rp_status status = rp_writer_wait(store, &op);
        if (status != RP_OK || !op.more)
            return status == RP_ERR_NOMEM ? RP_ERR_IO : status;
    }
}

/* ---- walking ---------------------------------------------------------------- */

static bool
view_matches(const rp_store *store, const rp_store_selector *selector, const rp_entry *entry,
             rp_time now)
{
    (void)store;
    if (selector->tenant.len && !rp_str_equal(selector->tenant, entry->tenant))
        return false;
    if (selector->namespace_name.len &&
        !rp_str_equal(selector->namespace_name, entry->namespace_name))
        return false;
    if (selector->model.len && !rp_str_matches_glob(entry->model, selector->model))
        return false;
    if (selector->older_than_us && entry->created > now - selector->older_than_us)
        return false;
    if (entry->expires && entry->expires <= now)
        return false;
    if (!selector->tag.len)
        return true;
    for (rp_str tags = entry->tags; tags.len;)
        if (rp_str_equal(rp_str_split(&tags, '\n'), selector->tag))
            return true;
    return false;
}

/* The next entries behind `after`: ids of the entry database, or of one tag. */
static size_t
next_ids(rp_store *store, const rp_store_selector *selector, rp_reader *reader, rp_entry_id after,
         rp_entry_id *ids, size_t max)
{
    size_t count = 0;
    MDB_cursor *cursor;
    char tag_key[16];
    rp_entry_id first = after + 1;
    const bool by_tag = selector->tag.len != 0;
    if (selector->id) {
        if (after < selector->id)
            ids[count++] = selector->id;
        return count;
    }
    rp_rows_tag_key(selector->tag, first, tag_key);
    MDB_val key = by_tag ? (MDB_val){ sizeof tag_key, tag_key } : (MDB_val){ sizeof first, &first };
    MDB_val value;
    const rp_table table = by_tag ? RP_TABLE_TAG : RP_TABLE_ENTRY;
    if (mdb_cursor_open(reader->txn, store->database.tables[table], &cursor) != 0)
        return 0;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !code && count < max; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (by_tag && (key.mv_size != sizeof tag_key || memcmp(key.mv_data, tag_key, 8) != 0))
            break;
        ids[count++] = by_tag ? __builtin_bswap64(rp_load_le64((char *)key.mv_data + 8))
                              : rp_load_le64(key.mv_data);
    }
    mdb_cursor_close(cursor);
    return count;
}

static bool
is_live(rp_store *store, rp_entry_id id)
{
    pthread_mutex_lock(&store->lock);
    const uint32_t number = rp_store_find_live(store, id, rp_clock_wall_us(store->clock));
    pthread_mutex_unlock(&store->lock);
    return number != 0;
}

/* The same in a walk: the ids that follow are likely to be asked for soon. */
static bool
is_live_as_next(rp_store *store, rp_entry_id id)
{
    pthread_mutex_lock(&store->lock);
    rp_slots_fetch_id(&store->slots, id + WALK_SOON, id + 2 * WALK_SOON);
    const uint32_t number = rp_store_find_live(store, id, rp_clock_wall_us(store->clock));
    pthread_mutex_unlock(&store->lock);
    return number != 0;
}

/* One read transaction of a walk: up to WALK_ENTRIES ids looked at, those that match
 * copied. Returns how many were looked at. */
static size_t
walk_some(rp_store *store, const rp_store_selector *selector, unsigned parts, rp_entry_id *last,
          const rp_entry **out, size_t *out_count)
{
    rp_entry_id ids[WALK_ENTRIES], damaged[WALK_ENTRIES];
    size_t damaged_count = 0;
    const rp_time now = rp_clock_wall_us(store->clock);
    *out_count = 0;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return 0;
    const size_t count = next_ids(store, selector, reader, *last, ids, WALK_ENTRIES);
    for (size_t i = 0; i < count; i++) {
        *last = ids[i];
        rp_str bytes;
        rp_entry view;
        rp_stored_reply reply;
        if (rp_database_get_id(&store->database, reader->txn, RP_TABLE_ENTRY, ids[i], &bytes) != 0)
            continue;
        read_result result = result_of(rp_entry_record_decode(bytes, ids[i], &view, &reply));
        if (result == READ_OK && !view_matches(store, selector, &view, now))
            continue;
        if (result == READ_OK)
            result = build_entry(store, reader, bytes, ids[i], parts, NULL, &out[*out_count]);
        if (result == READ_OK)
            ++*out_count;
        else if (result == READ_DAMAGED)
            damaged[damaged_count++] = ids[i];
    }
    rp_database_read_end(&store->database, reader);
    for (size_t i = 0; i < damaged_count; i++)
        report_damaged(store, damaged[i]);
    return count;
}

void
rp_store_walk(rp_store *store, const rp_store_selector *selector, unsigned parts,
              rp_store_each *each, void *context)
{
    static const rp_store_selector all;
    const rp_entry *found[WALK_ENTRIES];
    rp_entry_id last = 0;
    bool goes_on = true;
    if (!selector)
        selector = &all;
    /* What is pending must not slip through an invalidation. If it cannot be committed it
     * will not be there either. */
    if (rp_store_sync(store) == RP_ERR_CLOSED)
        return;
    while (goes_on) {
        size_t found_count;
        if (walk_some(store, selector, parts, &last, found, &found_count) == 0)
            break;
        for (size_t i = 0; i < found_count; i++) {
            if (goes_on && is_live(store, found[i]->id))
                goes_on = each(context, found[i]);
            rp_entry_unref(found[i]);
        }
    }
}

/* ---- vectors ---------------------------------------------------------------- */

typedef struct vector_walk {
    rp_store_each_vector *each;
    void *context;
    float *aligned; /* owned; for a page that does not align its floats */
    bool goes_on;
} vector_walk;

static bool
walk_vector(rp_store *store, vector_walk *walk, rp_entry_id id, rp_str bytes)
{
    rp_vector_view view;
    if (rp_vector_record_decode(bytes, id, &view) != RP_OK)
        return false;
    if (view.encoder != store->stored_encoder || !is_live_as_next(store, id))
        return true;
    const float *mean = view.mean;
    if ((uintptr_t)view.mean % _Alignof(float)) {
        memcpy(walk->aligned, view.mean, view.dim * sizeof(float));
        mean = walk->aligned;
    }
    walk->goes_on = walk->each(walk->context, id, view.scope, mean, view.dim);
    return true;
}

static int
walk_vectors_some(rp_store *store, vector_walk *walk, rp_entry_id *next)
{
    rp_entry_id damaged[WALK_VECTORS];
    size_t damaged_count = 0;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return ENOMEM;
    MDB_cursor *cursor;
    int code = mdb_cursor_open(reader->txn, store->database.tables[RP_TABLE_VEC], &cursor);
    if (!code) {
        MDB_val key = { sizeof *next, next }, value;
        code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        for (int i = 0; !code && i < WALK_VECTORS && walk->goes_on; i++) {
            const rp_entry_id id = rp_load_le64(key.mv_data);
            if (!walk_vector(store, walk, id, (rp_str){ value.mv_data, value.mv_size }))
                damaged[damaged_count++] = id;
            *next = id + 1;
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    rp_database_read_end(&store->database, reader);
    for (size_t i = 0; i < damaged_count; i++)
        report_damaged(store, damaged[i]);
    return code;
}

rp_status
rp_store_walk_vectors(rp_store *store, rp_store_each_vector *each, void *context, rp_error *error)
{
    vector_walk walk = { each, context, malloc(RP_DIM_MAX * sizeof(float)), true };
    if (!walk.aligned)
        return rp_fail(error, RP_ERR_NOMEM, "no memory");
    rp_entry_id next = 1;
    int code = 0;
    while (!code && walk.goes_on && store->stored_encoder)
        code = walk_vectors_some(store, &walk, &next);
    free(walk.aligned);
    if (code && code != MDB_NOTFOUND)
        return rp_fail(error, rp_database_status(code), "cannot read the vectors of %s",
                       store->database.path);
    return RP_OK;
}

/* Wait until the queue has room, then hand over. */
static rp_status
push_patiently(rp_store *store, rp_op *op)
{
    pthread_mutex_lock(&store->lock);
    rp_status status;
    while ((status = store->paused ? RP_ERR_IO : rp_writer_push(store, op)) == RP_ERR_BUSY)
        pthread_cond_wait(&store->settled, &store->lock);
    pthread_mutex_unlock(&store->lock);
    return status;
}

rp_status
rp_store_vectors_replace(rp_store *store, rp_entry_id id, uint64_t encoder, size_t dim,
                         size_t window_count, const float *windows, const float *mean)
{
    if (store->read_only)
        return RP_ERR_UNSUPPORTED;
    if (!store->encoder || dim != store->encoder_dim || window_count == 0 ||
        window_count > RP_WINDOWS_MAX || !mean || (window_count > 1 && !windows))
        return RP_ERR_INVALID;
    const rp_entry *entry = NULL;
    if (!is_live(store, id) || read_entry(store, id, 0, NULL, &entry) != READ_OK)
        return RP_ERR_NOT_FOUND;
    rp_op *op = calloc(1, sizeof *op);
    const size_t size = rp_vector_record_size(dim, window_count);
    rp_status status = RP_ERR_NOMEM;
    if (op && rp_buffer_reserve(&op->value, size)) {
        rp_vector_record_encode(id, encoder ? encoder : atomic_load(&store->encoder),
                                rp_vector_scope(entry->scope, entry->template_), dim, window_count,
                                mean, windows, op->value.ptr);
        op->value.len = size;
        op->kind = RP_OP_VECTORS;
        op->id = id;
        op->dim = (uint32_t)dim;
        op->window_count = (uint32_t)window_count;
        op->size = sizeof *op + size;
        status = push_patiently(store, op);
    }
    if (status != RP_OK && op)
        rp_op_free(op);
    rp_entry_unref(entry);
    return status;
}

rp_status
rp_store_fingerprint_set(rp_store *store, const char *fingerprint, size_t dim)
{
    if (store->read_only)
        return RP_ERR_UNSUPPORTED;
    if (!fingerprint || strlen(fingerprint) != RP_FINGERPRINT_SIZE || dim == 0 || dim > RP_DIM_MAX)
        return RP_ERR_INVALID;
    char payload[RP_FINGERPRINT_SIZE + 4];
    memcpy(payload, fingerprint, RP_FINGERPRINT_SIZE);
    rp_store_le32(payload + RP_FINGERPRINT_SIZE, (uint32_t)dim);
    const rp_status status = put_meta_and_wait(store, RP_STR("fingerprint"), RP_STR(""),
                                               (rp_str){ payload, sizeof payload });
    if (status == RP_OK)
        rp_store_fingerprint_now(store, fingerprint, dim);
    return status;
}

rp_status
rp_store_encoder_change(rp_store *store, const char *fingerprint, size_t dim)
{
    if (!store->read_only && (!atomic_load(&store->encoder) || dim != store->encoder_dim))
        return RP_ERR_INVALID;
    const rp_status status = rp_store_fingerprint_set(store, fingerprint, dim);
    if (status == RP_OK)
        atomic_store(&store->encoder, rp_hash64(rp_str_of(fingerprint)));
    return status;
}

/* ---- states and outcomes ---------------------------------------------------- */

rp_status
rp_store_state_put(rp_store *store, rp_str name, rp_str bytes)
{
    if (store->read_only)
        return RP_ERR_UNSUPPORTED;
    if (name.len == 0 || name.len > RP_META_KEY_SIZE_MAX - sizeof "state/")
        return RP_ERR_INVALID;
    if (bytes.len > RP_STATE_SIZE_MAX || bytes.len > store->entry_size_max)
        return RP_ERR_LIMIT;
    return put_meta_and_wait(store, RP_STR("state/"), name, bytes);
}

bool
rp_store_state_get(rp_store *store, rp_str name, rp_buffer *out)
{
    char key[RP_META_KEY_SIZE_MAX];
    if (name.len == 0 || name.len > sizeof key - sizeof "state/")
        return false;
    memcpy(key, "state/", 6);
    memcpy(key + 6, name.ptr, name.len);
    const rp_str key_str = { key, name.len + 6 };
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return false;
    rp_str bytes;
    rp_status status = RP_ERR_NOT_FOUND;
    if (rp_database_get(&store->database, reader->txn, RP_TABLE_META, key_str, &bytes) == 0)
        status = rp_value_decode(rp_hash64(key_str), bytes, RP_STATE_SIZE_MAX, out);
    rp_database_read_end(&store->database, reader);
    if (status == RP_ERR_CORRUPT || status == RP_ERR_TRUNCATED) {
        pthread_mutex_lock(&store->lock);
        store->stats.damaged++;
        pthread_mutex_unlock(&store->lock);
    }
    return status == RP_OK;
}

rp_status
rp_store_outcome_append(rp_store *store, rp_str bytes)
{
    if (store->read_only)
        return RP_ERR_UNSUPPORTED;
    if (bytes.len > RP_STATE_SIZE_MAX || bytes.len > store->entry_size_max)
        return RP_ERR_LIMIT;
    rp_op *op = calloc(1, sizeof *op);
    if (!op)
        return RP_ERR_NOMEM;
    op->kind = RP_OP_OUTCOME;
    rp_buffer_append(&op->value, bytes);
    op->size = sizeof *op + bytes.len;
    rp_status status = RP_ERR_NOMEM;
    if (!rp_buffer_failed(&op->value)) {
        pthread_mutex_lock(&store->lock);
        status = store->paused ? RP_ERR_IO : rp_writer_push(store, op);
        pthread_mutex_unlock(&store->lock);
    }
    if (status != RP_OK)
        rp_op_free(op);
    return status;
}

typedef struct outcome_copy {
    uint64_t sequence;
    rp_buffer bytes;
} outcome_copy;

static size_t
read_outcomes(rp_store *store, uint64_t *after, outcome_copy *out, size_t max, bool *ends)
{
    size_t count = 0;
    uint64_t damaged_count = 0;
    *ends = true;
    rp_reader *reader = rp_database_read(&store->database);
    if (!reader)
        return 0;
    MDB_cursor *cursor;
    if (mdb_cursor_open(reader->txn, store->database.tables[RP_TABLE_OUTCOME], &cursor) == 0) {
        uint64_t first = *after + 1;
        MDB_val key = { sizeof first, &first }, value;
        int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        for (; !code && count < max; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
            outcome_copy *copy = &out[count];
            copy->sequence = *after = rp_load_le64(key.mv_data);
            rp_buffer_init(&copy->bytes, 0);
            *ends = false;
            if (rp_value_decode(copy->sequence, (rp_str){ value.mv_data, value.mv_size },
                                RP_STATE_SIZE_MAX, &copy->bytes) == RP_OK) {
                count++;
            } else {
                rp_buffer_fini(&copy->bytes);
                damaged_count++;
            }
        }
        mdb_cursor_close(cursor);
    }
    rp_database_read_end(&store->database, reader);
    pthread_mutex_lock(&store->lock);
    store->stats.damaged += damaged_count;
    pthread_mutex_unlock(&store->lock);
    return count;
}

void
rp_store_walk_outcomes(rp_store *store, uint64_t after, rp_store_each_outcome *each, void *context)
{
    outcome_copy copies[WALK_ENTRIES];
    bool goes_on = true, ends = false;
    while (goes_on && !ends) {
        const size_t count = read_outcomes(store, &after, copies, WALK_ENTRIES, &ends);
        for (size_t i = 0; i < count; i++) {
            if (goes_on)
                goes_on = each(context, copies[i].sequence, rp_buffer_str(&copies[i].bytes));
            rp_buffer_fini(&copies[i].bytes);
        }
    }
}

/* ---- figures ---------------------------------------------------------------- */

void
rp_store_stats_get(rp_store *store, rp_store_stats *out)
{
    pthread_mutex_lock(&store->lock);
    *out = store->stats;
    out->entries = store->slots.count - store->doomed_count;
    out->disk_max = store->disk_max;
    out->memory_bytes = rp_store_memory_bytes(store);
    out->memory_max = store->memory_max;
    out->hot_entries = store->hot.count;
    out->pending = store->pending_count;
    out->credentials = store->credentials.count;
    out->outcomes = store->outcome_count;
    out->admission_paused = store->paused;
    pthread_mutex_unlock(&store->lock);
}
