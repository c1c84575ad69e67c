/* Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef SWT_BASE_UTF8_H
#define SWT_BASE_UTF8_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One more than the largest code point. */
enum { SWT_CODE_POINTS = 0x110000 };

/* The code point that `text` starts with. Returns its length in bytes, 0 where the bytes are no
 * UTF-8. */
int swt_utf8_decode(const char *text, size_t bytes, uint32_t *code_point);

/* The bytes of a code point and a terminating 0. Returns their number, 1 to 4. */
int swt_utf8_encode(uint32_t code_point, char out[5]);

/* The offset of the first byte that is no UTF-8, -1 where all is. */
int64_t swt_utf8_wrong_byte(const char *text, size_t bytes);

/* Errors: FILE where the text is no UTF-8, with the offset of the first wrong byte; `where` starts
 * the message. */
SWT_MUST_CHECK swt_status swt_utf8_check(const char *text, size_t bytes, const char *where);

/* True for UTF-8 without control characters: what may stand in a message of one line. */
bool swt_utf8_printable(const char *string);

/* Make a text harmless to a terminal and to a log of lines: control characters and bytes that are
 * no UTF-8 become '?'. `cut`: its end may be missing, and a character that it broke goes. */
void swt_utf8_clean(char *text, bool cut);

#endif
