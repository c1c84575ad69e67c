#include "base/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void swt_append(char *text, size_t text_bytes, const char *fmt, ...) {
    const size_t used = strlen(text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + used, text_bytes - used, fmt, args);
    va_end(args);
}
