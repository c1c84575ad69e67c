#include "base/utf8.h"
#include "io/data.h"
#include "io/files.h"
#include "support/temp.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

/* ---- UTF-8 */

/* The encoding of a code point, written from the table of RFC 3629 section 3; 0 for what has none.
 */
static int encoding(uint32_t c, unsigned char out[4]) {
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return 0;
    if (c <= 0x7F) {
        out[0] = (unsigned char)c;
        return 1;
    }
    if (c <= 0x7FF) {
        out[0] = (unsigned char)(192 + c / 64);
        out[1] = (unsigned char)(128 + c % 64);
        return 2;
    }
    if (c <= 0xFFFF) {
        out[0] = (unsigned char)(224 + c / 4096);
        out[1] = (unsigned char)(128 + c / 64 % 64);
        out[2] = (unsigned char)(128 + c % 64);
        return 3;
    }
    out[0] = (unsigned char)(240 + c / 262144);
    out[1] = (unsigned char)(128 + c / 4096 % 64);
    out[2] = (unsigned char)(128 + c / 64 % 64);
    out[3] = (unsigned char)(128 + c % 64);
    return 4;
}

static void test_utf8_encodes_every_code_point(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        unsigned char expected[4];
        char got[5];
        const int length = encoding(c, expected);
        if (length == 0)
            continue;
        uint32_t back = 0;
        assert_int_equal(swt_utf8_encode(c, got), length);
        assert_memory_equal(got, expected, (size_t)length);
        assert_int_equal(got[length], 0);
        assert_int_equal(swt_utf8_decode(got, (size_t)length, &back), length);
        assert_int_equal(back, c);
        for (int cut = 0; cut < length; cut++)
            assert_int_equal(swt_utf8_decode(got, (size_t)cut, &back), 0);
    }
}

/* All strings of four bytes at the borders of UTF-8's classes: a decoder must accept exactly those
 * that begin with the encoding of the code point it names. */
static void test_utf8_accepts_nothing_else(void **state) {
    (void)state;
    static const unsigned char bytes[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                          0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                          0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF};
    enum { N = sizeof bytes };
    int accepted = 0;
    for (int i = 0; i < N * N * N * N; i++) {
        const unsigned char s[4] = {bytes[i % N], bytes[i / N % N], bytes[i / N / N % N],
                                    bytes[i / N / N / N]};
        /* The number that the bits of each possible length would give; valid if that number's own
         * encoding is these bytes. */
        const uint32_t loose[5] = {0, s[0], (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu),
                                   (s[0] & 0xFu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu),
                                   (s[0] & 0x7u) << 18 | (s[1] & 0x3Fu) << 12 |
                                       (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu)};
        int expected = 0;
        for (int length = 1; length <= 4; length++) {
            unsigned char e[4] = {0};
            if (encoding(loose[length], e) == length && memcmp(e, s, (size_t)length) == 0)
                expected = length;
        }
        uint32_t c = 0;
        assert_int_equal(swt_utf8_decode((const char *)s, 4, &c), expected);
        if (expected > 0)
            assert_int_equal(c, loose[expected]);
        accepted += expected > 0;
    }
    assert_true(accepted > 0 && accepted < N * N * N * N);
}

static void test_utf8_printable(void **state) {
    (void)state;
    assert_true(swt_utf8_printable("decoder.0.\"\\ \xC3\xA9\xE2\x82\xAC"));
    assert_true(swt_utf8_printable(""));
    assert_false(swt_utf8_printable("a\nb"));
    assert_false(swt_utf8_printable("a\x7F"));
    assert_false(swt_utf8_printable("a\xC2\x9B")); /* a terminal's control sequence introducer */
    assert_false(swt_utf8_printable("a\xFF"));
}

/* ---- the vocabulary */

static swt_status encode(const swt_tokenizer *t, const char *text, size_t bytes, int32_t *ids,
                         int64_t *count, swt_unknown *unknown) {
    const swt_text given = {text, bytes, "given.txt"};
    return swt_tokenizer_encode(t, &given, ids, count, unknown);
}

static const char sample[] = "It is a \xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80 \"test\\\"\n\tIt!\x7F";

static void expect_clean(const char *given, bool cut, const char *expected) {
    char text[64];
    snprintf(text, sizeof text, "%s", given);
    swt_utf8_clean(text, cut);
    assert_string_equal(text, expected);
}

