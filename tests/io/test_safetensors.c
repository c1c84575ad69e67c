#include "io/safetensors.h"
#include "support/temp.h"

/* Bytes of a safetensors file from a header and data: the format written by hand. */
static size_t compose(unsigned char *out, const char *header, uint64_t claimed, const char *data) {
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(claimed >> (8 * i));
    memcpy(out + 8, header, strlen(header));
    memcpy(out + 8 + strlen(header), data, strlen(data));
    return 8 + strlen(header) + strlen(data);
}

static void write_file(const char *path, const char *header, const char *data) {
    unsigned char bytes[4096];
    assert_true(strlen(header) + strlen(data) + 8 <= sizeof bytes);
    temp_write(path, bytes, compose(bytes, header, strlen(header), data));
}

/* ---- reading */

static const char good_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[4,12]},"
    "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
    "\"empty\":{\"dtype\":\"F64\",\"shape\":[0,3],\"data_offsets\":[12,12]},"
    "\"scalar\":{\"shape\":[],\"data_offsets\":[12,14],\"dtype\":\"BF16\"}}   ";
static const char good_data[] = "abcdABCDEFGHij";

static void test_read(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    temp_in(path, "x.safetensors");
    write_file(path, good_header, good_data);
    swt_tensor_file f;
    assert_int_equal(swt_tensor_file_open(&f, path, SWT_FILE), SWT_OK);
    assert_int_equal(f.count, 4);
    static const char *const sorted[] = {"a", "b", "empty", "scalar"};
    for (int i = 0; i < 4; i++)
        assert_string_equal(f.entries[i].name, sorted[i]);
    const swt_tensor_entry *scalar = swt_tensor_file_find(&f, "scalar");
    assert_non_null(scalar);
    assert_int_equal(scalar->dims, 0);
    assert_int_equal(scalar->bytes, 2);
    assert_int_equal(scalar->dtype, SWT_BF16);
    assert_null(swt_tensor_file_find(&f, "__metadata__"));
    assert_null(swt_tensor_file_find(&f, "aa"));

    char out[9] = "";
    assert_int_equal(swt_tensor_file_read(&f, "b", SWT_I32, 2, (int64_t[]){2, 1}, out), SWT_OK);
    assert_memory_equal(out, "ABCDEFGH", 9);
    assert_int_equal(swt_tensor_file_read(&f, "a", SWT_U8, 1, (int64_t[]){4}, out), SWT_OK);
    assert_memory_equal(out, "abcdEFGH", 9);
    assert_int_equal(swt_tensor_file_read(&f, "scalar", SWT_BF16, 0, NULL, out), SWT_OK);
    assert_memory_equal(out, "ijcdEFGH", 9);
    assert_int_equal(swt_tensor_file_read(&f, "empty", SWT_F64, 2, (int64_t[]){0, 3}, out), SWT_OK);
    assert_memory_equal(out, "ijcdEFGH", 9);

    expect_error(swt_tensor_file_read(&f, "b", SWT_F32, 2, (int64_t[]){2, 1}, out), SWT_FILE,
                 "x.safetensors: tensor b: is I32 [2, 1]; F32 [2, 1] is needed");
    expect_error(swt_tensor_file_read(&f, "b", SWT_I32, 1, (int64_t[]){2}, out), SWT_FILE,
                 "tensor b: is I32 [2, 1]; I32 [2] is needed");
    expect_error(swt_tensor_file_read(&f, "b", SWT_I32, 2, (int64_t[]){1, 2}, out), SWT_FILE,
                 "tensor b: is I32 [2, 1]; I32 [1, 2] is needed");
    expect_error(swt_tensor_file_read(&f, "c", SWT_I32, 0, NULL, out), SWT_FILE,
                 "tensor c: is missing; I32 [] is needed");
    assert_memory_equal(out, "ijcdEFGH", 9);

    swt_tensor_file_close(&f);
    swt_tensor_file_close(&f);

    write_file(path, "{}", "");
    assert_int_equal(swt_tensor_file_open(&f, path, SWT_CHECKPOINT), SWT_OK);
    assert_int_equal(f.count, 0);
    assert_null(swt_tensor_file_find(&f, "a"));
    expect_error(swt_tensor_file_read(&f, "a", SWT_F32, 0, NULL, out), SWT_CHECKPOINT,
                 "is missing");
    swt_tensor_file_close(&f);
}

