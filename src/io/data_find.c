#include "io/data.h"
#include "io/files.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The newest text seen so far; of several equally old ones the first by name, so that every rank
 * takes the same. */
typedef struct newest_text {
    char path[SWT_PATH_BYTES];
    struct timespec modified;
    int64_t candidates;
} newest_text;

static bool is_newer(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static swt_status consider(void *context, const char *folder, const char *name) {
    newest_text *best = context;
    const size_t length = strlen(name);
    if (name[0] == '.' || length < 4 || strcmp(name + length - 4, ".txt") != 0)
        return SWT_OK;
    char path[SWT_PATH_BYTES];
    struct stat info;
    SWT_TRY(swt_path_join(path, folder, name));
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(swt_path_look(&kind, path, true));
    if (kind != SWT_PATH_FILE || stat(path, &info) != 0) /* or it has just gone */
        return SWT_OK;
    best->candidates++;
    const bool newer = is_newer(&info.st_mtim, &best->modified);
    const bool older = is_newer(&best->modified, &info.st_mtim);
    if (best->path[0] == '\0' || newer || (!older && strcmp(path, best->path) < 0)) {
        memcpy(best->path, path, strlen(path) + 1);
        best->modified = info.st_mtim;
    }
    return SWT_OK;
}

/* The folder of the running program; "" where the system does not tell. */
static void program_folder(char out[SWT_PATH_BYTES]) {
    const ssize_t length = readlink("/proc/self/exe", out, SWT_PATH_BYTES - 1);
    out[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL)
        *slash = '\0';
}

static swt_status copy_path(char *path, size_t path_bytes, const char *from) {
    const size_t length = strlen(from);
    if (length >= path_bytes)
        return SWT_FAIL(FILE, "data.path: %zu bytes are too long; at most %zu are possible", length,
                        path_bytes - 1);
    memcpy(path, from, length + 1);
    return SWT_OK;
}

swt_status swt_data_find(char *path, size_t path_bytes, int64_t *candidates, const char *given) {
    *candidates = 0;
    if (given[0] != '\0')
        return copy_path(path, path_bytes, given);
    const char *from_environment = getenv("SWT_DATA");
    if (from_environment != NULL && from_environment[0] != '\0')
        return copy_path(path, path_bytes, from_environment);

    char program[SWT_PATH_BYTES], installed[SWT_PATH_BYTES], built[SWT_PATH_BYTES];
    program_folder(program);
    SWT_TRY(swt_path_join(installed, program, "../share/swt-dist/data"));
    SWT_TRY(swt_path_join(built, program, "../../data")); /* build/PRESET/swt-dist */
    const char *const folders[] = {"data", installed, built};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        newest_text best = {0};
        swt_path_kind kind = SWT_PATH_NONE;
        SWT_TRY(swt_path_look(&kind, folders[i], true));
        if (kind != SWT_PATH_FOLDER)
            continue;
        SWT_TRY(swt_folder_walk(folders[i], consider, &best));
        *candidates = best.candidates;
        if (best.candidates > 0)
            return copy_path(path, path_bytes, best.path);
    }
    return SWT_FAIL(FILE, "data.path: no text given and none under data/; run launch/dataset or "
                          "give --data FILE");
}
