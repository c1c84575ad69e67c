#include "base/utf8.h"
#include "io/data.h"
#include "io/files.h"
#include "support/temp.h"

/* ---- the vocabulary */

static swt_status encode(const swt_tokenizer *t, const char *text, size_t bytes, int32_t *ids,
                         int64_t *count, swt_unknown *unknown) {
    const swt_text given = {text, bytes, "given.txt"};
    return swt_tokenizer_encode(t, &given, ids, count, unknown);
}

static const char sample[] = "It is a \xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80 \"test\\\"\n\tIt!\x7F";

static void test_char_vocabulary(void **state) {
    (void)state;
    /* The distinct code points of `sample` in order, picked by hand. */
    static const uint32_t expected[] = {'\t', '\n', ' ', '!', '"',  'I',  '\\',   'a',
                                        'e',  'i',  's', 't', 0x7F, 0xE9, 0x20AC, 0x1F600};
    enum { VOCAB = sizeof expected / sizeof *expected };
    swt_tokenizer t;
    const size_t bytes = sizeof sample - 1;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, sample, bytes, "x"), SWT_OK);
    assert_int_equal(t.vocab, VOCAB);
    assert_memory_equal(t.code_points, expected, sizeof expected);

    int32_t ids[sizeof sample];
    int64_t count = 0;
    swt_unknown unknown;
    assert_int_equal(encode(&t, sample, bytes, ids, &count, &unknown), SWT_OK);
    assert_int_equal(unknown.count, 0);
    assert_int_equal(unknown.characters, count);
    char back[sizeof sample] = "";
    size_t used = 0;
    for (int64_t i = 0; i < count; i++) {
        char one[5];
        const int length = swt_tokenizer_decode(&t, ids[i], one);
        assert_int_equal(strlen(one), length);
        memcpy(back + used, one, (size_t)length);
        used += (size_t)length;
    }
    assert_int_equal(used, bytes);
    assert_string_equal(back, sample);

    /* Characters that the vocabulary has not are left out and counted. */
    assert_int_equal(encode(&t, "Zt\xC3\xA8.\0a", 7, ids, &count, &unknown), SWT_OK);
    assert_int_equal(unknown.count, 4);
    assert_int_equal(unknown.characters, 6);
    assert_int_equal(count, 2);
    assert_int_equal(ids[0], 11);
    assert_int_equal(ids[1], 7);

    char none[5];
    assert_int_equal(swt_tokenizer_decode(&t, -1, none), 0);
    assert_int_equal(swt_tokenizer_decode(&t, VOCAB, none), 0);
    assert_int_equal(none[0], 0);
    swt_tokenizer_fini(&t);
    swt_tokenizer_fini(&t);
}

static void test_byte_vocabulary(void **state) {
    (void)state;
    swt_tokenizer t;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_BYTE, "", 0, "x"), SWT_OK);
    assert_int_equal(t.vocab, 256);
    char all[256], one[5];
    int32_t ids[256];
    int64_t count = 0;
    swt_unknown unknown;
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    assert_int_equal(encode(&t, all, 256, ids, &count, &unknown), SWT_OK);
    assert_int_equal(unknown.count, 0);
    assert_int_equal(count, 256);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(ids[i], i);
        assert_int_equal(swt_tokenizer_decode(&t, i, one), 1);
        assert_int_equal((unsigned char)one[0], i);
        assert_int_equal(one[1], 0);
    }
    swt_tokenizer_fini(&t);
}

/* What is said of a text in the vocabulary "\n ab". */
static void expect_unknown(const char *text, size_t bytes, const char *expected) {
    swt_tokenizer t;
    int32_t ids[64];
    int64_t count = 0;
    swt_unknown unknown;
    char what[SWT_UNKNOWN_BYTES];
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "\n ab", 4, "x"), SWT_OK);
    assert_int_equal(encode(&t, text, bytes, ids, &count, &unknown), SWT_OK);
    swt_unknown_print(&unknown, what);
    assert_string_equal(what, expected);
    swt_tokenizer_fini(&t);
}

