#include "io/files.h"

#include "base/standard.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The most that one read(2) takes on Linux is a little more. */
enum { TURN_BYTES = 1 << 30, PIECE_BYTES = 1 << 14 };

const char *swt_path_tail(const char *path) {
    enum { TAIL_BYTES = 200 };
    const size_t n = strlen(path);
    if (n <= TAIL_BYTES)
        return path;
    path += n - TAIL_BYTES;
    while (((unsigned char)*path & 0xC0) == 0x80) /* inside of a character */
        path++;
    return path;
}

swt_status swt_path_join(char out[SWT_PATH_BYTES], const char *folder, const char *name) {
    const int length = snprintf(out, SWT_PATH_BYTES, "%s/%s", folder, name);
    if (length < 0 || length >= SWT_PATH_BYTES)
        return SWT_FAIL(FILE, "%s/%.40s: the path is too long; at most %d bytes are possible",
                        swt_path_tail(folder), name, SWT_PATH_BYTES - 1);
    return SWT_OK;
}

bool swt_is_file_name(const char *name) {
    const size_t length = strlen(name);
    return length > 0 && length < SWT_FILE_NAME_BYTES && name[0] != '.' &&
           strchr(name, '/') == NULL && swt_utf8_printable(name);
}

swt_status swt_path_hidden(char out[SWT_PATH_BYTES], const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const int length =
        snprintf(out, SWT_PATH_BYTES, "%.*s.%s.part", (int)(name - path), path, name);
    if (length < 0 || length >= SWT_PATH_BYTES)
        return SWT_FAIL(FILE, "%.200s...: the path is too long; give a shorter one", path);
    return SWT_OK;
}

swt_status swt_path_look(swt_path_kind *kind, const char *path, bool follow_links) {
    struct stat info;
    *kind = SWT_PATH_NONE;
    if ((follow_links ? stat(path, &info) : lstat(path, &info)) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return SWT_OK;
        return SWT_FAIL(FILE, "%s: cannot be looked at (%s); see the rights of its folders", path,
                        strerror(errno));
    }
    *kind = S_ISREG(info.st_mode)   ? SWT_PATH_FILE
            : S_ISDIR(info.st_mode) ? SWT_PATH_FOLDER
                                    : SWT_PATH_OTHER;
    return SWT_OK;
}