/* "x" with these fields, over the four bytes "abcd". */
#define X(fields) "{\"x\":{" fields "}}"
#define X_OFFSETS(dtype, shape, offsets)                                                           \
    X("\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets)
#define X_SHAPE(shape) X_OFFSETS("\"U8\"", shape, "[0,4]")
/* 95 bytes: the longest name. */
#define NAME_19 "a.name.of.19.bytes."
#define NAME_95 NAME_19 NAME_19 NAME_19 NAME_19 NAME_19

static const struct {
    const char *header, *part;
} broken[] = {
    /* no JSON object */
    {"", "its header of 0 bytes is no JSON object"},
    {"[]", "no JSON object"},
    {"7", "no JSON object"},
    {"{\"x\":", "no JSON object"},
    {"{} {}", "no JSON object"},
    {"{\"x\":1,", "no JSON object"},
    /* a tensor */
    {"{\"x\":7}",
     "tensor x: is not described; an object of dtype, shape and data_offsets is needed"},
    {"{\"x\":[1,2,3]}", "tensor x: is not described"},
    {"{\"x\":{}}", "tensor x: is not described"},
    {X("\"dtype\":\"U8\",\"shape\":[4]"), "an object of"},
    {X("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"more\":1"), "an object of"},
    {X("\"dtype\":\"U8\",\"shape\":[4],\"shape\":[5],\"data_offsets\":[0,4]"),
     "no JSON object (duplicate object key near"},
    {X("\"DTYPE\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]"), "an object of"},
    /* names */
    {"{\"\":{}}", "its name has 0 bytes; 1 to 95 are possible"},
    {"{\"a" NAME_95 "\":{}}", "its name has 96 bytes; 1 to 95 are possible"},
    {"{\"a\\nb\":{}}", "tensor 0 has a name that is not printable UTF-8"},
    {"{\"a\xFF\":{}}", "no JSON object (unable to decode byte 0xff"},
    /* dtype */
    {X_OFFSETS("\"F8_E4M3\"", "[4]", "[0,4]"),
     "tensor x: dtype F8_E4M3 is not supported; one of F32 BF16 F64 I32 I64 U8 F16 is needed"},
    {X_OFFSETS("\"f32\"", "[1]", "[0,4]"), "dtype f32 is not supported"},
    {X_OFFSETS("\"\\u001b\"", "[1]", "[0,4]"), "dtype ? is not supported"},
    {X_OFFSETS("4", "[4]", "[0,4]"), "dtype is no string"},
    {X_OFFSETS("null", "[4]", "[0,4]"), "dtype is no string"},
    /* shape */
    {X_SHAPE("4"), "shape is no array"},
    {X_SHAPE("{\"a\":4}"), "shape is no array"},
    {X_SHAPE("[1,1,1,2,2]"), "has 5 dimensions; at most 4 are supported"},
    {X_SHAPE("[-4]"), "size 0 of its shape is no count"},
    {X_SHAPE("[2,-2]"), "size 1 of its shape is no count"},
    {X_SHAPE("[1.5]"), "size 0 of its shape is no count"},
    {X_SHAPE("[\"4\"]"), "size 0 of its shape is no count"},
    {X_SHAPE("[true]"), "size 0 of its shape is no count"},
    {X_SHAPE("[null]"), "size 0 of its shape is no count"},
    {X_SHAPE("[[4]]"), "size 0 of its shape is no count"},
    {X_SHAPE("[1e300]"), "size 0 of its shape is no count"},
    {X_SHAPE("[1e999]"), "no JSON object (real number overflow"},
    {X_SHAPE("[9007199254740993]"), "has 4 bytes of data; its shape needs 9007199254740993"},
    {X_SHAPE("[9223372036854775808]"), "no JSON object (too big integer"},
    {X_SHAPE("[4294967296,4294967296]"), "more than 2^63 bytes"}, /* 2^64: wraps to 0 */
    {X_SHAPE("[4294967296,4294967297]"), "more than 2^63 bytes"},
    {X_SHAPE("[3]"), "has 4 bytes of data; its shape needs 3"},
    {X_SHAPE("[]"), "has 4 bytes of data; its shape needs 1"},
    {X_SHAPE("[0]"), "has 4 bytes of data; its shape needs 0"},
    /* offsets */
    {X_OFFSETS("\"U8\"", "[4]", "4"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[]"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[4]"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[0,4,4]"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[-4,0]"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[0.5,4.5]"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[\"0\",\"4\"]"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "{\"a\":0,\"b\":4}"), "data_offsets is no pair of counts"},
    {X_OFFSETS("\"U8\"", "[4]", "[4,0]"), "has -4 bytes of data; its shape needs 4"},
    {X_OFFSETS("\"U8\"", "[5]", "[0,5]"), "its data end at byte 5 of 4"},
    {X_OFFSETS("\"U8\"", "[4]", "[9007199254740988,9007199254740992]"),
     "its data end at byte 9007199254740992 of 4"},
    /* tiling */
    {X_OFFSETS("\"U8\"", "[3]", "[1,4]"),
     "tensor x: its data begin at byte 1; without gap or overlap that is 0"},
    {X_OFFSETS("\"U8\"", "[3]", "[0,3]"), "has 4 bytes of data; its tensors have 3"},
    {"{}", "has 4 bytes of data; its tensors have 0"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
     "tensor y: its data begin at byte 2; without gap or overlap that is 3"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
     "its data begin at byte 0; without gap or overlap that is 4"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
     "tensor y: its data begin at byte 2; without gap or overlap that is 1"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
     "no JSON object (duplicate object key near '\"x\"'"},
};

static void test_broken_headers(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    temp_in(path, "x.safetensors");
    swt_tensor_file f;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        write_file(path, broken[i].header, "abcd");
        expect_error(swt_tensor_file_open(&f, path, SWT_CHECKPOINT), SWT_CHECKPOINT,
                     broken[i].part);
        expect_error(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE, "x.safetensors: ");
        assert_int_equal(f.fd, -1);
        assert_null(f.entries);
    }
    /* What the broken ones are changes of is right. */
    write_file(path, "{\"" NAME_95 "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
               "abcd");
    assert_int_equal(swt_tensor_file_open(&f, path, SWT_FILE), SWT_OK);
    swt_tensor_file_close(&f);
}

