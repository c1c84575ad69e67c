#include "io/safetensors.h"
#include "support/temp.h"

static void declare(swt_tensor_writer *w, const char *name, swt_dtype dtype, int dims,
                    const int64_t *shape) {
    assert_int_equal(swt_tensor_writer_declare(w, name, dtype, dims, shape), SWT_OK);
}

static void test_write(void **state) {
    (void)state;
    static const char header[] =
        "{\"z\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
        "\"a \\\"q\\\\\xC3\xA9\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[8,9]},"
        "\"m\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[9,9]},"
        "\"n\":{\"dtype\":\"BF16\",\"shape\":[1,1,1,2],\"data_offsets\":[9,13]}}";
    static const float z[2] = {1.5f, -2.0f};
    char path[TEMP_PATH_BYTES];
    temp_in(path, ".x.safetensors");
    swt_tensor_writer w = {0};
    declare(&w, "z", SWT_F32, 2, (int64_t[]){1, 2});
    declare(&w, "a \"q\\\xC3\xA9", SWT_U8, 0, NULL);
    declare(&w, "m", SWT_I64, 1, (int64_t[]){0});
    declare(&w, "n", SWT_BF16, 4, (int64_t[]){1, 1, 1, 2});
    assert_int_equal(w.data_bytes, 13);
    assert_int_equal(swt_tensor_writer_begin(&w, path), SWT_OK);
    assert_int_equal(swt_tensor_writer_data(&w, z), SWT_OK);
    assert_int_equal(swt_tensor_writer_data(&w, "u"), SWT_OK);
    assert_int_equal(swt_tensor_writer_data(&w, NULL), SWT_OK);
    expect_error(swt_tensor_writer_end(&w), SWT_INTERNAL, "data of 3 of 4 declared tensors");
    assert_int_equal(swt_tensor_writer_data(&w, "bf16"), SWT_OK);
    expect_error(swt_tensor_writer_data(&w, "more"), SWT_INTERNAL, "more data than the 4 declared");
    assert_int_equal(swt_tensor_writer_end(&w), SWT_OK);
    swt_tensor_writer_fini(&w);
    swt_tensor_writer_fini(&w);

    size_t size = 0;
    char *bytes = temp_read(path, &size);
    uint64_t header_bytes = 0;
    memcpy(&header_bytes, bytes, 8);
    const size_t text_bytes = strlen(header);
    assert_int_equal(header_bytes, (text_bytes + 7) / 8 * 8);
    assert_memory_equal(bytes + 8, header, text_bytes);
    for (size_t i = text_bytes; i < header_bytes; i++)
        assert_int_equal(bytes[8 + i], ' ');
    assert_int_equal(size, 8 + header_bytes + 13);
    assert_memory_equal(bytes + 8 + header_bytes, z, 8);
    assert_memory_equal(bytes + 8 + header_bytes + 8, "ubf16", 5);
    free(bytes);

    swt_tensor_file f;
    float back[2];
    assert_int_equal(swt_tensor_file_open(&f, path, SWT_FILE), SWT_OK);
    assert_int_equal(f.count, 4);
    assert_int_equal(swt_tensor_file_read(&f, "z", SWT_F32, 2, (int64_t[]){1, 2}, back), SWT_OK);
    assert_memory_equal(back, z, sizeof z);
    swt_tensor_file_close(&f);
}

/* Every padding from 0 to 7 bytes, and more tensors than the first allocation holds. */
static void test_write_many(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    bool seen[8] = {false};
    temp_in(path, "x");
    for (int count = 0; count <= 300; count = count < 16 ? count + 1 : count + 71) {
        swt_tensor_writer w = {0};
        for (int i = 0; i < count; i++) {
            char name[32];
            snprintf(name, sizeof name, "t.%d", i * 7919 % 1000);
            declare(&w, name, SWT_I32, 1, (int64_t[]){i % 3});
        }
        unlink(path);
        assert_int_equal(swt_tensor_writer_begin(&w, path), SWT_OK);
        for (int i = 0; i < count; i++)
            assert_int_equal(swt_tensor_writer_data(&w, (int32_t[]){i, -i}), SWT_OK);
        assert_int_equal(swt_tensor_writer_end(&w), SWT_OK);
        swt_tensor_writer_fini(&w);

        swt_tensor_file f;
        assert_int_equal(swt_tensor_file_open(&f, path, SWT_FILE), SWT_OK);
        assert_int_equal(f.count, count);
        assert_int_equal(f.data_start_bytes % 8, 0);
        for (int i = 0; i < count; i++) {
            char name[32];
            int32_t got[2] = {0, 0};
            snprintf(name, sizeof name, "t.%d", i * 7919 % 1000);
            assert_int_equal(swt_tensor_file_read(&f, name, SWT_I32, 1, (int64_t[]){i % 3}, got),
                             SWT_OK);
            assert_int_equal(got[0], i % 3 > 0 ? i : 0);
            assert_int_equal(got[1], i % 3 > 1 ? -i : 0);
        }
        swt_tensor_file_close(&f);
        size_t size = 0;
        char *bytes = temp_read(path, &size);
        uint64_t header_bytes = 0;
        memcpy(&header_bytes, bytes, 8);
        const char *end = bytes + 8 + header_bytes;
        int padding = 0;
        while (end[-1 - padding] == ' ')
            padding++;
        assert_in_range(padding, 0, 7);
        seen[padding] = true;
        free(bytes);
    }
    for (int i = 0; i < 8; i++)
        assert_true(seen[i]);
}

