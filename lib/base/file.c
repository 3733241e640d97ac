/* file.c - see file.h. */
#include "base/file.h"
#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static rp_status
fail_errno(rp_error *error, const char *verb, const char *path)
{
    return rp_fail(error, errno == ENOENT ? RP_ERR_NOT_FOUND : RP_ERR_IO, "cannot %s %s: %s",
                   verb, path, strerror(errno));
}

/* Open a regular file and tell its size. A folder or a pipe is refused: reading
 * one would fail later, with a worse sentence, or never end. */
static rp_status
open_regular(const char *path, int *out_fd, size_t *out_size, rp_error *error)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(error, "open", path);
    struct stat info;
    if (fstat(fd, &info) != 0) {
        const rp_status status = fail_errno(error, "examine", path);
        close(fd);
        return status;
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return rp_fail(error, RP_ERR_IO, "%s is not a regular file", path);
    }
    *out_fd = fd;
    *out_size = (size_t)info.st_size;
    return RP_OK;
}

rp_status
rp_file_read(const char *path, size_t size_max, rp_buffer *out, rp_error *error)
{
    int fd;
    size_t size;
    rp_status status = open_regular(path, &fd, &size, error);
    if (status != RP_OK)
        return status;
    if (size > size_max) {
        status = rp_fail(error, RP_ERR_LIMIT, "%s has %zu bytes; at most %zu are read", path, size,
                         size_max);
        goto out;
    }
    while (size) {
        char *room = rp_buffer_reserve(out, size);
        if (!room) {
            status = rp_fail(error, RP_ERR_NOMEM, "no memory for %zu bytes of %s", size, path);
            goto out;
        }
        const ssize_t got = read(fd, room, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = fail_errno(error, "read", path);
            goto out;
        }
        if (got == 0)
            break; /* it shrank meanwhile: what is there is the file */
        out->len += (size_t)got;
        size -= (size_t)got;
    }
out:
    close(fd);
    return status;
}

rp_status
rp_file_map_open(const char *path, rp_file_map *out, rp_error *error)
{
    int fd;
    size_t size;
    rp_status status = open_regular(path, &fd, &size, error);
    if (status != RP_OK)
        return status;
    void *at = NULL;
    if (size) {
        at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED)
            status = fail_errno(error, "map", path);
    }
    close(fd);
    if (status == RP_OK)
        *out = (rp_file_map){ at, size };
    return status;
}

void
rp_file_map_close(rp_file_map *map)
{
    if (map->ptr)
        munmap((void *)map->ptr, map->len);
    *map = (rp_file_map){ NULL, 0 };
}

static rp_status
write_all(int fd, rp_str bytes, const char *path, rp_error *error)
{
    while (bytes.len) {
        const ssize_t put = write(fd, bytes.ptr, bytes.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_errno(error, "write", path);
        bytes.ptr += put;
        bytes.len -= (size_t)put;
    }
    return RP_OK;
}

/* A rename is durable once the folder that holds the name is. */
static rp_status
sync_folder_of(const char *path, rp_error *error)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof folder)
        return rp_fail(error, RP_ERR_IO, "path too long: %s", path);
    memcpy(folder, len ? path : (slash ? "/" : "."), len ? len : 1);
    folder[len ? len : 1] = '\0';
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(error, "open", folder);
    const rp_status status = fsync(fd) == 0 ? RP_OK : fail_errno(error, "sync", folder);
    close(fd);
    return status;
}

rp_status
rp_file_replace(const char *path, rp_str bytes, unsigned mode, rp_error *error)
{
    char temporary[PATH_MAX];
    const int len = snprintf(temporary, sizeof temporary, "%s.%ld.new", path, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof temporary)
        return rp_fail(error, RP_ERR_IO, "path too long: %s", path);
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode);
    if (fd < 0)
        return fail_errno(error, "create", temporary);
    rp_status status = write_all(fd, bytes, temporary, error);
    if (status == RP_OK && fsync(fd) != 0)
        status = fail_errno(error, "sync", temporary);
    close(fd);
    if (status == RP_OK && rename(temporary, path) != 0)
        status = fail_errno(error, "replace", path);
    if (status != RP_OK) {
        unlink(temporary);
        return status;
    }
    return sync_folder_of(path, error);
}

bool
rp_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

rp_status
rp_folder_make(const char *path, unsigned mode, rp_error *error)
{
    char partial[PATH_MAX];
    const size_t len = strlen(path);
    if (len == 0 || len >= sizeof partial)
        return rp_fail(error, RP_ERR_IO, "not a usable folder name (%zu bytes)", len);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        struct stat info;
        if (mkdir(partial, (mode_t)mode) == 0)
            continue;
        if (errno != EEXIST || stat(partial, &info) != 0 || !S_ISDIR(info.st_mode))
            return fail_errno(error, "make folder", partial);
    }
    return RP_OK;
}
