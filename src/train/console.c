/* What a run says: lines and the live line on the terminal, and log.txt. */
#include "train/rundir.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINE_BYTES = 12288, /* with two paths */ DEFAULT_COLUMNS = 80 };

static const char *const erase_to_end = "\033[K";

static void end_live_line(swt_run *run) {
    if (run->live_line_open)
        fputc('\n', stdout);
    run->live_line_open = false;
}

/* Names of files and samples come from anywhere: a line stays one, and leaves the terminal alone.
 */
static void format_line(char *line, size_t bytes, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static void format_line(char *line, size_t bytes, const char *fmt, va_list args) {
    const int length = vsnprintf(line, bytes, fmt, args);
    swt_utf8_clean(line, length >= (int)bytes);
}

/* A line to log.txt; commands without a run directory have none. */
static void log_line(swt_run *run, const char *fmt, va_list args) {
    if (run->log == NULL)
        return;
    char line[LINE_BYTES];
    format_line(line, sizeof line, fmt, args);
    fprintf(run->log, "%s\n", line);
    fflush(run->log);
}

void swt_run_log(swt_run *run, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    log_line(run, fmt, args);
    va_end(args);
}

void swt_run_say(swt_run *run, const char *fmt, ...) {
    char line[LINE_BYTES];
    va_list args;
    end_live_line(run);
    va_start(args, fmt);
    format_line(line, sizeof line, fmt, args);
    va_end(args);
    fprintf(stdout, "%s\n", line);
    fflush(stdout);
    va_start(args, fmt);
    log_line(run, fmt, args);
    va_end(args);
}

/* Shorten to one character less than the terminal is wide: the cursor must not leave the line. */
static void fit_terminal(char *line) {
    struct winsize size = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        size.ws_col = DEFAULT_COLUMNS;
    int columns = 0;
    for (char *c = line; *c != '\0'; c++) {
        if (((unsigned char)*c & 0xC0) != 0x80) /* the first byte of a character */
            columns++;
        if (columns >= size.ws_col) {
            *c = '\0';
            return;
        }
    }
}

void swt_run_progress(swt_run *run, bool due, const char *fmt, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    format_line(line, sizeof line, fmt, args);
    va_end(args);
    if (due) {
        va_start(args, fmt);
        log_line(run, fmt, args);
        va_end(args);
    }
    if (run->terminal) {
        fit_terminal(line);
        fprintf(stdout, "\r%s%s", line, erase_to_end);
        run->live_line_open = true;
        fflush(stdout);
    } else if (due) {
        fprintf(stdout, "%s\n", line);
        fflush(stdout);
    }
}
