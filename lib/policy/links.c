/* links.c - the groups of links.h. Linear probing, deletion by moving back. */
#include "links.h"

#include "base/bytes.h"
#include <stdlib.h>

enum { CAPACITY_MIN = 64 };

void
rp_links_init(rp_links *links)
{
    *links = (rp_links){ 0 };
}

void
rp_links_fini(rp_links *links)
{
    free(links->rows);
    rp_links_init(links);
}

static size_t
home_of(const rp_links *links, rp_entry_id id)
{
    const uint64_t spread = id * 0x9e3779b97f4a7c15u >> 32;
    return (size_t)(spread * links->capacity >> 32); /* capacities are no powers of two */
}

static size_t
next_of(const rp_links *links, size_t at)
{
    return at + 1 == links->capacity ? 0 : at + 1;
}

/* Steps from one place to another, round the end. */
static size_t
steps_between(const rp_links *links, size_t from, size_t to)
{
    return to >= from ? to - from : to + links->capacity - from;
}

/* The row of an entry, or the free one where it would stand. */
static rp_link_row *
find_row(const rp_links *links, rp_entry_id id)
{
    size_t at = home_of(links, id);
    while (links->rows[at].id && links->rows[at].id != id)
        at = next_of(links, at);
    return &links->rows[at];
}

static bool
grow(rp_links *links)
{
    rp_links larger = { .capacity = links->capacity + links->capacity / 4 + CAPACITY_MIN,
                        .count = links->count };
    larger.rows = calloc(larger.capacity, sizeof *larger.rows);
    if (!larger.rows)
        return false;
    for (size_t i = 0; i < links->capacity; i++)
        if (links->rows[i].id)
            *find_row(&larger, links->rows[i].id) = links->rows[i];
    free(links->rows);
    *links = larger;
    return true;
}

/* Rows always point to what was a root, and restoring refuses rings: this ends. Almost
 * always at once, because a new entry joins the group of an old one. */
rp_entry_id
rp_links_group(const rp_links *links, rp_entry_id id)
{
    if (!links->capacity || id == 0)
        return id;
    for (const rp_link_row *row = find_row(links, id); row->id; row = find_row(links, id))
        id = row->toward;
    return id;
}

static void
point(rp_links *links, rp_entry_id id, rp_entry_id toward)
{
    if (id == toward)
        return;
    if (8 * (links->count + 1) > 7 * links->capacity && !grow(links))
        return;
    rp_link_row *row = find_row(links, id);
    links->count += row->id == 0;
    *row = (rp_link_row){ id, toward };
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
    if (!links->capacity || id == 0)
        return;
    rp_link_row *row = find_row(links, id);
    if (row->id == 0)
        return;
    links->count--;
    /* Close the gap: move back whatever would not be found across it. */
    size_t hole = (size_t)(row - links->rows);
    for (size_t at = next_of(links, hole); links->rows[at].id; at = next_of(links, at)) {
        const size_t home = home_of(links, links->rows[at].id);
        if (steps_between(links, home, at) >= steps_between(links, hole, at)) {
            links->rows[hole] = links->rows[at];
            hole = at;
        }
    }
    links->rows[hole] = (rp_link_row){ 0 };
}

size_t
rp_links_size_bytes(const rp_links *links)
{
    return links->capacity * sizeof *links->rows;
}

void
rp_links_save(const rp_links *links, rp_buffer *out)
{
    rp_buffer_append_le64(out, links->count);
    for (size_t i = 0; i < links->capacity; i++)
        if (links->rows[i].id) {
            rp_buffer_append_le64(out, links->rows[i].id);
            rp_buffer_append_le64(out, links->rows[i].toward);
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
        const size_t before = restored.count;
        sound = id != 0 && toward != 0 && rp_links_group(&restored, toward) != id;
        if (sound)
            point(&restored, id, toward);
        sound = sound && restored.count == before + 1; /* not twice, and there was memory */
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
