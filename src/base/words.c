#include "base/words.h"

#include "base/utf8.h"

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

void swt_warn(swt_warnings *w, const char *fmt, ...) {
    va_list args;
    if (w->count == SWT_WARNINGS)
        return;
    va_start(args, fmt);
    char *line = w->lines[w->count++];
    const int length = vsnprintf(line, SWT_WARNING_BYTES, fmt, args);
    va_end(args);
    swt_utf8_clean(line, length >= SWT_WARNING_BYTES);
}

void swt_warnings_print(const swt_warnings *w, FILE *err) {
    for (int i = 0; i < w->count; i++)
        fprintf(err, "swt-dist: warning: %s\n", w->lines[i]);
}
