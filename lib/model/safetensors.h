/* safetensors.h - the weights of a model, mapped and not trusted.
 *
 * A file is: u64 little-endian size of the header; the header, a JSON object from
 * tensor names to {"dtype", "shape", "data_offsets": [begin, end)}; the data, which
 * the tensors cover without holes and without overlaps. "__metadata__" maps
 * strings to strings and is ignored. A file that breaks any of this is refused as
 * a whole when it is opened, so that later readers need no checks but the shape.
 *
 * Tensors may begin at any byte: read them with rp_tensor_read.
 *
 * Threads: immutable after opening. */
#ifndef RP_MODEL_SAFETENSORS_H
#define RP_MODEL_SAFETENSORS_H

#include <reprise/status.h>
#include <reprise/types.h>

enum {
    RP_SAFETENSORS_HEADER_SIZE_MAX = 4 << 20, /* bytes; the format itself allows 100 MB */
    RP_TENSOR_RANK_MAX = 8,
};

typedef enum rp_dtype {
    RP_DTYPE_F32,
    RP_DTYPE_F16,
    RP_DTYPE_BF16,
    RP_DTYPE_OTHER, /* known to the format, unreadable for us (integers, f64, f8) */
} rp_dtype;

typedef struct rp_tensor {
    rp_str name; /* lent by the file, as all here */
    rp_dtype dtype;
    size_t rank;
    size_t shape[RP_TENSOR_RANK_MAX];
    size_t count;     /* product of shape */
    const char *data; /* of any alignment */
    size_t size_bytes;
} rp_tensor;

typedef struct rp_safetensors rp_safetensors;

/* Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_TRUNCATED (the file ends early),
 * RP_ERR_CORRUPT, RP_ERR_LIMIT (a header beyond the sizes above), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_safetensors_open(const char *path, rp_safetensors **out,
                                           rp_error *error);
/* The same over bytes that outlive the result. */
RP_NODISCARD rp_status rp_safetensors_parse(rp_str bytes, rp_safetensors **out, rp_error *error);
void rp_safetensors_close(rp_safetensors *file); /* NULL is fine */

size_t rp_safetensors_count(const rp_safetensors *file);
/* In the order of their data. */
const rp_tensor *rp_safetensors_at(const rp_safetensors *file, size_t at);
/* NULL if there is none of that name. */
const rp_tensor *rp_safetensors_find(const rp_safetensors *file, rp_str name);
rp_str rp_safetensors_bytes(const rp_safetensors *file); /* the whole file */
/* Say that the mapped pages will not be needed soon; reading them stays allowed. */
void rp_safetensors_release_pages(const rp_safetensors *file);

/* Numbers first..first+count-1 as f32; within the tensor, and its dtype not OTHER
 * (both asserted). */
void rp_tensor_read(const rp_tensor *tensor, size_t first, size_t count, float *out);

#endif
