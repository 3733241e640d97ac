/* npy.h - arrays of float32 as NumPy's .npy files (NEP 1; versions 1.0 and 2.0).
 *
 * Only little-endian float32 in C order with two dimensions is read; anything else
 * is refused with what was found.
 *
 * Threads: pure functions; a mapping may be read by all. */
#ifndef RP_BASE_NPY_H
#define RP_BASE_NPY_H

#include "base/buffer.h"
#include "base/file.h"

typedef struct rp_npy {
    size_t rows, columns;
    const float *values; /* (rows, columns); in the mapping */
    rp_file_map map;     /* owned */
} rp_npy;

/* Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_INVALID (another kind of array),
 * RP_ERR_TRUNCATED (fewer values than the header says). */
RP_NODISCARD rp_status rp_npy_open(const char *path, rp_npy *out, rp_error *error);
void rp_npy_close(rp_npy *npy);

/* Append the header of a (rows, columns) array; the values follow it, row by row. */
void rp_npy_write_header(size_t rows, size_t columns, rp_buffer *out);

#endif
