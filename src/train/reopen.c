/* A run directory that is there already: one run at a time in it, and how one goes on. */
#include "io/files.h"
#include "state/ledger.h"
#include "train/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const lock_name = ".lock", *const hidden_name = ".rows.jsonl";

/* Whether the name still leads to the open file: whoever had the lock may have removed it between
 * our opening and our locking. */
static bool is_current(int fd, const char *path) {
    struct stat own, named;
    return fstat(fd, &own) == 0 && stat(path, &named) == 0 && own.st_ino == named.st_ino &&
           own.st_dev == named.st_dev;
}

/* A lock of the system's goes with the process that has it, however that ends. */
swt_status swt_run_lock(swt_run *run) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, run->path, lock_name));
    for (;;) {
        const int fd = swt_open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW);
        if (fd < 0)
            return swt_path_uncreated(path, errno);
        const bool taken = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (!taken && is_current(fd, path)) {
            run->lock = fd;
            return SWT_OK;
        }
        close(fd);
        if (taken)
            return SWT_FAIL(USAGE,
                            "%s: another run is writing there; wait for its end or give another "
                            "--out",
                            swt_path_tail(run->path));
    }
}

void swt_run_unlock(swt_run *run) {
    char path[SWT_PATH_BYTES];
    if (run->lock <= 0)
        return;
    if (swt_path_join(path, run->path, lock_name) == SWT_OK)
        unlink(path);
    close(run->lock);
    run->lock = 0;
}

static swt_status write_rows(const char *hidden, const char *text, size_t bytes) {
    int fd = -1;
    SWT_TRY(swt_file_remove(hidden)); /* of a run that was killed here */
    SWT_TRY(swt_file_create(&fd, hidden));
    const swt_status status = swt_file_write(fd, text, bytes, hidden);
    if (status == SWT_OK)
        return swt_file_finish(&fd, hidden);
    close(fd);
    return status;
}

static uint64_t hash_rows(const char *text, size_t bytes) {
    const char *const end = text + bytes;
    uint64_t hash = 0;
    while (text < end) {
        const char *next = (const char *)memchr(text, '\n', (size_t)(end - text)) + 1;
        hash = swt_ledger_row_hash(text, (size_t)(next - text), hash);
        text = next;
    }
    return hash;
}

/* metrics.jsonl or ledger.jsonl without what comes behind a step: the whole old file, or the whole
 * new one. *hash = that of the rows that stay. */
static swt_status cut_rows(const swt_run *run, const char *path, int64_t step, uint64_t *hash) {
    char hidden[SWT_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    SWT_TRY(swt_path_join(hidden, run->path, hidden_name));
    SWT_TRY(swt_file_load(&text, &bytes, path, INT64_MAX - 1, SWT_FILE));
    const size_t kept = swt_ledger_rows_up_to(text, bytes, step);
    *hash = hash_rows(text, kept);
    swt_status status = SWT_OK;
    if (kept < bytes)
        status = write_rows(hidden, text, kept);
    if (kept < bytes && status == SWT_OK)
        status = swt_path_rename(hidden, path);
    free(text);
    return status;
}

/* Open to write behind what is there, or anew; and behind what others write meanwhile. */
static swt_status open_end(int *fd, const char *path) {
    *fd = swt_open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW);
    if (*fd < 0)
        return swt_path_uncreated(path, errno);
    if (lseek(*fd, 0, SEEK_END) < 0)
        return SWT_FAIL(FILE, "%s: is no file to write behind (%s); give another --out",
                        swt_path_tail(path), strerror(errno));
    return SWT_OK;
}

/* A line that a kill has cut off is ended. */
static swt_status end_line(int fd, const char *path) {
    char last = '\n';
    const off_t bytes = lseek(fd, 0, SEEK_END);
    if (bytes > 0 && pread(fd, &last, 1, bytes - 1) == 1 && last != '\n')
        return swt_file_write(fd, "\n", 1, path);
    return SWT_OK;
}

swt_status swt_run_reopen(swt_run *run, const swt_options *o, int64_t step) {
    char metrics[SWT_PATH_BYTES], ledger[SWT_PATH_BYTES], log[SWT_PATH_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    uint64_t unused = 0;
    SWT_TRY(swt_path_join(ledger, run->path, SWT_LEDGER_FILE));
    SWT_TRY(swt_path_join(metrics, run->path, SWT_METRICS_FILE));
    SWT_TRY(swt_path_join(log, run->path, SWT_LOG_FILE));
    SWT_TRY(swt_path_look(&kind, metrics, false));
    if (kind != SWT_PATH_NONE)
        SWT_TRY(cut_rows(run, metrics, step, &run->metrics_hash));
    SWT_TRY(swt_path_look(&kind, ledger, false));
    if (kind != SWT_PATH_NONE)
        SWT_TRY(cut_rows(run, ledger, step, &unused));
    SWT_TRY(open_end(&run->metrics, metrics));
    SWT_TRY(open_end(&run->ledger, ledger));
    SWT_TRY(open_end(&run->log, log));
    SWT_TRY(end_line(run->log, log));
    SWT_TRY(swt_run_write_config(run, o));
    return swt_path_sync(run->path);
}
