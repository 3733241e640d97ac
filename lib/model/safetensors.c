/* safetensors.c - reads the header once, checks everything, keeps a sorted table. */
#include "model/safetensors.h"

#include "base/bytes.h"
#include "base/file.h"
#include "json/json.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Trees take about 40 bytes a value and the shortest value with its comma takes two:
 * room for any header of the largest allowed size. */
#define ARENA_SIZE_MAX ((size_t)256 << 20)

struct rp_safetensors {
    rp_file_map map; /* owned; empty if the bytes are somebody else's */
    rp_str bytes;
    rp_tensor *tensors; /* owned; by the place of their data */
    size_t *by_name;    /* owned; indices into tensors, by name */
    size_t count;
    rp_arena arena; /* names */
};

typedef struct dtype_row {
    const char *name;
    size_t size;
    rp_dtype dtype;
} dtype_row;

static const dtype_row dtypes[] = {
    { "F32", 4, RP_DTYPE_F32 },   { "F16", 2, RP_DTYPE_F16 },   { "BF16", 2, RP_DTYPE_BF16 },
    { "BOOL", 1, RP_DTYPE_OTHER }, { "U8", 1, RP_DTYPE_OTHER },  { "I8", 1, RP_DTYPE_OTHER },
    { "F8_E5M2", 1, RP_DTYPE_OTHER }, { "F8_E4M3", 1, RP_DTYPE_OTHER },
    { "I16", 2, RP_DTYPE_OTHER }, { "U16", 2, RP_DTYPE_OTHER }, { "I32", 4, RP_DTYPE_OTHER },
    { "U32", 4, RP_DTYPE_OTHER }, { "F64", 8, RP_DTYPE_OTHER }, { "I64", 8, RP_DTYPE_OTHER },
    { "U64", 8, RP_DTYPE_OTHER },
};

static const dtype_row *
find_dtype(rp_str name)
{
    for (size_t i = 0; i < RP_COUNT(dtypes); i++)
        if (rp_str_equal(name, rp_str_of(dtypes[i].name)))
            return &dtypes[i];
    return NULL;
}

/* Names come from the file: print what is printable, and not much of it. */
static rp_str
shorten(rp_str name)
{
    size_t len = 0;
    while (len < name.len && len < 80 && name.ptr[len] >= ' ' && name.ptr[len] < 127)
        len++;
    return (rp_str){ name.ptr, len };
}

static rp_status
read_shape(const rp_json *shape, rp_tensor *tensor, rp_error *error)
{
    const rp_str name = shorten(tensor->name);
    if (!shape || shape->type != RP_JSON_ARRAY)
        return rp_fail(error, RP_ERR_CORRUPT, "tensor '%.*s' has no shape", RP_FMT(name));
    if (shape->count > RP_TENSOR_RANK_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "tensor '%.*s' has %u dimensions; the limit is %d",
                       RP_FMT(name), shape->count, RP_TENSOR_RANK_MAX);
    tensor->rank = shape->count;
    tensor->count = 1;
    for (size_t i = 0; i < shape->count; i++) {
        int64_t length;
        if (!rp_json_to_int64(&shape->children[i], &length) || length < 0 ||
            __builtin_mul_overflow(tensor->count, (size_t)length, &tensor->count))
            return rp_fail(error, RP_ERR_CORRUPT, "tensor '%.*s' has an impossible shape",
                           RP_FMT(name));
        tensor->shape[i] = (size_t)length;
    }
    return RP_OK;
}

static rp_status
read_offsets(const rp_json *offsets, rp_str data, size_t unit, rp_tensor *tensor, rp_error *error)
{
    const rp_str name = shorten(tensor->name);
    int64_t begin, end;
    if (!offsets || offsets->type != RP_JSON_ARRAY || offsets->count != 2 ||
        !rp_json_to_int64(&offsets->children[0], &begin) ||
        !rp_json_to_int64(&offsets->children[1], &end) || begin < 0 || end < begin)
        return rp_fail(error, RP_ERR_CORRUPT, "tensor '%.*s' has no proper data_offsets",
                       RP_FMT(name));
    if ((uint64_t)end > data.len)
        return rp_fail(error, RP_ERR_TRUNCATED,
                       "tensor '%.*s' ends at byte %lld of %zu that are there", RP_FMT(name),
                       (long long)end, data.len);
    size_t wanted;
    if (__builtin_mul_overflow(tensor->count, unit, &wanted) || wanted != (uint64_t)(end - begin))
        return rp_fail(error, RP_ERR_CORRUPT, "tensor '%.*s' has %lld bytes, not what its shape says",
                       RP_FMT(name), (long long)(end - begin));
    tensor->data = data.ptr + begin;
    tensor->size_bytes = wanted;
    return RP_OK;
}

