/* links.h - which entries are known to share an answer.
 *
 * Every outcome that says "this stored answer would have served that request" says as
 * well that the request's own reply, now an entry, shares the stored one's answer. Such
 * entries form groups (union and find). A policy can then ask how many of a prompt's other neighbors
 * stand behind the answer that it is about to serve: docs/policies.md, "Agreement".
 *
 * An entry that was never linked has no row and is a group of its own. A forgotten
 * entry takes only what hung on its row: its group may fall into two, which loses
 * evidence and never invents any. 16 bytes a row, 25 bytes an entry at most.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_POLICY_LINKS_H
#define RP_POLICY_LINKS_H

#include "base/buffer.h"
#include "policy/id_table.h"
#include <reprise/types.h>

typedef struct rp_link_row {
    rp_entry_id id, toward; /* id 0: free; toward: another of its group, nearer its root */
} rp_link_row;

typedef struct rp_links {
    rp_id_table table; /* of rp_link_row */
} rp_links;

void rp_links_init(rp_links *links);
void rp_links_fini(rp_links *links);
/* The name of an entry's group: one of its ids, the same for all of the group. */
rp_entry_id rp_links_group(const rp_links *links, rp_entry_id id);
/* Both share an answer. Without memory nothing is noted. */
void rp_links_join(rp_links *links, rp_entry_id a, rp_entry_id b);
void rp_links_forget(rp_links *links, rp_entry_id id);
size_t rp_links_size_bytes(const rp_links *links);
/* u64 rows; each u64 id, u64 toward. */
void rp_links_save(const rp_links *links, rp_buffer *out);
/* Take a table off the front of *bytes; false: damaged or no memory, and *links is as
 * it was. */
bool rp_links_restore(rp_links *links, rp_str *bytes);

#endif
