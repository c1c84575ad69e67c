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

static swt_status sync_file(void *context, const char *folder, const char *name) {
    (void)context;
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, folder, name));
    return swt_path_sync(path);
}

swt_status swt_folder_sync(const char *folder) {
    SWT_TRY(swt_folder_walk(folder, sync_file, NULL));
    return swt_path_sync(folder);
}

/* ---- folders that appear at once */

/* The folder that the path's last name stands in. */
static void parent_of(char out[SWT_PATH_BYTES], const char *path) {
    const char *slash = strrchr(path, '/');
    const int bytes = slash == NULL ? 0 : slash == path ? 1 : (int)(slash - path);
    snprintf(out, SWT_PATH_BYTES, "%.*s", bytes, path);
    if (slash == NULL)
        snprintf(out, SWT_PATH_BYTES, ".");
}

/* Nothing happens where there is none. */
static swt_status remove_hidden(const swt_new_folder *f) {
    char parent[SWT_PATH_BYTES];
    const char *slash = strrchr(f->hidden, '/');
    parent_of(parent, f->hidden);
    return swt_folder_remove(parent, slash != NULL ? slash + 1 : f->hidden);
}

swt_status swt_new_folder_begin(swt_new_folder *out, const char *path) {
    swt_path_kind kind = SWT_PATH_NONE;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length >= SWT_PATH_BYTES)
        return SWT_FAIL(FILE, "%.200s...: the path is too long; give a shorter one", path);
    snprintf(out->path, sizeof out->path, "%.*s", (int)length, path);
    SWT_TRY(swt_path_look(&kind, out->path, false));
    if (kind != SWT_PATH_NONE)
        return SWT_FAIL(USAGE, "%s: is there already; give a new folder", swt_path_tail(path));
    SWT_TRY(swt_path_hidden(out->hidden, out->path));
    SWT_TRY(remove_hidden(out));
    return swt_folder_make(out->hidden);
}

swt_status swt_new_folder_publish(const swt_new_folder *f) {
    char parent[SWT_PATH_BYTES];
    parent_of(parent, f->path);
    SWT_TRY(swt_folder_sync(f->hidden));
    SWT_TRY(swt_path_rename(f->hidden, f->path));
    return swt_path_sync(parent);
}

void swt_new_folder_discard(const swt_new_folder *f) {
    const swt_error why = *swt_last_error();
    (void)remove_hidden(f);
    *swt_last_error() = why;
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
