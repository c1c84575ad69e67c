#include "base/utf8.h"

#include <string.h>

static int length_of_lead(unsigned char lead) {
    if (lead < 0x80)
        return 1;
    if ((lead & 0xE0) == 0xC0)
        return 2;
    if ((lead & 0xF0) == 0xE0)
        return 3;
    return (lead & 0xF8) == 0xF0 ? 4 : 0;
}

int swt_utf8_decode(const char *text, size_t bytes, uint32_t *code_point) {
    /* The smallest code point that needs so many bytes: anything below is an overlong form. */
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    if (bytes > 0 && s[0] < 0x80) {
        *code_point = s[0];
        return 1;
    }
    const int length = bytes > 0 ? length_of_lead(s[0]) : 0;
    if (length == 0 || (size_t)length > bytes)
        return 0;
    uint32_t c = length == 1 ? s[0] : s[0] & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    if (c < least[length] || c >= SWT_CODE_POINTS || (c >= 0xD800 && c <= 0xDFFF))
        return 0;
    *code_point = c;
    return length;
}

int swt_utf8_encode(uint32_t code_point, char out[5]) {
    const uint32_t c = code_point;
    const int length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[length] | c >> (6 * (length - 1)));
    for (int i = 1; i < length; i++)
        out[i] = (char)(0x80 | (c >> (6 * (length - 1 - i)) & 0x3F));
    out[length] = '\0';
    return length;
}

int64_t swt_utf8_wrong_byte(const char *text, size_t bytes) {
    for (size_t byte = 0; byte < bytes;) {
        uint32_t c = 0;
        const int length = swt_utf8_decode(text + byte, bytes - byte, &c);
        if (length == 0)
            return (int64_t)byte;
        byte += (size_t)length;
    }
    return -1;
}

swt_status swt_utf8_check(const char *text, size_t bytes, const char *where) {
    const int64_t wrong = swt_utf8_wrong_byte(text, bytes);
    if (wrong < 0)
        return SWT_OK;
    return SWT_FAIL(FILE, "%s: byte %lld is no UTF-8; convert the text, or use data.tokenizer byte",
                    where, (long long)wrong);
}

/* Of the terminal, in 7 and in 8 bits. */
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

bool swt_utf8_printable(const char *string) {
    const size_t bytes = strlen(string);
    for (size_t byte = 0; byte < bytes;) {
        uint32_t c = 0;
        const int length = swt_utf8_decode(string + byte, bytes - byte, &c);
        if (length == 0 || is_control(c))
            return false;
        byte += (size_t)length;
    }
    return true;
}

/* The bytes at the end that begin a character and do not finish it. */
static size_t broken_end(const char *text, size_t bytes) {
    for (size_t n = 1; n <= 3 && n <= bytes; n++) {
        const unsigned char c = (unsigned char)text[bytes - n];
        if ((c & 0xC0) != 0x80)
            return (size_t)length_of_lead(c) > n ? n : 0;
    }
    return 0;
}

void swt_utf8_clean(char *text, bool cut) {
    size_t bytes = strlen(text), put = 0;
    if (cut)
        bytes -= broken_end(text, bytes);
    for (size_t byte = 0; byte < bytes;) {
        uint32_t c = 0;
        const int length = swt_utf8_decode(text + byte, bytes - byte, &c);
        if (length == 0 || is_control(c)) {
            text[put++] = '?';
        } else {
            memmove(text + put, text + byte, (size_t)length);
            put += (size_t)length;
        }
        byte += (size_t)(length > 0 ? length : 1);
    }
    text[put] = '\0';
}
