/* checkpoint.c - see checkpoint.h. */
#include "eval/checkpoint.h"

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAGIC = 0x43455052, HEADER = 48, KEY_SIZE = 32 };

struct rp_checkpoint {
    int file;
    char *path;     /* owned */
    rp_buffer all;  /* what is on disk and sound */
    size_t count;
};

/* The record at the front of `rest`; false: there is none that is whole. */
static bool
take_record(rp_str *rest, const uint8_t **key, rp_str *payload)
{
    if (rest->len < HEADER || rp_load_le32(rest->ptr) != MAGIC)
        return false;
    const size_t size = rp_load_le32(rest->ptr + 4);
    if (size > rest->len - HEADER)
        return false;
    *payload = (rp_str){ rest->ptr + HEADER, size };
    *key = (const uint8_t *)rest->ptr + 8;
    if (rp_load_le64(rest->ptr + 40) != rp_hash64(*payload))
        return false;
    *rest = (rp_str){ rest->ptr + HEADER + size, rest->len - HEADER - size };
    return true;
}

/* A file of somebody else must not lose what is in it because its name was given here. */
static bool
begins_as_ours(rp_str bytes)
{
    uint8_t magic[4];
    rp_store_le32(magic, MAGIC);
    return memcmp(bytes.ptr, magic, RP_MIN(bytes.len, sizeof magic)) == 0;
}

static rp_status
read_records(rp_checkpoint *c, bool resume, rp_error *error)
{
    rp_status status = rp_file_read(c->path, (size_t)1 << 32, &c->all, error);
    if (status || c->all.len == 0)
        return status;
    const uint8_t *key;
    rp_str payload, rest = rp_buffer_str(&c->all);
    if (!begins_as_ours(rest))
        return rp_fail(error, RP_ERR_INVALID, "%s is no checkpoint; it was left as it is", c->path);
    while (take_record(&rest, &key, &payload))
        c->count++;
    if (!resume)
        return rp_fail(error, RP_ERR_EXISTS, "%s holds %zu results: --resume goes on with them, "
                       "or remove it", c->path, c->count);
    c->all.len -= rest.len;
    if (rest.len && ftruncate(c->file, (off_t)c->all.len) != 0)
        return rp_fail(error, RP_ERR_IO, "cannot cut the damaged end of %s: %s", c->path,
                       strerror(errno));
    return RP_OK;
}

rp_status
rp_checkpoint_open(const char *path, bool resume, rp_checkpoint **out, rp_error *error)
{
    rp_checkpoint *c = calloc(1, sizeof *c);
    char *copy = strdup(path);
    if (!c || !copy) {
        free(c);
        free(copy);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a checkpoint");
    }
    *c = (rp_checkpoint){ .file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), .path = copy };
    rp_buffer_init(&c->all, 0);
    rp_status status = RP_OK;
    if (c->file < 0)
        status = rp_fail(error, RP_ERR_INVALID, "cannot open %s: %s", path, strerror(errno));
    else
        status = read_records(c, resume, error);
    if (status) {
        rp_checkpoint_close(c);
        return status;
    }
    *out = c;
    return RP_OK;
}

void
rp_checkpoint_close(rp_checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    if (checkpoint->file >= 0)
        close(checkpoint->file);
    rp_buffer_fini(&checkpoint->all);
    free(checkpoint->path);
    free(checkpoint);
}

bool
rp_checkpoint_find(const rp_checkpoint *checkpoint, const uint8_t key[32], rp_str *out)
{
    const uint8_t *each;
    rp_str rest = rp_buffer_str(&checkpoint->all);
    while (take_record(&rest, &each, out))
        if (memcmp(each, key, KEY_SIZE) == 0)
            return true;
    return false;
}

static bool
write_all(int file, rp_str bytes)
{
    while (bytes.len) {
        const ssize_t n = write(file, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes = (rp_str){ bytes.ptr + n, bytes.len - (size_t)n };
    }
    return fsync(file) == 0;
}

rp_status
rp_checkpoint_add(rp_checkpoint *checkpoint, const uint8_t key[32], rp_str payload,
                  rp_error *error)
{
    rp_buffer *all = &checkpoint->all;
    const size_t before = all->len;
    if (payload.len > UINT32_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "a result of %zu bytes is too large for a checkpoint",
                       payload.len);
    rp_buffer_append_le32(all, MAGIC);
    rp_buffer_append_le32(all, (uint32_t)payload.len);
    rp_buffer_append(all, (rp_str){ (const char *)key, KEY_SIZE });
    rp_buffer_append_le64(all, rp_hash64(payload));
    rp_buffer_append(all, payload);
    if (rp_buffer_failed(all)) {
        *all = (rp_buffer){ .ptr = all->ptr, .len = before, .capacity = all->capacity };
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a result of %zu bytes", payload.len);
    }
    const rp_str added = { all->ptr + before, all->len - before };
    if (lseek(checkpoint->file, (off_t)before, SEEK_SET) < 0 ||
        !write_all(checkpoint->file, added)) {
        all->len = before;
        return rp_fail(error, RP_ERR_IO, "cannot write %s: %s", checkpoint->path, strerror(errno));
    }
    checkpoint->count++;
    return RP_OK;
}

size_t
rp_checkpoint_count(const rp_checkpoint *checkpoint)
{
    return checkpoint->count;
}