static void test_utf8_clean(void **state) {
    (void)state;
    expect_clean("", true, "");
    expect_clean("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", true,
                 "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    expect_clean("\033[2J\n\t\x7F", false, "?[2J???");
    expect_clean("\xC2\x9B"
                 "31m\x9B",
                 false, "?31m?"); /* CSI in 8 bits, with and without UTF-8 */
    expect_clean("a\xE2\x82", false, "a??");
    expect_clean("a\xE2\x82", true, "a");
    expect_clean("a\xF0\x9F\x98", true, "a");
    expect_clean("a\xC3", true, "a");
    expect_clean("\x82\x82\x82\x82", true, "????");
    /* Every message of an error passes here. */
    char name[1100];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    memcpy(name + 1020, "\xF0\x9F\x98\x80", 4);
    assert_int_equal(SWT_FAIL(FILE, "%s", name), SWT_FILE);
    assert_int_equal(strlen(swt_last_error()->message), 1020);
    assert_int_equal(SWT_FAIL(FILE, "a\nb\033\xC3\xA9"), SWT_FILE);
    assert_string_equal(swt_last_error()->message, "a?b?\xC3\xA9");
}

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
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        char one[5];
        const int length = swt_tokenizer_decode(&t, ids[i], one);
        assert_int_equal(strlen(one), length);
        memcpy(back + at, one, (size_t)length);
        at += (size_t)length;
    }
    assert_int_equal(at, bytes);
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
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES];
    temp_make(folder);
    temp_path(path, folder, "tokenizer.json");
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
    size_t size = 0;
    char *text = temp_read(path, &size);
    assert_string_equal(text, "{\"kind\":\"char\",\"tokens\":[\"\\n\",\" \",\"\\\"\",\"b\"]}\n");
    free(text);
    expect_error(swt_tokenizer_write(&t, path), SWT_FILE, "tokenizer.json: cannot be created");
    swt_tokenizer_fini(&t);
    assert_int_equal(unlink(path), 0);

    t = (swt_tokenizer){.kind = SWT_TOKENIZER_BYTE, .vocab = 256};
    assert_int_equal(swt_tokenizer_write(&t, path), SWT_OK);
    assert_int_equal(swt_tokenizer_read(&back, path), SWT_OK);
    assert_int_equal(back.kind, SWT_TOKENIZER_BYTE);
    assert_int_equal(back.vocab, 256);
    temp_remove(folder);
}

/* A file of at most 16 bytes may be written: the write fails in its middle, as on a full disk. */
static void test_json_write_fails(void **state) {
    (void)state;
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES];
    temp_make(folder);
    temp_path(path, folder, "tokenizer.json");
    swt_tokenizer t;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "abc", 3, "x"), SWT_OK);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 16;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const swt_status got = swt_tokenizer_write(&t, path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    expect_error(got, SWT_FILE, "tokenizer.json: cannot be written");
    assert_int_equal(temp_count(folder), 0);
    swt_tokenizer_fini(&t);
    temp_remove(folder);
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
        {"{\"kind\":\"char\",\"tokens\":[\"a\",\"\xFF\"]}", "token 1 is no single character"},
        {"{\"kind\":\"char\",\"tokens\":[\"a\",\"a\"]}", "token 1 is out of order"},
        {"{\"kind\":\"char\",\"tokens\":[\"b\",\"a\"]}", "token 1 is out of order"},
    };
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES];
    temp_make(folder);
    temp_path(path, folder, "tokenizer.json");
    swt_tokenizer t;
    expect_error(swt_tokenizer_read(&t, path), SWT_CHECKPOINT, "tokenizer.json: is missing");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        temp_write(path, cases[i].text, strlen(cases[i].text));
        expect_error(swt_tokenizer_read(&t, path), SWT_CHECKPOINT, cases[i].part);
        assert_null(t.code_points);
    }
    temp_remove(folder);
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
    assert_int_equal(swt_read_file(&text, &bytes, path, SWT_FILE), SWT_OK);
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
        cmocka_unit_test(test_utf8_encodes_every_code_point),
        cmocka_unit_test(test_utf8_accepts_nothing_else),
        cmocka_unit_test(test_utf8_printable),
        cmocka_unit_test(test_utf8_clean),
        cmocka_unit_test(test_char_vocabulary),
        cmocka_unit_test(test_byte_vocabulary),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_write_fails),
        cmocka_unit_test(test_json_errors),
        cmocka_unit_test(test_tinyshakespeare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
