/* A stream into memory that says when memory was missing. open_memstream's does not: where it
 * cannot grow, what was printed is gone, and neither ferror nor fclose knows. */
#define _GNU_SOURCE /* fopencookie */
#include "io/files.h"

#include <stdlib.h>
#include <string.h>

/* stdio's: less than asked for is an error of the stream. */
static ssize_t take(void *cookie, const char *bytes, size_t count) {
    swt_memory_stream *m = cookie;
    if (m->bytes + count + 1 > m->capacity) {
        const size_t capacity = 2 * (m->bytes + count + 1);
        char *text = realloc(m->text, capacity);
        if (text == NULL)
            return 0;
        m->text = text;
        m->capacity = capacity;
    }
    memcpy(m->text + m->bytes, bytes, count);
    m->bytes += count;
    m->text[m->bytes] = '\0';
    return (ssize_t)count;
}

FILE *swt_memory_stream_open(swt_memory_stream *m) {
    *m = (swt_memory_stream){0};
    m->stream = fopencookie(m, "w", (cookie_io_functions_t){.write = take});
    return m->stream;
}

bool swt_memory_stream_close(swt_memory_stream *m) {
    if (m->stream == NULL)
        return false;
    const bool written = fflush(m->stream) == 0 && !ferror(m->stream);
    const bool closed = fclose(m->stream) == 0;
    m->stream = NULL;
    return written && closed && m->text != NULL;
}
