#include "train/rundir.h"

#include "base/words.h"
#include "comm/swt_comm.h"
#include "io/files.h"
#include "state/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NUMBER_BYTES = 32 };

static const char *const config_hidden_name = ".config.yaml";

/* o->run_out without slashes at its end, or the default. */
static swt_status choose_path(char path[SWT_PATH_BYTES], const swt_options *o) {
    size_t length = strlen(o->run_out);
    if (length > 0) {
        memcpy(path, o->run_out, length + 1);
        while (length > 1 && path[length - 1] == '/')
            path[--length] = '\0';
        return SWT_OK;
    }
    const time_t now = time(NULL);
    struct tm local;
    char stamp[32];
    if (localtime_r(&now, &local) == NULL ||
        strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local) == 0)
        return SWT_FAIL(FILE, "run.out: the clock gives no date; give --out DIR");
    snprintf(path, SWT_PATH_BYTES, "runs/%s-%ld", stamp, (long)getpid());
    return SWT_OK;
}

static swt_status check_unused(const char *path) {
    const char *const names[] = {SWT_CONFIG_FILE, SWT_METRICS_FILE, SWT_LEDGER_FILE, SWT_LOG_FILE,
                                 "checkpoints"};
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(swt_path_look(&kind, path, true));
    if (kind == SWT_PATH_NONE)
        return SWT_OK;
    if (kind != SWT_PATH_FOLDER)
        return SWT_FAIL(USAGE, "%s: is a file; give a new folder as --out", path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char inside[SWT_PATH_BYTES];
        SWT_TRY(swt_path_join(inside, path, names[i]));
        SWT_TRY(swt_path_look(&kind, inside, false)); /* a link without target counts, too */
        if (kind != SWT_PATH_NONE)
            return SWT_FAIL(USAGE, "%s: already holds a run; give another --out", path);
    }
    return SWT_OK;
}

/* mkdir -p. *kept_bytes = length of the part of the path that was there before. */
static swt_status make_folders(char *path, size_t *kept_bytes) {
    const size_t length = strlen(path);
    *kept_bytes = length;
    for (size_t i = 1; i <= length; i++) {
        if ((path[i] != '/' && path[i] != '\0') || path[i - 1] == '/')
            continue;
        const char end = path[i];
        path[i] = '\0';
        const int failed = mkdir(path, 0777) != 0 ? errno : 0;
        path[i] = end;
        if (failed != 0 && failed != EEXIST)
            return swt_path_uncreated(path, failed);
        if (failed == 0 && *kept_bytes == length)
            *kept_bytes = i - 1;
    }
    return SWT_OK;
}

/* Remove the folders that make_folders made, the deepest first; others' files in them keep them. */
static void unmake_folders(char *path, size_t kept_bytes) {
    for (size_t length = strlen(path); length > kept_bytes; length--) {
        if (path[length] != '/' && path[length] != '\0')
            continue;
        path[length] = '\0';
        rmdir(path);
    }
}

swt_status swt_run_write_config(const swt_run *run, const swt_options *o) {
    char hidden[SWT_PATH_BYTES], path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(hidden, run->path, config_hidden_name));
    SWT_TRY(swt_path_join(path, run->path, SWT_CONFIG_FILE));
    SWT_TRY(swt_file_remove(hidden)); /* of a run that was killed here */
    SWT_TRY(swt_options_write_file(o, hidden));
    const swt_status status = swt_path_rename(hidden, path);
    if (status != SWT_OK)
        unlink(hidden);
    return status;
}

/* Of two runs that start at once in one folder, one fails here. Lines go behind what others have
 * written: another rank that ends the run, or this one's watchdog. */
static swt_status open_new(int *fd, const swt_run *run, const char *name) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, run->path, name));
    SWT_TRY(swt_file_create(fd, path));
    (void)fcntl(*fd, F_SETFL, O_WRONLY | O_APPEND);
    return SWT_OK;
}

static void discard(int fd, const swt_run *run, const char *name) {
    char path[SWT_PATH_BYTES];
    if (fd <= 0)
        return;
    close(fd);
    if (swt_path_join(path, run->path, name) == SWT_OK)
        unlink(path);
}

/* mpirun gives rank 0 a terminal of its own, whatever its own output is. */
bool swt_run_on_terminal(void) {
    const char *said = getenv("SWT_TERMINAL");
    if (said != NULL)
        return strcmp(said, "1") == 0;
    return !swt_comm_launched_by_mpi() && isatty(STDOUT_FILENO) == 1;
}

swt_status swt_run_name(swt_run *run, const swt_options *o) {
    *run = (swt_run){.terminal = swt_run_on_terminal()};
    SWT_TRY(choose_path(run->path, o));
    return swt_checkpoints_init(&run->checkpoints, run->path, o->train_steps);
}