static void test_unknown_characters(void **state) {
    (void)state;
    expect_unknown("aab\r\nabb\r\n", 10,
                   "2 of 10 characters (20 %): U+000D (carriage return), the first at byte 3 in "
                   "line 1");
    expect_unknown("ab\nb\xC3\xA9\xC3\xA9", 8,
                   "2 of 6 characters (33.3 %): U+00E9 '\xC3\xA9', the first at byte 4 in line 2");
    expect_unknown("\xEF\xBB\xBF"
                   "abZYXWZY\0",
                   12,
                   "8 of 10 characters (80 %): U+FEFF (byte order mark), U+005A 'Z', U+0059 'Y', "
                   "U+0058 'X' and others, the first at byte 0 in line 1");
    /* What would change the line it stands in is named alone. */
    expect_unknown("\x1B\xE2\x80\xAE\xCC\x81\0", 7,
                   "4 of 4 characters (100 %): U+001B, U+202E, U+0301, U+0000 (zero byte), the "
                   "first at byte 0 in line 1");
    /* The longest there is. */
    const swt_unknown longest = {
        .count = INT64_MAX - 1,
        .characters = INT64_MAX,
        .code_points = {0xFEFF, 0xFEFF, 0xFEFF, 0xFEFF},
        .named = 4,
        .more = true,
        .first_byte = SIZE_MAX,
        .first_line = INT64_MAX,
    };
    char what[SWT_UNKNOWN_BYTES];
    swt_unknown_print(&longest, what);
    assert_true(strlen(what) < SWT_UNKNOWN_BYTES - 1);
}

static void expect_bad_text(const char *text, size_t bytes, const char *part) {
    swt_tokenizer t;
    expect_error(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, "in.txt"), SWT_FILE, part);
    swt_tokenizer_fini(&t);
}

static void test_bad_texts(void **state) {
    (void)state;
    expect_bad_text("", 0, "in.txt: is empty");
    expect_bad_text("ab\xC0\x80", 4, "in.txt: byte 2 is no UTF-8; ");
    expect_bad_text("ab\xED\xA0\x80", 5, "byte 2 is no UTF-8");
    expect_bad_text("\xF4\x90\x80\x80", 4, "byte 0 is no UTF-8");
    expect_bad_text("abc\xE2\x82", 5, "byte 3 is no UTF-8");
    expect_bad_text("\xFF\xFEz", 3, "data.tokenizer byte");
    expect_bad_text("ab\0c", 4, "in.txt: byte 2 is 0");
    swt_tokenizer t;
    int32_t ids[8];
    int64_t count = 0;
    swt_unknown unknown;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "abc", 3, "x"), SWT_OK);
    expect_error(encode(&t, "a\xFF", 2, ids, &count, &unknown), SWT_FILE,
                 "given.txt: byte 1 is no UTF-8");
    swt_tokenizer_fini(&t);
}

/* ---- tokenizer.json */

static void test_json_round_trip(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    temp_in(path, "tokenizer.json");
    swt_tokenizer t, back;
    const size_t bytes = sizeof sample - 1;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, sample, bytes, "x"), SWT_OK);
    assert_int_equal(swt_tokenizer_write(&t, path), SWT_OK);
    assert_int_equal(swt_tokenizer_read(&back, path), SWT_OK);
    assert_int_equal(back.kind, SWT_TOKENIZER_CHAR);
    assert_int_equal(back.vocab, t.vocab);
    assert_memory_equal(back.code_points, t.code_points, (size_t)t.vocab * sizeof(uint32_t));
    swt_tokenizer_fini(&t);
    swt_tokenizer_fini(&back);
    assert_int_equal(unlink(path), 0);

    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "b\n \"", 4, "x"), SWT_OK);
    assert_int_equal(swt_tokenizer_write(&t, path), SWT_OK);
    expect_text(path, "{\"kind\":\"char\",\"tokens\":[\"\\n\",\" \",\"\\\"\",\"b\"]}\n");
    expect_error(swt_tokenizer_write(&t, path), SWT_FILE, "tokenizer.json: cannot be created");
    swt_tokenizer_fini(&t);
    assert_int_equal(unlink(path), 0);

    t = (swt_tokenizer){.kind = SWT_TOKENIZER_BYTE, .vocab = 256};
    assert_int_equal(swt_tokenizer_write(&t, path), SWT_OK);
    assert_int_equal(swt_tokenizer_read(&back, path), SWT_OK);
    assert_int_equal(back.kind, SWT_TOKENIZER_BYTE);
    assert_int_equal(back.vocab, 256);
}

/* A file of at most 16 bytes may be written: the write fails in its middle, as on a full disk. */
static void test_json_write_fails(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    temp_in(path, "tokenizer.json");
    swt_tokenizer t;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "abc", 3, "x"), SWT_OK);
    const rlim_t before = limit_files(16);
    const swt_status got = swt_tokenizer_write(&t, path);
    limit_files(before);
    expect_error(got, SWT_FILE, "tokenizer.json: cannot be written");
    assert_int_equal(temp_count(temp_folder), 0);
    swt_tokenizer_fini(&t);
}

