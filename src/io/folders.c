/* What files.h promises of folders. */
#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

swt_status swt_folder_make(const char *path) {
    return mkdir(path, 0777) == 0 ? SWT_OK : swt_path_uncreated(path, errno);
}

/* The next entry but "." and ".."; NULL at the end, or where *failed is the reason. */
static const char *next_name(DIR *stream, int *failed) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        *failed = entry == NULL ? errno : 0;
        if (entry == NULL)
            return NULL;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return entry->d_name;
    }
}

swt_status swt_folder_walk(const char *folder, swt_folder_visit visit, void *context) {
    const int fd = swt_open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    int failed = stream == NULL ? errno : 0;
    if (fd >= 0 && stream == NULL)
        close(fd);
    swt_status status = SWT_OK;
    while (stream != NULL && status == SWT_OK) {
        const char *name = next_name(stream, &failed);
        if (name == NULL)
            break;
        status = visit(context, folder, name);
    }
    if (stream != NULL)
        closedir(stream);
    if (status == SWT_OK && failed != 0)
        status = SWT_FAIL_AS(swt_status_of(failed, SWT_FILE),
                             "%s: the folder cannot be read (%s); see its rights",
                             swt_path_tail(folder), strerror(failed));
    return status;
}

/* What stands in the way of removing a folder, and why. */
typedef struct stays {
    char name[NAME_MAX + 1];
    int failed; /* 0: nothing */
} stays;

/* Remove every file of an open folder, which is closed. */
static void remove_files(int fd, stays *first) {
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        first->failed = errno;
        close(fd);
        return;
    }
    int failed = 0;
    for (const char *name; (name = next_name(stream, &failed)) != NULL;) {
        if (unlinkat(fd, name, 0) == 0 || errno == ENOENT || first->failed != 0)
            continue;
        first->failed = errno;
        snprintf(first->name, sizeof first->name, "%s", name);
    }
    if (first->failed == 0)
        first->failed = failed;
    closedir(stream);
}

/* By descriptors, without following links: between a look at a name and its use another process
 * might put a link there, and what it leads to is not ours. */
static void remove_at(int parent, const char *name, stays *first) {
    const int fd = swt_open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return;
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
        first->failed = unlinkat(parent, name, 0) != 0 ? errno : 0;
        return;
    }
    if (fd < 0)
        first->failed = errno;
    else
        remove_files(fd, first);
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
        first->failed = 0;
    else if (first->failed == 0)
        first->failed = errno;
}

swt_status swt_folder_remove(const char *folder, const char *name) {
    stays first = {0};
    const int parent = swt_open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY);
    if (parent < 0) {
        first.failed = errno;
    } else {
        remove_at(parent, name, &first);
        close(parent);
    }
    if (first.failed == 0)
        return SWT_OK;
    return SWT_FAIL(FILE, "%s/%s%s%s: cannot be removed (%s); remove it by hand",
                    swt_path_tail(folder), name, first.name[0] != '\0' ? "/" : "", first.name,
                    strerror(first.failed));
}

swt_status swt_folder_room(const char *folder, int64_t *free_bytes) {
    struct statvfs info;
    int failed = 0;
    do
        failed = statvfs(folder, &info) != 0 ? errno : 0;
    while (failed == EINTR);
    if (failed != 0)
        return SWT_FAIL(FILE,
                        "%s: its file system does not say how much room it has (%s); give "
                        "another place",
                        swt_path_tail(folder), strerror(failed));
    if (__builtin_mul_overflow(info.f_bavail, info.f_frsize, free_bytes))
        *free_bytes = INT64_MAX;
    return SWT_OK;
}