/* 95 bytes: the longest name. */
#define NAME_19 "a.name.of.19.bytes."
#define NAME_95 NAME_19 NAME_19 NAME_19 NAME_19 NAME_19

static void test_declare_errors(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    temp_in(path, "x");
    swt_tensor_writer w = {0};
    const int64_t two[] = {2, 2, 2, 2, 2};
    expect_error(swt_tensor_writer_declare(&w, "", SWT_F32, 0, two), SWT_SHAPE, "no name");
    expect_error(swt_tensor_writer_declare(&w, "a" NAME_95, SWT_F32, 0, two), SWT_SHAPE, "no name");
    expect_error(swt_tensor_writer_declare(&w, "__metadata__", SWT_F32, 0, two), SWT_SHAPE,
                 "no name");
    expect_error(swt_tensor_writer_declare(&w, "a", SWT_F32, 5, two), SWT_SHAPE, "dimensions");
    expect_error(swt_tensor_writer_declare(&w, "a", SWT_F32, -1, two), SWT_SHAPE, "dimensions");
    expect_error(swt_tensor_writer_declare(&w, "a", SWT_F32, 1, (int64_t[]){-1}), SWT_SHAPE,
                 "negative or too large");
    expect_error(swt_tensor_writer_declare(&w, "a", SWT_F32, 2, (int64_t[]){INT64_MAX / 8, 3}),
                 SWT_SHAPE, "negative or too large");
    declare(&w, "a", SWT_U8, 1, (int64_t[]){INT64_MAX});
    expect_error(swt_tensor_writer_declare(&w, "b", SWT_U8, 1, (int64_t[]){1}), SWT_SHAPE,
                 "negative or too large");
    swt_tensor_writer_fini(&w);

    declare(&w, "a", SWT_U8, 1, two);
    declare(&w, "b", SWT_U8, 1, two);
    declare(&w, "a", SWT_U8, 1, two);
    expect_error(
        swt_tensor_writer_begin(&w, path), SWT_SHAPE,
        "x: its header of 160 bytes is no JSON object (duplicate object key near '\"a\"')");
    swt_tensor_writer_fini(&w);
    assert_int_equal(temp_count(temp_folder), 0);

    assert_int_equal(swt_tensor_writer_begin(&w, path), SWT_OK);
    expect_error(swt_tensor_writer_declare(&w, "a", SWT_U8, 1, two), SWT_SHAPE,
                 "the header is written");
    expect_error(swt_tensor_writer_data(&w, two), SWT_INTERNAL, "more data");
    swt_tensor_writer_fini(&w);
    assert_int_equal(temp_count(temp_folder), 0); /* unfinished: removed */
}

/* The disk takes no more than so many bytes: the error may come in data or at the end. */
static void expect_no_space(rlim_t limit_bytes, int64_t floats) {
    char path[TEMP_PATH_BYTES];
    temp_in(path, "x.safetensors");
    float *data = calloc((size_t)floats, sizeof *data);
    assert_non_null(data);
    swt_tensor_writer w = {0};
    declare(&w, "a", SWT_F32, 1, &floats);
    const rlim_t before = limit_files(limit_bytes);
    swt_status status = swt_tensor_writer_begin(&w, path);
    if (status == SWT_OK)
        status = swt_tensor_writer_data(&w, data);
    if (status == SWT_OK)
        status = swt_tensor_writer_end(&w);
    limit_files(before);
    expect_error(status, SWT_FILE, "x.safetensors: cannot be written");
    swt_tensor_writer_fini(&w);
    assert_int_equal(temp_count(temp_folder), 0);
    free(data);
}

static void test_no_space(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    expect_no_space(4, 10);
    expect_no_space(100, 10);
    expect_no_space(4096, 100000);
    expect_no_space(100000, 100000);

    swt_tensor_writer w = {0};
    temp_in(path, "none/x.safetensors");
    expect_error(swt_tensor_writer_begin(&w, path), SWT_FILE,
                 "cannot be created (No such file or directory)");
    swt_tensor_writer_fini(&w);
    /* What has the name already stays as it is, and so does what a link of that name leads to. */
    char link[TEMP_PATH_BYTES];
    temp_write(temp_in(path, "x.safetensors"), "mine", 4);
    assert_int_equal(symlink("x.safetensors", temp_in(link, "link")), 0);
    const char *const taken[] = {path, link};
    for (int i = 0; i < 2; i++) {
        expect_error(swt_tensor_writer_begin(&w, taken[i]), SWT_FILE,
                     "cannot be created (File exists)");
        swt_tensor_writer_fini(&w);
        expect_text(path, "mine");
    }
    assert_int_equal(temp_count(temp_folder), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_write),
        TEMP_TEST(test_write_many),
        TEMP_TEST(test_declare_errors),
        TEMP_TEST(test_no_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