static void test_broken_files(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    unsigned char bytes[64];
    temp_in(path, "x.safetensors");
    swt_tensor_file f;
    expect_error(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE, "x.safetensors: is missing");
    expect_error(swt_tensor_file_open(&f, temp_folder, SWT_FILE), SWT_FILE, "is a folder");
    expect_error(swt_tensor_file_open(&f, "/dev/zero", SWT_FILE), SWT_FILE, "is no regular file");
    char *long_path = malloc(5001);
    assert_non_null(long_path);
    memset(long_path, 'a', 5000);
    long_path[5000] = '\0';
    expect_error(swt_tensor_file_open(&f, long_path, SWT_FILE), SWT_FILE, "the path is too long");
    free(long_path);

    for (size_t n = 0; n < 8; n++) {
        temp_write(path, "\0\0\0\0\0\0\0", n);
        expect_error(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE, "a safetensors file has");
    }
    static const struct {
        uint64_t claimed;
        const char *part;
    } cases[] = {
        {3, "its header has 3 bytes, the file 10; it is cut off or broken"},
        {100000000, "its header has 100000000 bytes, the file 10"},
        {100000001, "at most 100000000 are allowed"},
        {UINT64_C(1) << 63, "at most 100000000 are allowed"},
        {UINT64_MAX, "at most 100000000 are allowed"},
        {UINT64_MAX - 7, "at most 100000000 are allowed"}, /* 8 + it wraps to 0 */
        {0, "no JSON object"},
        {1, "no JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        temp_write(path, bytes, compose(bytes, "{}", cases[i].claimed, ""));
        expect_error(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE, cases[i].part);
    }
    /* A 0 byte inside a name must not hide its rest. */
    const size_t n = compose(bytes, "{\"a?b\":{}}", 10, "");
    bytes[8 + 3] = 0;
    temp_write(path, bytes, n);
    expect_error(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE, "no JSON object");
}

/* A header of few bytes an object, whose tree would take some gigabytes, is refused before it is
 * made. */
static void test_header_that_grows(void **state) {
    (void)state;
    enum { OBJECTS = 4000000 };
    char path[TEMP_PATH_BYTES];
    const uint64_t header_bytes = 3 * OBJECTS + 1;
    char *bytes = malloc(8 + header_bytes);
    assert_non_null(bytes);
    memcpy(bytes, &header_bytes, 8);
    for (int i = 0; i < OBJECTS; i++)
        memcpy(bytes + 8 + 3 * i, i == 0 ? "[{}" : ",{}", 3);
    bytes[8 + header_bytes - 1] = ']';
    temp_in(path, "x.safetensors");
    temp_write(path, bytes, 8 + header_bytes);
    swt_tensor_file f;
    expect_error(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE,
                 "x.safetensors: its header of 12000001 bytes would take more than 1024 MiB to "
                 "read; ");
    assert_null(f.entries);
    free(bytes);
}

/* Data are not interpreted: any bit of them may be the other way round, and is read so. */
static void test_any_data(void **state) {
    (void)state;
    static const int64_t shape[] = {4};
    char path[TEMP_PATH_BYTES];
    unsigned char bytes[1024], a[4];
    const size_t count = compose(bytes, good_header, strlen(good_header), good_data);
    const size_t data = 8 + strlen(good_header);
    temp_in(path, "x.safetensors");
    for (size_t bit = 8 * data; bit < 8 * count; bit++) {
        swt_tensor_file f;
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        unlink(path); /* some file systems wait for the disk where a file is overwritten */
        temp_write(path, bytes, count);
        assert_int_equal(swt_tensor_file_open(&f, path, SWT_CHECKPOINT), SWT_OK);
        assert_int_equal(swt_tensor_file_read(&f, "a", SWT_U8, 1, shape, a), SWT_OK);
        assert_memory_equal(a, bytes + data, sizeof a);
        swt_tensor_file_close(&f);
    }
}

/* A file that becomes shorter after it was opened; long, so that no buffer holds its end. */
static void test_cut_while_open(void **state) {
    (void)state;
    enum { BYTES = 1000000 };
    char path[TEMP_PATH_BYTES];
    const int64_t shape[1] = {BYTES};
    struct stat info;
    temp_in(path, "x.safetensors");
    unsigned char *data = calloc(BYTES, 1);
    assert_non_null(data);
    swt_tensor_writer w = {0};
    swt_tensor_file f;
    assert_int_equal(swt_tensor_writer_declare(&w, "a", SWT_U8, 1, shape), SWT_OK);
    assert_int_equal(swt_tensor_writer_begin(&w, path), SWT_OK);
    assert_int_equal(swt_tensor_writer_data(&w, data), SWT_OK);
    assert_int_equal(swt_tensor_writer_end(&w), SWT_OK);
    swt_tensor_writer_fini(&w);
    assert_int_equal(swt_tensor_file_open(&f, path, SWT_CHECKPOINT), SWT_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 1), 0);
    expect_error(swt_tensor_file_read(&f, "a", SWT_U8, 1, shape, data), SWT_CHECKPOINT,
                 "x.safetensors: cannot be read at byte 1000079 (it became shorter)");
    swt_tensor_file_close(&f);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_read),         TEMP_TEST(test_broken_headers),
        TEMP_TEST(test_broken_files), TEMP_TEST(test_header_that_grows),
        TEMP_TEST(test_any_data),     TEMP_TEST(test_cut_while_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
