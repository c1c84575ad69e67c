/* Characters that a vocabulary has not: counted, and named for a message. */
#include "base/utf8.h"
#include "base/words.h"
#include "io/data.h"

#include <stdio.h>

void swt_unknown_add(swt_unknown *u, uint32_t code_point, size_t byte, int64_t line) {
    if (u->count++ == 0) {
        u->first_byte = byte;
        u->first_line = line;
    }
    u->carriage_return |= code_point == '\r';
    for (int i = 0; i < u->named; i++)
        if (u->code_points[i] == code_point)
            return;
    if (u->named < SWT_UNKNOWN_NAMED)
        u->code_points[u->named++] = code_point;
    else
        u->more = true;
}

/* Names of what does not show, or shows as something else. */
static const char *invisible(uint32_t code_point) {
    static const struct {
        uint32_t code_point;
        const char *name;
    } names[] = {
        {0x0000, "zero byte"},      {0x0009, "tab"},
        {0x000A, "line feed"},      {0x000D, "carriage return"},
        {0x0020, "space"},          {0x00A0, "no-break space"},
        {0x200B, "no-width space"}, {0xFEFF, "byte order mark"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code_point == code_point)
            return names[i].name;
    return NULL;
}

/* Whether a code point stands for itself on a terminal: no control, no mark that joins its
 * neighbour, nothing that turns the line's direction. */
static bool shows(uint32_t c) {
    return c > 0x20 && !(c >= 0x7F && c <= 0xA0) && !(c >= 0x300 && c <= 0x36F) &&
           !(c >= 0x2000 && c <= 0x200F) && !(c >= 0x2028 && c <= 0x202F) &&
           !(c >= 0x205F && c <= 0x206F) && !(c >= 0xE000 && c <= 0xF8FF) &&
           !(c >= 0xFE00 && c <= 0xFE0F) && c < 0xE0000;
}

/* Appends "U+00E9 'é'", "U+000D (carriage return)" or "U+0301". */
static void append_one(char out[SWT_UNKNOWN_BYTES], uint32_t c) {
    const char *name = invisible(c);
    char character[5];
    swt_utf8_encode(c, character);
    swt_append(out, SWT_UNKNOWN_BYTES, "U+%04X", (unsigned)c);
    if (name != NULL)
        swt_append(out, SWT_UNKNOWN_BYTES, " (%s)", name);
    else if (shows(c))
        swt_append(out, SWT_UNKNOWN_BYTES, " '%s'", character);
}

void swt_unknown_print(const swt_unknown *u, char out[SWT_UNKNOWN_BYTES]) {
    snprintf(out, SWT_UNKNOWN_BYTES, "%lld of %lld characters (%.3g %%): ", (long long)u->count,
             (long long)u->characters, 100.0 * (double)u->count / (double)u->characters);
    for (int i = 0; i < u->named; i++) {
        swt_append(out, SWT_UNKNOWN_BYTES, "%s", i > 0 ? ", " : "");
        append_one(out, u->code_points[i]);
    }
    swt_append(out, SWT_UNKNOWN_BYTES, "%s, the first at byte %zu in line %lld",
               u->more ? " and others" : "", u->first_byte, (long long)u->first_line);
}
