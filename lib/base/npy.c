/* npy.c - see npy.h. The header is a Python dictionary in text; we look for the three
 * keys that the format prescribes and accept the spellings NumPy writes. */
#include "base/npy.h"
#include "base/bytes.h"

static const char magic[] = "\x93NUMPY";

/* The text behind "'key':", up to the end of the header; ptr NULL if it is missing. */
static rp_str
find_value(rp_str header, const char *key)
{
    const char *found = memmem(header.ptr, header.len, key, strlen(key));
    if (!found)
        return (rp_str){ NULL, 0 };
    const char *value = found + strlen(key);
    return rp_str_trimmed((rp_str){ value, (size_t)(header.ptr + header.len - value) });
}

/* "(12, 384), ..." */
static bool
parse_shape(rp_str text, size_t *rows, size_t *columns)
{
    uint64_t sizes[2];
    if (!text.ptr || text.len == 0 || text.ptr[0] != '(')
        return false;
    rp_str inside = { text.ptr + 1, text.len - 1 };
    inside = rp_str_split(&inside, ')');
    for (int i = 0; i < 2; i++)
        if (!rp_str_to_u64(rp_str_trimmed(rp_str_split(&inside, ',')), &sizes[i]))
            return false;
    if (rp_str_trimmed(inside).len != 0)
        return false;
    *rows = sizes[0];
    *columns = sizes[1];
    return true;
}

static rp_status
parse_header(const char *path, rp_npy *npy, rp_error *error)
{
    const rp_str bytes = { npy->map.ptr, npy->map.len };
    if (bytes.len < 12 || memcmp(bytes.ptr, magic, 6) != 0)
        return rp_fail(error, RP_ERR_INVALID, "%s is not a .npy file", path);
    const unsigned version = (unsigned char)bytes.ptr[6];
    const size_t start = version == 1 ? 10 : 12;
    const size_t size = version == 1 ? rp_load_le16(bytes.ptr + 8) : rp_load_le32(bytes.ptr + 8);
    if (version < 1 || version > 2 || size > bytes.len - start)
        return rp_fail(error, RP_ERR_INVALID, "%s: .npy version %u or its header is not understood",
                       path, version);
    const rp_str header = { bytes.ptr + start, size };
    if (!rp_str_starts_with(find_value(header, "'descr':"), RP_STR("'<f4'")) ||
        !rp_str_starts_with(find_value(header, "'fortran_order':"), RP_STR("False")) ||
        !parse_shape(find_value(header, "'shape':"), &npy->rows, &npy->columns))
        return rp_fail(error, RP_ERR_INVALID,
                       "%s: needs a two-dimensional array of little-endian float32 in C order", path);
    size_t values, value_bytes;
    if (__builtin_mul_overflow(npy->rows, npy->columns, &values) ||
        __builtin_mul_overflow(values, sizeof(float), &value_bytes) ||
        value_bytes > bytes.len - start - size)
        return rp_fail(error, RP_ERR_TRUNCATED, "%s: holds fewer values than the (%zu, %zu) it says",
                       path, npy->rows, npy->columns);
    /* The format aligns the values to 64 bytes; a file that does not is refused rather
     * than read unaligned. */
    if ((start + size) % sizeof(float) != 0)
        return rp_fail(error, RP_ERR_INVALID, "%s: its values are not aligned", path);
    npy->values = (const float *)(bytes.ptr + start + size);
    return RP_OK;
}

rp_status
rp_npy_open(const char *path, rp_npy *out, rp_error *error)
{
    rp_npy npy = { 0 };
    rp_status status = rp_file_map_open(path, &npy.map, error);
    if (status != RP_OK)
        return status;
    status = parse_header(path, &npy, error);
    if (status == RP_OK)
        *out = npy;
    else
        rp_file_map_close(&npy.map);
    return status;
}

void
rp_npy_close(rp_npy *npy)
{
    rp_file_map_close(&npy->map);
    *npy = (rp_npy){ 0 };
}

void
rp_npy_write_header(size_t rows, size_t columns, rp_buffer *out)
{
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_buffer_printf(&text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows,
                     columns);
    while ((10 + text.len + 1) % 64 != 0)
        rp_buffer_append_char(&text, ' ');
    rp_buffer_append_char(&text, '\n');
    rp_buffer_append(out, (rp_str){ magic, 6 });
    rp_buffer_append(out, RP_STR("\x01\x00"));
    const char size[2] = { (char)(text.len & 255), (char)(text.len >> 8) };
    rp_buffer_append(out, (rp_str){ size, 2 });
    rp_buffer_append(out, rp_buffer_str(&text));
    rp_buffer_fini(&text);
}
