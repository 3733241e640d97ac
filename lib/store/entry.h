/* entry.h - entries on the heap: one block each, immutable, counted.
 *
 * Threads: an entry is immutable after it was made; its count is atomic. */
#ifndef RP_STORE_ENTRY_H
#define RP_STORE_ENTRY_H

#include "store/store.h"

/* A copy of `view` in one block, with the parts asked for (rp_entry_part), the other
 * parts empty. One reference for the caller; NULL: no memory. */
rp_entry *rp_entry_copy(const rp_entry *view, unsigned parts);

/* The same with room for a reply of reply_size bytes that the caller fills in
 * through *out_reply before anybody else sees the entry. view->reply is not read. */
rp_entry *rp_entry_copy_with_room(const rp_entry *view, unsigned parts, size_t reply_size,
                                  char **out_reply);

#endif
