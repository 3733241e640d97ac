/* test_safetensors.c - a weight file is read whole or refused; nothing is read beside it.
 *
 * What could go wrong: sizes and offsets from the file lead outside of it, overlap, wrap
 * around, or leave bytes that nobody describes; names occur twice; 16-bit numbers are
 * widened wrongly. Files are built here in memory that ends at an unreadable page, so
 * that one byte too far is a crash. Every shorter length of a good file is tried. */
#include "model/safetensors.h"
#include "test_support.h"

#include <math.h>

/* A file of this header and data_size bytes 0, 1, 2 ..., against an unreadable page. */
static rp_str
build(const char *header, size_t data_size)
{
    const size_t header_size = strlen(header);
    char *bytes = malloc(8 + header_size + data_size);
    rp_store_le64(bytes, header_size);
    memcpy(bytes + 8, header, header_size);
    for (size_t i = 0; i < data_size; i++)
        bytes[8 + header_size + i] = (char)i;
    const rp_str file = { rp_test_guarded(bytes, 8 + header_size + data_size),
                          8 + header_size + data_size };
    free(bytes);
    return file;
}

static rp_status
parse(rp_str bytes)
{
    rp_safetensors *file = NULL;
    rp_error error = { { 0 } };
    const rp_status status = rp_safetensors_parse(bytes, &file, &error);
    assert_true((status == RP_OK) == (file != NULL));
    assert_true((status == RP_OK) == (error.text[0] == 0));
    rp_safetensors_close(file);
    return status;
}

#define GOOD "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}," \
             "\"__metadata__\":{\"format\":\"pt\"}," \
             "\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[24,32]}," \
             "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[24,24]}," \
             "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[32,34]}}  "

static void
test_a_good_file_is_read(void **state)
{
    (void)state;
    const rp_str bytes = build(GOOD, 34);
    rp_safetensors *file = NULL;
    assert_int_equal(rp_safetensors_parse(bytes, &file, NULL), RP_OK);
    assert_int_equal(rp_safetensors_count(file), 4);
    const rp_tensor *a = rp_safetensors_find(file, RP_STR("a"));
    assert_non_null(a);
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->count, 6);
    float numbers[6];
    rp_tensor_read(a, 0, 6, numbers);
    assert_memory_equal(numbers, a->data, 24);
    rp_tensor_read(a, 6, 0, numbers);
    assert_int_equal(rp_safetensors_find(file, RP_STR("empty"))->count, 0);
    assert_int_equal(rp_safetensors_find(file, RP_STR("scalar"))->count, 1);
    assert_int_equal(rp_safetensors_find(file, RP_STR("b"))->dtype, RP_DTYPE_OTHER);
    assert_null(rp_safetensors_find(file, RP_STR("__metadata__")));
    assert_null(rp_safetensors_find(file, RP_STR("")));
    assert_null(rp_safetensors_at(file, 4));
    rp_safetensors_close(file);
}

static void
test_every_shorter_file_is_refused(void **state)
{
    (void)state;
    const rp_str bytes = build(GOOD, 34);
    for (size_t cut = 0; cut < bytes.len; cut++) {
        const rp_str shorter = { rp_test_guarded(bytes.ptr, cut), cut };
        assert_int_not_equal(parse(shorter), RP_OK);
    }
}

#define ONE(shape, offsets) \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second) \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" first "}," \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" second "}}"

