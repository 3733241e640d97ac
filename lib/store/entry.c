/* entry.c - see entry.h. One block: the count, the entry, its vectors (aligned), then
 * its strings, so that a hit touches few lines and freeing is one call. */
#include "store/entry.h"
#include "base/bytes.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct held_entry {
    atomic_uint references; /* release on the way down, acquire before the free */
    rp_entry entry;
} held_entry;

static held_entry *
held_of(const rp_entry *entry)
{
    return (held_entry *)((char *)(uintptr_t)entry - offsetof(held_entry, entry));
}

void
rp_entry_ref(const rp_entry *entry)
{
    atomic_fetch_add_explicit(&held_of(entry)->references, 1, memory_order_relaxed);
}

void
rp_entry_unref(const rp_entry *entry)
{
    if (!entry)
        return;
    held_entry *held = held_of(entry);
    const unsigned before =
        atomic_fetch_sub_explicit(&held->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        free(held);
}

static size_t
vector_count(const rp_entry *entry)
{
    if (!entry->mean)
        return 0;
    return entry->dim * (entry->windows && entry->window_count > 1 ? entry->window_count + 1 : 1);
}

static size_t
text_size(const rp_entry *entry)
{
    return entry->tenant.len + entry->namespace_name.len + entry->route.len + entry->model.len +
           entry->category.len + entry->prompt.len + entry->tags.len + entry->turn.len;
}

size_t
rp_entry_size_bytes(const rp_entry *entry)
{
    return sizeof(held_entry) + vector_count(entry) * sizeof(float) + text_size(entry) +
           entry->scope_fields.len + entry->reply.len;
}

static void
move_string(rp_str *string, char **at)
{
    if (string->len)
        memcpy(*at, string->ptr, string->len);
    string->ptr = *at;
    *at += string->len;
}

rp_entry *
rp_entry_copy_with_room(const rp_entry *view, unsigned parts, size_t reply_size, char **out_reply)
{
    rp_entry wanted = *view;
    if (!(parts & RP_PART_VECTORS))
        wanted.mean = wanted.windows = NULL;
    if (!(parts & RP_PART_SCOPE))
        wanted.scope_fields = (rp_str){ 0 };
    wanted.reply = (rp_str){ NULL, reply_size };

    held_entry *held = malloc(rp_entry_size_bytes(&wanted));
    if (!held)
        return NULL;
    atomic_init(&held->references, 1);
    float *vectors = (float *)(held + 1);
    char *at = (char *)(vectors + vector_count(&wanted));
    if (wanted.mean) {
        memcpy(vectors, wanted.mean, wanted.dim * sizeof(float));
        wanted.mean = vectors;
        if (wanted.windows && wanted.window_count > 1) {
            memcpy(vectors + wanted.dim, wanted.windows,
                   wanted.window_count * wanted.dim * sizeof(float));
            wanted.windows = vectors + wanted.dim;
        } else {
            wanted.windows = wanted.mean;
        }
    }
    rp_str *const strings[] = { &wanted.tenant,   &wanted.namespace_name, &wanted.route,
                                &wanted.model,    &wanted.category,       &wanted.prompt,
                                &wanted.tags,     &wanted.turn,           &wanted.scope_fields };
    for (size_t i = 0; i < RP_COUNT(strings); i++)
        move_string(strings[i], &at);
    wanted.reply.ptr = at;
    *out_reply = at;
    held->entry = wanted;
    return &held->entry;
}

rp_entry *
rp_entry_copy(const rp_entry *view, unsigned parts)
{
    const size_t reply_size = parts & RP_PART_REPLY ? view->reply.len : 0;
    char *reply;
    rp_entry *entry = rp_entry_copy_with_room(view, parts, reply_size, &reply);
    if (entry && reply_size)
        memcpy(reply, view->reply.ptr, reply_size);
    return entry;
}