int swt_open_at(int folder, const char *path, int flags) {
    int fd = -1;
    do
        fd = openat(folder, path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* ---- reading */

swt_status swt_file_open(int *fd, int64_t *bytes, const char *path, swt_status status) {
    /* O_NONBLOCK: a named pipe must not stop the program before it is refused. */
    *fd = swt_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    struct stat info;
    const char *why = NULL;
    if (*fd < 0) {
        status = swt_status_of(errno, status);
        why = errno == ENOENT ? "is missing" : strerror(errno);
    } else if (fstat(*fd, &info) != 0) {
        why = strerror(errno);
    } else if (!S_ISREG(info.st_mode)) {
        why = S_ISDIR(info.st_mode) ? "is a folder" : "is no regular file";
    } else {
        *bytes = info.st_size;
        return SWT_OK;
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return SWT_FAIL_AS(status, "%s: %s; the path of a readable file is needed", swt_path_tail(path),
                       why);
}

swt_status swt_file_read(int fd, void *out, size_t bytes, int64_t offset, const char *path,
                         swt_status status) {
    for (size_t at = 0; at < bytes;) {
        const size_t rest = bytes - at;
        const ssize_t got = pread(fd, (char *)out + at, rest < TURN_BYTES ? rest : TURN_BYTES,
                                  (off_t)(offset + (int64_t)at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return SWT_FAIL_AS(
                status, "%s: cannot be read at byte %lld (%s); give a file that nobody writes",
                swt_path_tail(path), (long long)offset + (long long)at,
                got < 0 ? strerror(errno) : "it became shorter");
        at += (size_t)got;
    }
    return SWT_OK;
}

swt_status swt_file_load(char **out, size_t *bytes, const char *path, int64_t most_bytes,
                         swt_status status) {
    int fd = -1;
    int64_t size = 0;
    *out = NULL;
    *bytes = 0;
    SWT_TRY(swt_file_open(&fd, &size, path, status));
    swt_status result = SWT_OK;
    if (size > most_bytes)
        result =
            SWT_FAIL_AS(status,
                        "%s: has %lld bytes, and a file of its kind at most %lld; give the right "
                        "file",
                        swt_path_tail(path), (long long)size, (long long)most_bytes);
    else if ((*out = malloc((size_t)size + 1)) == NULL)
        result = SWT_FAIL(MEMORY,
                          "%s: no memory for its %lld bytes; use a smaller file or a machine with "
                          "more memory",
                          swt_path_tail(path), (long long)size);
    else
        result = swt_file_read(fd, *out, (size_t)size, 0, path, status);
    close(fd);
    if (result != SWT_OK) {
        free(*out);
        *out = NULL;
        return result;
    }
    (*out)[size] = '\0';
    *bytes = (size_t)size;
    return SWT_OK;
}

/* ---- writing */

/* Notes in the error just recorded whether room was missing. */
static swt_status note_room(swt_status status, int failed) {
    swt_last_error()->disk_full = failed == ENOSPC || failed == EDQUOT;
    return status;
}

static swt_status unwritten(const char *path, int failed) {
    return note_room(SWT_FAIL(FILE,
                              "%s: cannot be written (%s); free space or choose another place",
                              swt_path_tail(path), strerror(failed)),
                     failed);
}

swt_status swt_path_uncreated(const char *path, int failed) {
    return note_room(SWT_FAIL(FILE,
                              "%s: cannot be created (%s); give a folder that can be written, and "
                              "a name that is not there",
                              swt_path_tail(path), strerror(failed)),
                     failed);
}

swt_status swt_file_create(int *fd, const char *path) {
    /* O_EXCL follows no link: what is created is ours, wherever the name might have led. */
    *fd = swt_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
    return *fd >= 0 ? SWT_OK : swt_path_uncreated(path, errno);
}

swt_status swt_file_remove(const char *path) {
    if (unlink(path) != 0 && errno != ENOENT)
        return SWT_FAIL(FILE, "%s: cannot be removed (%s); remove it by hand", path,
                        strerror(errno));
    return SWT_OK;
}

swt_status swt_file_write(int fd, const void *bytes, size_t count, const char *path) {
    const int failed = swt_write_all(fd, bytes, count);
    return failed != 0 ? unwritten(path, failed) : SWT_OK;
}

/* 0, or errno. */
static int sync_whole(int fd) {
    int failed = 0;
    do
        failed = fsync(fd) != 0 ? errno : 0;
    while (failed == EINTR);
    return failed;
}

void swt_file_append(const char *path, const char *text) {
    const int fd = swt_open_at(AT_FDCWD, path, O_WRONLY | O_APPEND | O_NOFOLLOW);
    if (fd < 0)
        return;
    (void)swt_write_all(fd, text, strlen(text));
    close(fd);
}

swt_status swt_file_finish(int *fd, const char *path) {
    int failed = sync_whole(*fd);
    /* Linux has closed it also where a signal came in between. */
    if (close(*fd) != 0 && failed == 0 && errno != EINTR)
        failed = errno;
    *fd = -1;
    return failed == 0 ? SWT_OK : unwritten(path, failed);
}

swt_status swt_file_sync(int fd, const char *path) {
    const int failed = sync_whole(fd);
    /* EINVAL: a pipe, or a file system that has nothing to sync for folders. */
    return failed == 0 || failed == EINVAL ? SWT_OK : unwritten(path, failed);
}

void swt_file_forget(int fd) {
    (void)posix_fadvise(fd, 0, 0,
                        POSIX_FADV_DONTNEED); /* advice: whether it is taken is no error */
}

swt_status swt_file_altered(const char *path) {
    return SWT_FAIL(
        FILE, "%s: the disk gives back other bytes than were written; give another --out", path);
}

/* Read what is on the disk, and compare. */
static swt_status read_back(const char *path, const void *bytes, size_t count) {
    int fd = -1;
    int64_t found = 0;
    char piece[PIECE_BYTES];
    SWT_TRY(swt_file_open(&fd, &found, path, SWT_FILE));
    swt_file_forget(fd);
    swt_status status = (size_t)found == count ? SWT_OK : swt_file_altered(path);
    for (size_t at = 0; at < count && status == SWT_OK; at += sizeof piece) {
        const size_t n = count - at < sizeof piece ? count - at : sizeof piece;
        status = swt_file_read(fd, piece, n, (int64_t)at, path, SWT_FILE);
        if (status == SWT_OK && memcmp(piece, (const char *)bytes + at, n) != 0)
            status = swt_file_altered(path);
    }
    close(fd);
    return status;
}

/* Create, write, finish and read back. */
static swt_status save(const char *path, const void *bytes, size_t count) {
    int fd = -1;
    SWT_TRY(swt_file_create(&fd, path));
    swt_status status = swt_file_write(fd, bytes, count, path);
    if (status == SWT_OK)
        status = swt_file_finish(&fd, path);
    else
        close(fd);
    if (status == SWT_OK)
        status = read_back(path, bytes, count);
    if (status != SWT_OK)
        unlink(path);
    return status;
}

swt_status swt_file_print(const char *path, const char *what,
                          void (*print)(FILE *out, const void *thing), const void *thing) {
    swt_memory_stream m;
    FILE *out = swt_memory_stream_open(&m);
    if (out != NULL)
        print(out, thing);
    const swt_status status =
        swt_memory_stream_close(&m)
            ? save(path, m.text, m.bytes)
            : SWT_FAIL(MEMORY, "%s: no memory to write %s; use a machine with more", path, what);
    free(m.text);
    return status;
}

swt_status swt_path_sync(const char *path) {
    const int fd = swt_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return SWT_FAIL(FILE, "%s: cannot be opened (%s); give a file that can be read", path,
                        strerror(errno));
    const swt_status status = swt_file_sync(fd, path);
    close(fd);
    return status;
}

swt_status swt_path_rename(const char *from, const char *to) {
    if (rename(from, to) == 0)
        return SWT_OK;
    const int failed = errno;
    return note_room(SWT_FAIL(FILE,
                              "%s: cannot be renamed to %s (%s); see that the folder can be "
                              "written",
                              swt_path_tail(from), swt_path_tail(to), strerror(failed)),
                     failed);
}
