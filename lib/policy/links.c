/* links.c - the groups of links.h. */
#include "links.h"

#include "base/bytes.h"

void
rp_links_init(rp_links *links)
{
    rp_id_table_init(&links->table, sizeof(rp_link_row));
}

void
rp_links_fini(rp_links *links)
{
    rp_id_table_fini(&links->table);
}

/* Rows always point to what was a root, and restoring refuses rings: this ends. Almost
 * always at once, because a new entry joins the group of an old one. */
rp_entry_id
rp_links_group(const rp_links *links, rp_entry_id id)
{
    const rp_link_row *row;
    while ((row = rp_id_table_find(&links->table, id)))
        id = row->toward;
    return id;
}

static void
point(rp_links *links, rp_entry_id id, rp_entry_id toward)
{
    if (id == toward)
        return;
    rp_link_row *row = rp_id_table_get(&links->table, id);
    if (row)
        row->toward = toward;
}

void
rp_links_join(rp_links *links, rp_entry_id a, rp_entry_id b)
{
    if (a == 0 || b == 0)
        return;
    const rp_entry_id root_a = rp_links_group(links, a), root_b = rp_links_group(links, b);
    /* Shorten the way of both while at it. Roots have no row. */
    point(links, a, root_b);
    point(links, b, root_b);
    point(links, root_a, root_b);
}

void
rp_links_forget(rp_links *links, rp_entry_id id)
{
    rp_link_row *row = rp_id_table_find(&links->table, id);
    if (row)
        rp_id_table_remove(&links->table, row);
}

size_t
rp_links_size_bytes(const rp_links *links)
{
    return rp_id_table_size_bytes(&links->table);
}

void
rp_links_save(const rp_links *links, rp_buffer *out)
{
    rp_buffer_append_le64(out, links->table.count);
    const rp_link_row *row = NULL;
    while ((row = rp_id_table_next(&links->table, row))) {
        rp_buffer_append_le64(out, row->id);
        rp_buffer_append_le64(out, row->toward);
    }
}

bool
rp_links_restore(rp_links *links, rp_str *bytes)
{
    if (bytes->len < 8)
        return false;
    const uint64_t count = rp_load_le64(bytes->ptr);
    const char *at = bytes->ptr + 8;
    if (count > (bytes->len - 8) / 16)
        return false;
    rp_links restored;
    rp_links_init(&restored);
    bool sound = true;
    for (uint64_t i = 0; i < count && sound; i++, at += 16) {
        const rp_entry_id id = rp_load_le64(at), toward = rp_load_le64(at + 8);
        const size_t before = restored.table.count;
        sound = id != 0 && toward != 0 && rp_links_group(&restored, toward) != id;
        if (sound)
            point(&restored, id, toward);
        sound = sound && restored.table.count == before + 1; /* not twice, and there was memory */
    }
    if (!sound) {
        rp_links_fini(&restored);
        return false;
    }
    rp_links_fini(links);
    *links = restored;
    *bytes = (rp_str){ at, bytes->len - 8 - 16 * (size_t)count };
    return true;
}