swt_status swt_run_create(swt_run *out, const swt_options *o) {
    SWT_TRY(swt_run_name(out, o));
    SWT_TRY(check_unused(out->path));
    size_t kept_bytes = 0;
    swt_status status = make_folders(out->path, &kept_bytes);
    if (status != SWT_OK)
        goto failed;
    SWT_TRY_TO(status, failed, swt_run_lock(out));
    SWT_TRY_TO(status, failed, open_new(&out->metrics, out, SWT_METRICS_FILE));
    SWT_TRY_TO(status, failed, open_new(&out->ledger, out, SWT_LEDGER_FILE));
    SWT_TRY_TO(status, failed, open_new(&out->log, out, SWT_LOG_FILE));
    SWT_TRY_TO(status, failed, swt_run_write_config(out, o));
    return SWT_OK;
failed:
    discard(out->log, out, SWT_LOG_FILE);
    discard(out->ledger, out, SWT_LEDGER_FILE);
    discard(out->metrics, out, SWT_METRICS_FILE);
    out->log = out->ledger = out->metrics = 0;
    swt_run_unlock(out);
    unmake_folders(out->path, kept_bytes);
    return status;
}

void swt_run_close(swt_run *run) {
    if (run->live_line_open)
        fputc('\n', stdout);
    if (run->metrics > 0)
        close(run->metrics);
    if (run->ledger > 0)
        close(run->ledger);
    if (run->log > 0)
        close(run->log);
    swt_run_unlock(run);
    *run = (swt_run){0};
}

/* The fewest digits that read back as the same number: 17 always do. */
static void number_text(char out[NUMBER_BYTES], double value) {
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, NUMBER_BYTES, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static swt_status metric_text(char out[NUMBER_BYTES], const swt_metric *m, double step) {
    if (!isfinite(m->value))
        return SWT_FAIL(NUMBERS,
                        "step %.0f: %s is %f; a finite number is needed, so lower the "
                        "learning rate or look at the data",
                        step, m->name, m->value);
    /* 2^53: up to there a double holds every integer. */
    if (m->integer && (m->value != rint(m->value) || fabs(m->value) > 9007199254740992.0))
        return SWT_FAIL(INTERNAL, "step %.0f: %s is no exact integer (%g)", step, m->name,
                        m->value);
    if (m->integer)
        snprintf(out, NUMBER_BYTES, "%lld", (long long)m->value);
    else
        number_text(out, m->value);
    return SWT_OK;
}

swt_status swt_run_metrics(swt_run *run, const swt_metric *row, int count) {
    char line[SWT_ROW_BYTES] = "";
    for (int i = 0; i < count; i++) {
        char number[NUMBER_BYTES];
        SWT_TRY(metric_text(number, &row[i], row[0].value));
        swt_append(line, sizeof line, "%s\"%s\": %s", i == 0 ? "{" : ", ", row[i].name, number);
    }
    swt_append(line, sizeof line, "}\n");
    if (strlen(line) == sizeof line - 1)
        return SWT_FAIL(INTERNAL, "metrics: a row of %d numbers is too long", count);
    memcpy(run->row, line, strlen(line) + 1);
    SWT_TRY(swt_run_check_log(run));
    return swt_run_write_row(run);
}

/* All of a line, or nothing. */
static swt_status append_line(int fd, const char *line, const swt_run *run, const char *name) {
    char path[SWT_PATH_BYTES];
    struct stat before;
    SWT_TRY(swt_path_join(path, run->path, name));
    const bool known = fstat(fd, &before) == 0;
    const swt_status status = swt_file_write(fd, line, strlen(line), path);
    if (status != SWT_OK && known && ftruncate(fd, before.st_size) == 0)
        (void)lseek(fd, before.st_size, SEEK_SET);
    return status;
}

swt_status swt_run_write_row(swt_run *run) {
    const size_t bytes = strlen(run->row);
    if (bytes == 0)
        return SWT_OK;
    SWT_TRY(append_line(run->metrics, run->row, run, SWT_METRICS_FILE));
    run->metrics_hash = swt_ledger_row_hash(run->row, bytes, run->metrics_hash);
    run->row[0] = '\0';
    return SWT_OK;
}

swt_status swt_run_ledger(swt_run *run, const char *line) {
    return append_line(run->ledger, line, run, SWT_LEDGER_FILE);
}

swt_status swt_run_sync(const swt_run *run) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, run->path, SWT_METRICS_FILE));
    SWT_TRY(swt_file_sync(run->metrics, path));
    SWT_TRY(swt_path_join(path, run->path, SWT_LEDGER_FILE));
    return swt_file_sync(run->ledger, path);
}
