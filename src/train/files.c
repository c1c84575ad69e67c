#include "train/files.h"

#include "train/data.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The most that one read(2) returns on Linux is a little less. */
enum { READ_BYTES = 1 << 30 };

swt_status swt_path_join(char *out, size_t out_bytes, const char *folder, const char *name) {
    const int length = snprintf(out, out_bytes, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= out_bytes)
        return SWT_FAIL(FILE, "%.200s...: the path is too long; at most %zu bytes are possible",
                        folder, out_bytes - 1);
    return SWT_OK;
}

bool swt_path_exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

swt_status swt_file_finish(FILE **file, const char *path) {
    int failed = fflush(*file) != 0 ? errno : 0;
    if (failed == 0 && fsync(fileno(*file)) != 0)
        failed = errno;
    if (fclose(*file) != 0 && failed == 0)
        failed = errno;
    *file = NULL;
    if (failed != 0)
        return SWT_FAIL(FILE, "%s: cannot be written (%s); free space or choose another place",
                        path, strerror(failed));
    return SWT_OK;
}

swt_status swt_path_sync(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SWT_FAIL(FILE, "%s: cannot be opened (%s); give a file that can be read", path,
                        strerror(errno));
    /* EINVAL: a file system that has nothing to sync for folders. */
    const int failed = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    if (failed != 0)
        return SWT_FAIL(FILE, "%s: cannot be brought to disk (%s); check the file system", path,
                        strerror(failed));
    return SWT_OK;
}

swt_status swt_path_rename(const char *from, const char *to) {
    if (rename(from, to) != 0)
        return SWT_FAIL(FILE,
                        "%s: cannot be renamed to %s (%s); see that the folder can be written",
                        from, to, strerror(errno));
    return SWT_OK;
}

swt_status swt_folder_walk(const char *folder, swt_folder_visit visit, void *context) {
    DIR *stream = opendir(folder);
    if (stream == NULL)
        return SWT_FAIL(FILE, "%s: the folder cannot be read (%s); see its rights", folder,
                        strerror(errno));
    swt_status status = SWT_OK;
    while (status == SWT_OK) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            if (errno != 0)
                status = SWT_FAIL(FILE, "%s: the folder cannot be read (%s); see its rights",
                                  folder, strerror(errno));
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = visit(context, folder, entry->d_name);
    }
    closedir(stream);
    return status;
}

static swt_status remove_file(void *context, const char *folder, const char *name) {
    (void)context;
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, sizeof path, folder, name));
    if (unlink(path) != 0)
        return SWT_FAIL(FILE, "%s: cannot be removed (%s); see that the folder can be written",
                        path, strerror(errno));
    return SWT_OK;
}

swt_status swt_folder_remove(const char *folder) {
    SWT_TRY(swt_folder_walk(folder, remove_file, NULL));
    if (rmdir(folder) != 0)
        return SWT_FAIL(FILE, "%s: cannot be removed (%s); see that the folder can be written",
                        folder, strerror(errno));
    return SWT_OK;
}

swt_status swt_file_open(int *fd, int64_t *bytes, const char *path, swt_status status) {
    /* O_NONBLOCK: a named pipe must not stop the program before it is refused. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return swt_fail(status, __FILE__, __LINE__, "%s: %s; the path of a readable file is needed",
                        path, errno == ENOENT ? "is missing" : strerror(errno));
    struct stat info;
    const char *why = NULL;
    if (fstat(*fd, &info) != 0)
        why = strerror(errno);
    else if (!S_ISREG(info.st_mode))
        why = S_ISDIR(info.st_mode) ? "is a folder" : "is no regular file";
    if (why != NULL) {
        close(*fd);
        return swt_fail(status, __FILE__, __LINE__, "%s: %s; the path of a readable file is needed",
                        path, why);
    }
    *bytes = info.st_size;
    return SWT_OK;
}

static swt_status read_all(int fd, char *out, size_t bytes, const char *path, swt_status status) {
    for (size_t at = 0; at < bytes;) {
        const size_t rest = bytes - at;
        const ssize_t got = read(fd, out + at, rest < READ_BYTES ? rest : READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return swt_fail(
                status, __FILE__, __LINE__,
                "%s: cannot be read at byte %zu of %zu (%s); give a file that nobody writes", path,
                at, bytes, got < 0 ? strerror(errno) : "it became shorter");
        at += (size_t)got;
    }
    out[bytes] = '\0';
    return SWT_OK;
}

swt_status swt_read_file(char **out, size_t *bytes, const char *path, swt_status status) {
    int fd = -1;
    int64_t size = 0;
    *out = NULL;
    SWT_TRY(swt_file_open(&fd, &size, path, status));
    swt_status result = SWT_OK;
    if (size == 0)
        result = swt_fail(status, __FILE__, __LINE__, "%s: is empty; a file with content is needed",
                          path);
    else if ((*out = malloc((size_t)size + 1)) == NULL)
        result = SWT_FAIL(
            MEMORY,
            "%s: its %lld bytes do not fit in memory; use a smaller file or a machine with more",
            path, (long long)size);
    else
        result = read_all(fd, *out, (size_t)size, path, status);
    close(fd);
    if (result != SWT_OK) {
        free(*out);
        *out = NULL;
    }
    *bytes = result == SWT_OK ? (size_t)size : 0;
    return result;
}
