/* file.h - whole files: read, map, replace.
 *
 * Threads: pure functions of the file system; a mapping may be read by all. */
#ifndef RP_BASE_FILE_H
#define RP_BASE_FILE_H

#include "base/buffer.h"
#include <reprise/status.h>

/* Append the whole file to *out. Fails: RP_ERR_NOT_FOUND, RP_ERR_IO,
 * RP_ERR_LIMIT (larger than size_max), RP_ERR_NOMEM; *out may then have grown. */
RP_NODISCARD rp_status
rp_file_read(const char *path, size_t size_max, rp_buffer *out, rp_error *error);

typedef struct rp_file_map {
    const char *ptr; /* owned mapping, read only; NULL for an empty file */
    size_t len;
} rp_file_map;
/* Map a regular file. Fails: RP_ERR_NOT_FOUND, RP_ERR_IO. */
RP_NODISCARD rp_status rp_file_map_open(const char *path, rp_file_map *out, rp_error *error);
void rp_file_map_close(rp_file_map *map);

/* Replace `path` by `bytes` so that a reader, or a power cut, sees the old
 * file or the new one: temporary file, fsync, rename, fsync of the folder. */
RP_NODISCARD rp_status
rp_file_replace(const char *path, rp_str bytes, unsigned mode, rp_error *error);

bool rp_file_exists(const char *path);
/* Make a folder and its parents. Fails: RP_ERR_IO. */
RP_NODISCARD rp_status rp_folder_make(const char *path, unsigned mode, rp_error *error);

#endif