static rp_status
read_tensor(const rp_json *entry, rp_str data, rp_tensor *tensor, rp_error *error)
{
    tensor->name = entry->name;
    if (entry->type != RP_JSON_OBJECT)
        return rp_fail(error, RP_ERR_CORRUPT, "the header's '%.*s' is no object",
                       RP_FMT(shorten(entry->name)));
    const dtype_row *row = find_dtype(rp_json_string(rp_json_get(entry, "dtype")));
    if (!row)
        return rp_fail(error, RP_ERR_CORRUPT, "tensor '%.*s' has no known dtype",
                       RP_FMT(shorten(entry->name)));
    tensor->dtype = row->dtype;
    const rp_status status = read_shape(rp_json_get(entry, "shape"), tensor, error);
    return status ? status
                  : read_offsets(rp_json_get(entry, "data_offsets"), data, row->size, tensor, error);
}

/* Empty tensors lie before a full one that begins at the same byte. */
static int
compare_places(const void *a, const void *b)
{
    const rp_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    if (x->size_bytes != y->size_bytes)
        return x->size_bytes < y->size_bytes ? -1 : 1;
    return rp_str_compare(x->name, y->name);
}

static rp_status
check_cover(const rp_safetensors *file, rp_str data, rp_error *error)
{
    const char *at = data.ptr;
    for (size_t i = 0; i < file->count; i++) {
        const rp_tensor *tensor = &file->tensors[i];
        if (tensor->data != at)
            return rp_fail(error, RP_ERR_CORRUPT, "tensor '%.*s' %s",
                           RP_FMT(shorten(tensor->name)),
                           tensor->data < at ? "overlaps another" : "leaves a hole before it");
        at += tensor->size_bytes;
    }
    if (at != data.ptr + data.len)
        return rp_fail(error, RP_ERR_CORRUPT, "%zu bytes at the end belong to no tensor",
                       (size_t)(data.ptr + data.len - at));
    return RP_OK;
}

static int
compare_names(const void *a, const void *b, void *context)
{
    const rp_safetensors *file = context;
    return rp_str_compare(file->tensors[*(const size_t *)a].name,
                          file->tensors[*(const size_t *)b].name);
}

static rp_status
read_entries(rp_safetensors *file, const rp_json *header, rp_str data, rp_error *error)
{
    if (header->type != RP_JSON_OBJECT)
        return rp_fail(error, RP_ERR_CORRUPT, "the header is no JSON object");
    file->tensors = calloc(RP_MAX(header->count, 1u), sizeof *file->tensors);
    file->by_name = calloc(RP_MAX(header->count, 1u), sizeof *file->by_name);
    if (!file->tensors || !file->by_name)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a table of tensors");
    for (size_t i = 0; i < header->count; i++) {
        const rp_json *entry = &header->children[i];
        if (rp_str_equal(entry->name, RP_STR("__metadata__")))
            continue;
        rp_tensor *tensor = &file->tensors[file->count];
        const rp_status status = read_tensor(entry, data, tensor, error);
        if (status)
            return status;
        tensor->name = rp_arena_copy(&file->arena, entry->name);
        if (rp_arena_failed(&file->arena))
            return rp_fail(error, RP_ERR_NOMEM, "no memory for the names of tensors");
        file->count++;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_places);
    for (size_t i = 0; i < file->count; i++)
        file->by_name[i] = i;
    qsort_r(file->by_name, file->count, sizeof *file->by_name, compare_names, file);
    return check_cover(file, data, error);
}

