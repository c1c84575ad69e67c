/* What a run says: lines and the live line on the terminal, and log.txt. */
#include "train/rundir.h"

#include "base/standard.h"
#include "base/utf8.h"
#include "base/words.h"
#include "io/files.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINE_BYTES = 12289, /* with two paths */ DEFAULT_COLUMNS = 80 };

static const char *const erase_to_end = "\033[K";

static void end_live_line(swt_run *run) {
    if (run->live_line_open)
        fputc('\n', stdout);
    run->live_line_open = false;
}

/* A line and its end. Names of files and samples come from anywhere: it stays one line, and leaves
 * the terminal alone. */
static void format_line(char line[LINE_BYTES], const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static void format_line(char line[LINE_BYTES], const char *fmt, va_list args) {
    const int length = vsnprintf(line, LINE_BYTES - 1, fmt, args);
    swt_utf8_clean(line, length >= LINE_BYTES - 1);
    swt_append(line, LINE_BYTES, "\n");
}

/* To log.txt; commands without a run directory have none. */
static void log_line(swt_run *run, const char *line) {
    if (run->log == 0)
        return;
    const int failed = swt_write_all(run->log, line, strlen(line));
    if (failed != 0)
        run->log_failed = failed;
}

static void show_line(const char *line) {
    fputs(line, stdout);
    fflush(stdout);
}

swt_status swt_run_check_log(const swt_run *run) {
    if (run->log_failed != 0)
        return SWT_FAIL(FILE, "%s/%s: cannot be written (%s); free space on the disk", run->path,
                        SWT_LOG_FILE, strerror(run->log_failed));
    return SWT_OK;
}

void swt_run_log_end(const swt_run *run, int rank, const char *why) {
    char path[SWT_PATH_BYTES], line[LINE_BYTES];
    if (swt_path_join(path, run->path, SWT_LOG_FILE) != SWT_OK)
        return;
    snprintf(line, sizeof line, "error: rank %d: %s\n", rank, why);
    swt_file_append(path, line);
}

void swt_run_log(swt_run *run, const char *fmt, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    format_line(line, fmt, args);
    va_end(args);
    log_line(run, line);
}

void swt_run_say(swt_run *run, const char *fmt, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    format_line(line, fmt, args);
    va_end(args);
    end_live_line(run);
    show_line(line);
    log_line(run, line);
}

void swt_run_say_warnings(swt_run *run, swt_warnings *w) {
    for (int i = 0; i < w->count; i++)
        swt_run_say(run, "warning: %s", w->lines[i]);
    w->count = 0;
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
    format_line(line, fmt, args);
    va_end(args);
    if (due)
        log_line(run, line);
    if (run->terminal) {
        line[strlen(line) - 1] = '\0';
        fit_terminal(line);
        fprintf(stdout, "\r%s%s", line, erase_to_end);
        fflush(stdout);
        run->live_line_open = true;
    } else if (due) {
        show_line(line);
    }
}