static void test_json_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "is no JSON"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",", "is no JSON"},
        {"[]", "no `kind`"},
        {"{\"tokens\":[\"a\"]}", "no `kind`"},
        {"{\"kind\":7,\"tokens\":[\"a\"]}", "no `kind`"},
        {"{\"kind\":\"word\",\"tokens\":[\"a\"]}", "no `kind`"},
        {"{\"kind\":\"char\"}", "no array `tokens`"},
        {"{\"kind\":\"char\",\"tokens\":[]}", "no array `tokens`"},
        {"{\"kind\":\"char\",\"tokens\":\"ab\"}", "no array `tokens`"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",1]}", "token 1 is no single character"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",\"\"]}", "token 1 is no single character"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",\"bc\"]}", "token 1 is no single character"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",\"\xFF\"]}",
         "is no JSON (unable to decode byte 0xff"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",\"a\"]}", "token 1 is out of order"},
        {"{\"kind\":\"char\",\"tokens\":[\"b\",\"a\"]}", "token 1 is out of order"},
    };
    char path[TEMP_PATH_BYTES];
    temp_in(path, "tokenizer.json");
    swt_tokenizer t;
    expect_error(swt_tokenizer_read(&t, path), SWT_CHECKPOINT, "tokenizer.json: is missing");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        temp_write(path, cases[i].text, strlen(cases[i].text));
        expect_error(swt_tokenizer_read(&t, path), SWT_CHECKPOINT, cases[i].part);
        assert_null(t.code_points);
    }
}

/* AddressSanitizer takes its time for each of them. */
#ifdef __SANITIZE_ADDRESS__
enum { EVERY = 16 };
#else
enum { EVERY = 1 };
#endif

/* Every character that a file can hold fits what a reader allows. */
static void test_json_of_all_characters(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    uint32_t *code_points = malloc(SWT_CODE_POINTS * sizeof *code_points);
    assert_non_null(code_points);
    swt_tokenizer t = {.kind = SWT_TOKENIZER_CHAR, .code_points = code_points}, back;
    for (uint32_t c = 1; c < SWT_CODE_POINTS; c += EVERY)
        if (c < 0xD800 || c > 0xDFFF) /* no surrogates */
            code_points[t.vocab++] = c;
    temp_in(path, "tokenizer.json");
    assert_int_equal(swt_tokenizer_write(&t, path), SWT_OK);
    assert_int_equal(swt_tokenizer_read(&back, path), SWT_OK);
    assert_int_equal(back.vocab, t.vocab);
    assert_memory_equal(back.code_points, code_points, (size_t)t.vocab * sizeof *code_points);
    swt_tokenizer_fini(&back);
    swt_tokenizer_fini(&t);
}

/* A small file whose tree would be larger than that of every vocabulary. */
static void test_json_that_grows(void **state) {
    (void)state;
    static const char opening[] = "{\"kind\":\"char\",\"tokens\":[{}";
    enum { OBJECTS = 500000, OPENING_BYTES = sizeof opening - 1 };
    char path[TEMP_PATH_BYTES];
    char *text = malloc(OPENING_BYTES + 3 * OBJECTS + 2);
    assert_non_null(text);
    memcpy(text, opening, OPENING_BYTES);
    for (int i = 0; i < OBJECTS; i++)
        memcpy(text + OPENING_BYTES + 3 * i, ",{}", 3);
    memcpy(text + OPENING_BYTES + 3 * OBJECTS, "]}", 2);
    temp_in(path, "tokenizer.json");
    temp_write(path, text, OPENING_BYTES + 3 * OBJECTS + 2);
    swt_tokenizer t;
    expect_error(swt_tokenizer_read(&t, path), SWT_CHECKPOINT,
                 "tokenizer.json: holds more than a vocabulary has; ");
    free(text);
}

/* The published vocabulary of the text: 65 characters. */
static void test_tinyshakespeare(void **state) {
    (void)state;
    const char *path = SWT_SOURCE_DIR "/data/tinyshakespeare.txt";
    if (access(path, R_OK) != 0)
        skip();
    char *text = NULL;
    size_t bytes = 0;
    swt_tokenizer t;
    assert_int_equal(swt_file_load(&text, &bytes, path, 1 << 30, SWT_FILE), SWT_OK);
    assert_int_equal(bytes, 1115394);
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, path), SWT_OK);
    assert_int_equal(t.vocab, 65);
    assert_int_equal(t.code_points[0], '\n');
    assert_int_equal(t.code_points[64], 'z');
    swt_tokenizer_fini(&t);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_char_vocabulary),
        cmocka_unit_test(test_byte_vocabulary),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_bad_texts),
        TEMP_TEST(test_json_round_trip),
        TEMP_TEST(test_json_write_fails),
        TEMP_TEST(test_json_errors),
        TEMP_TEST(test_json_of_all_characters),
        TEMP_TEST(test_json_that_grows),
        cmocka_unit_test(test_tinyshakespeare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
