#define _GNU_SOURCE /* fopencookie */
#include "base/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void swt_standard_open(void) {
    int fd = -1;
    do /* the lowest number that is free */
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int swt_write_all(int fd, const void *bytes, size_t count) {
    const char *next = bytes;
    while (count > 0) {
        const ssize_t written = write(fd, next, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : EIO;
        next += written;
        count -= (size_t)written;
    }
    return 0;
}

static ssize_t write_standard(void *cookie, const char *bytes, size_t count) {
    (void)cookie;
    const int failed = swt_write_all(STDOUT_FILENO, bytes, count);
    errno = failed;
    return failed == 0 ? (ssize_t)count : 0;
}

FILE *swt_standard_stream(void) {
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_standard});
    return stream != NULL ? stream : stdout;
}

swt_status swt_standard_finish(FILE *out) {
    const bool failed_before = ferror(out) != 0;
    errno = 0;
    const bool fails_now = fflush(out) != 0;
    if (failed_before || fails_now)
        return SWT_FAIL(FILE, "standard output: cannot be written (%s); see where it leads",
                        errno != 0 ? strerror(errno) : "an earlier write failed");
    return SWT_OK;
}