static void
test_hostile_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_size;
        rp_status wanted;
    } rows[] = {
        { ONE("[2]", "[0,8]"), 8, RP_OK },
        { ONE("[2]", "[0,8]"), 9, RP_ERR_CORRUPT },             /* bytes left over */
        { ONE("[2]", "[0,8]"), 7, RP_ERR_TRUNCATED },
        { ONE("[2]", "[1,9]"), 9, RP_ERR_CORRUPT },             /* a hole at the start */
        { ONE("[2]", "[8,0]"), 8, RP_ERR_CORRUPT },
        { ONE("[2]", "[-8,0]"), 8, RP_ERR_CORRUPT },
        { ONE("[2]", "[0,9223372036854775807]"), 8, RP_ERR_TRUNCATED },
        { ONE("[2]", "[18446744073709551608,18446744073709551615]"), 8, RP_ERR_CORRUPT },
        { ONE("[2]", "[0,8,8]"), 8, RP_ERR_CORRUPT },
        { ONE("[2]", "[0,8.5]"), 8, RP_ERR_CORRUPT },
        { ONE("[2]", "\"0,8\""), 8, RP_ERR_CORRUPT },
        { ONE("[3]", "[0,8]"), 8, RP_ERR_CORRUPT },
        { ONE("[-2]", "[0,8]"), 8, RP_ERR_CORRUPT },
        { ONE("2", "[0,8]"), 8, RP_ERR_CORRUPT },
        { ONE("[4294967296,4294967296]", "[0,0]"), 0, RP_ERR_CORRUPT },     /* 2^64 = 0 */
        { ONE("[4611686018427387905]", "[0,4]"), 4, RP_ERR_CORRUPT },       /* 4 * it = 4 */
        { ONE("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, RP_ERR_LIMIT },
        { TWO("[0,4]", "[4,8]"), 8, RP_OK },
        { TWO("[4,8]", "[0,4]"), 8, RP_OK },
        { TWO("[0,4]", "[0,4]"), 4, RP_ERR_CORRUPT },           /* the same bytes twice */
        { TWO("[0,4]", "[3,7]"), 7, RP_ERR_CORRUPT },
        { TWO("[0,4]", "[5,9]"), 9, RP_ERR_CORRUPT },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, RP_ERR_CORRUPT },
        { "{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, RP_ERR_CORRUPT },
        { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, RP_ERR_CORRUPT },
        { "{\"a\":1}", 0, RP_ERR_CORRUPT },
        { "{\"a\":{}}", 0, RP_ERR_CORRUPT },
        { "{}", 0, RP_OK },
        { "{}", 1, RP_ERR_CORRUPT },
        { "[]", 0, RP_ERR_CORRUPT },
        { " {}", 0, RP_ERR_CORRUPT },
        { "{} x", 0, RP_ERR_CORRUPT },
        { "{\"a\":", 0, RP_ERR_CORRUPT },
        { "", 0, RP_ERR_CORRUPT },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const rp_status status = parse(build(rows[i].header, rows[i].data_size));
        if (status != rows[i].wanted)
            fail_msg("row %zu, %s: %s", i, rows[i].header, rp_status_name(status));
    }
}

static void
test_a_header_size_beyond_the_file_is_refused(void **state)
{
    (void)state;
    static const uint64_t sizes[] = { 3, 1 << 20, RP_SAFETENSORS_HEADER_SIZE_MAX + 1,
                                      INT64_MAX, UINT64_MAX, UINT64_MAX - 7 };
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        char bytes[10] = { 0, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
        rp_store_le64(bytes, sizes[i]);
        const rp_status status = parse((rp_str){ rp_test_guarded(bytes, 10), 10 });
        assert_true(status == RP_ERR_TRUNCATED || status == RP_ERR_LIMIT);
    }
}

static void
test_narrow_numbers_are_widened_exactly(void **state)
{
    (void)state;
    static const struct {
        uint16_t half, brain;
        float value;
    } rows[] = {
        { 0x3c00, 0x3f80, 1.0F },  { 0xc000, 0xc000, -2.0F }, { 0x0000, 0x0000, 0.0F },
        { 0x8000, 0x8000, -0.0F }, { 0x7bff, 0x0000, 65504.0F }, { 0x0001, 0, 0x1p-24F },
        { 0x03ff, 0, 0x3ffp-24F }, { 0x0400, 0, 0x1p-14F },   { 0x7c00, 0x7f80, INFINITY },
        { 0xfc00, 0xff80, -INFINITY }, { 0x3555, 0, 0x1.554p-2F },
    };
    enum { COUNT = RP_COUNT(rows) };
    char header[256];
    snprintf(header, sizeof header,
             "{\"h\":{\"dtype\":\"F16\",\"shape\":[%d],\"data_offsets\":[0,%d]},"
             "\"b\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[%d,%d]}}",
             COUNT, COUNT * 2, COUNT, COUNT * 2, COUNT * 4);
    const rp_str built = build(header, COUNT * 4);
    char *data = (char *)(uintptr_t)built.ptr + built.len - COUNT * 4; /* our own page */
    for (size_t i = 0; i < COUNT; i++) {
        rp_store_le16(data + i * 2, rows[i].half);
        rp_store_le16(data + COUNT * 2 + i * 2, rows[i].brain);
    }
    rp_safetensors *file = NULL;
    float half[COUNT], brain[COUNT];
    assert_int_equal(rp_safetensors_parse(built, &file, NULL), RP_OK);
    rp_tensor_read(rp_safetensors_find(file, RP_STR("h")), 0, COUNT, half);
    rp_tensor_read(rp_safetensors_find(file, RP_STR("b")), 0, COUNT, brain);
    for (size_t i = 0; i < COUNT; i++) {
        assert_memory_equal(&half[i], &rows[i].value, sizeof(float));
        if (rows[i].brain)
            assert_memory_equal(&brain[i], &rows[i].value, sizeof(float));
    }
    rp_safetensors_close(file);
}

static void
test_a_real_file_that_was_cut_is_refused(void **state)
{
    (void)state;
    if (!rp_test_data()) {
        print_message("skipped: REPRISE_DATA names no folder\n");
        skip();
    }
    char path[4096];
    rp_safetensors *file = NULL;
    rp_error error = { { 0 } };
    snprintf(path, sizeof path, "%s/model_fixtures/minilm_l6_TRUNCATED_safetensors.bin",
             rp_test_data());
    assert_int_equal(rp_safetensors_open(path, &file, &error), RP_ERR_TRUNCATED);
    assert_non_null(strstr(error.text, path));
    static const struct {
        const char *name;
        rp_dtype dtype;
    } whole[] = { { "float32", RP_DTYPE_F32 }, { "float16", RP_DTYPE_F16 },
                  { "int8", RP_DTYPE_OTHER } };
    for (size_t i = 0; i < RP_COUNT(whole); i++) {
        snprintf(path, sizeof path, "%s/model_fixtures/model2vec_%s__model.safetensors",
                 rp_test_data(), whole[i].name);
        assert_int_equal(rp_safetensors_open(path, &file, &error), RP_OK);
        const rp_tensor *tensor = rp_safetensors_find(file, RP_STR("embeddings"));
        assert_non_null(tensor);
        assert_int_equal(tensor->dtype, whole[i].dtype);
        assert_int_equal(tensor->shape[0], 29528);
        rp_safetensors_close(file);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_file_is_read),
        cmocka_unit_test(test_every_shorter_file_is_refused),
        cmocka_unit_test(test_hostile_headers_are_refused),
        cmocka_unit_test(test_a_header_size_beyond_the_file_is_refused),
        cmocka_unit_test(test_narrow_numbers_are_widened_exactly),
        cmocka_unit_test(test_a_real_file_that_was_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