static rp_status
read_header(rp_safetensors *file, rp_error *error)
{
    const rp_str bytes = file->bytes;
    if (bytes.len < 8)
        return rp_fail(error, RP_ERR_TRUNCATED, "%zu bytes are no safetensors file", bytes.len);
    const uint64_t size = rp_load_le64(bytes.ptr);
    if (size > RP_SAFETENSORS_HEADER_SIZE_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "a header of %llu bytes; the limit is %d",
                       (unsigned long long)size, RP_SAFETENSORS_HEADER_SIZE_MAX);
    if (size > bytes.len - 8)
        return rp_fail(error, RP_ERR_TRUNCATED, "a header of %llu bytes in %zu",
                       (unsigned long long)size, bytes.len - 8);
    if (size == 0 || bytes.ptr[8] != '{')
        return rp_fail(error, RP_ERR_CORRUPT, "the header does not begin with '{'");

    rp_json_reader *reader = NULL;
    rp_arena arena;
    rp_arena_init(&arena, ARENA_SIZE_MAX);
    const rp_json *header;
    rp_status status = rp_json_reader_new(&reader);
    if (!status)
        status = rp_json_parse(reader, &arena, (rp_str){ bytes.ptr + 8, (size_t)size }, &header,
                               error);
    if (status && status != RP_ERR_NOMEM && status != RP_ERR_LIMIT)
        status = RP_ERR_CORRUPT; /* whatever is wrong with the JSON, the file is damaged */
    if (!status)
        status = read_entries(file, header,
                              (rp_str){ bytes.ptr + 8 + size, bytes.len - 8 - (size_t)size }, error);
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    return status;
}

rp_status
rp_safetensors_parse(rp_str bytes, rp_safetensors **out, rp_error *error)
{
    rp_safetensors *file = calloc(1, sizeof *file);
    if (!file)
        return rp_fail(error, RP_ERR_NOMEM, "no memory to read weights");
    rp_arena_init(&file->arena, 0);
    file->bytes = bytes;
    const rp_status status = read_header(file, error);
    if (status) {
        rp_safetensors_close(file);
        return status;
    }
    *out = file;
    return RP_OK;
}

rp_status
rp_safetensors_open(const char *path, rp_safetensors **out, rp_error *error)
{
    rp_file_map map;
    rp_status status = rp_file_map_open(path, &map, error);
    if (status)
        return status;
    rp_error why = { { 0 } };
    status = rp_safetensors_parse((rp_str){ map.ptr, map.len }, out, &why);
    if (status) {
        rp_file_map_close(&map);
        return rp_fail(error, status, "%s: %s", path, why.text);
    }
    (*out)->map = map;
    return RP_OK;
}

void
rp_safetensors_close(rp_safetensors *file)
{
    if (!file)
        return;
    rp_file_map_close(&file->map);
    rp_arena_fini(&file->arena);
    free(file->tensors);
    free(file->by_name);
    free(file);
}

size_t
rp_safetensors_count(const rp_safetensors *file)
{
    return file->count;
}

const rp_tensor *
rp_safetensors_at(const rp_safetensors *file, size_t at)
{
    return at < file->count ? &file->tensors[at] : NULL;
}

const rp_tensor *
rp_safetensors_find(const rp_safetensors *file, rp_str name)
{
    size_t low = 0, high = file->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const rp_tensor *tensor = &file->tensors[file->by_name[middle]];
        const int order = rp_str_compare(tensor->name, name);
        if (order == 0)
            return tensor;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

rp_str
rp_safetensors_bytes(const rp_safetensors *file)
{
    return file->bytes;
}

void
rp_safetensors_release_pages(const rp_safetensors *file)
{
    if (file->map.ptr)
        (void)madvise((void *)(uintptr_t)file->map.ptr, file->map.len, MADV_DONTNEED);
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static float
half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 0) {
        /* Zero or subnormal: fraction * 2^-24, exact in f32. */
        const float value = (float)fraction * 0x1p-24F;
        return sign ? -value : value;
    }
    exponent = exponent == 31 ? 255 : exponent + 127 - 15;
    const uint32_t bits = sign | exponent << 23 | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void
rp_tensor_read(const rp_tensor *tensor, size_t first, size_t count, float *out)
{
    assert(first <= tensor->count && count <= tensor->count - first);
    assert(tensor->dtype != RP_DTYPE_OTHER);
    if (tensor->dtype == RP_DTYPE_F32) {
        if (count)
            memcpy(out, tensor->data + first * 4, count * 4); /* little-endian hosts only */
        return;
    }
    const char *from = tensor->data + first * 2;
    for (size_t i = 0; i < count; i++) {
        const uint16_t half = rp_load_le16(from + i * 2);
        if (tensor->dtype == RP_DTYPE_F16) {
            out[i] = half_to_float(half);
        } else {
            const uint32_t bits = (uint32_t)half << 16;
            memcpy(&out[i], &bits, sizeof bits);
        }
    }
}
