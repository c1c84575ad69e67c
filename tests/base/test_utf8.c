#include "base/utf8.h"
#include "support/temp.h"

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

static void test_encodes_every_code_point(void **state) {
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
static void test_accepts_nothing_else(void **state) {
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

static void test_printable(void **state) {
    (void)state;
    assert_true(swt_utf8_printable("decoder.0.\"\\ \xC3\xA9\xE2\x82\xAC"));
    assert_true(swt_utf8_printable(""));
    assert_false(swt_utf8_printable("a\nb"));
    assert_false(swt_utf8_printable("a\x7F"));
    assert_false(swt_utf8_printable("a\xC2\x9B")); /* a terminal's control sequence introducer */
    assert_false(swt_utf8_printable("a\xFF"));
}

static void expect_clean(const char *given, bool cut, const char *expected) {
    char text[64];
    snprintf(text, sizeof text, "%s", given);
    swt_utf8_clean(text, cut);
    assert_string_equal(text, expected);
}

static void test_clean(void **state) {
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
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encodes_every_code_point),
        cmocka_unit_test(test_accepts_nothing_else),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
