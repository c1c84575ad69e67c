/* Which checkpoint folders there are, and their atomic publication. */
#include "train/files.h"
#include "train/rundir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAME_BYTES = 40 };

static const char *const folder_name = "checkpoints", *const weights_name = "weights.safetensors",
                         *const hidden_prefix = ".step-";

/* Published steps in ascending order. */
typedef struct step_list {
    int64_t *steps; /* (count), owned */
    int64_t count, capacity;
} step_list;

static void published_name(char out[NAME_BYTES], int64_t step) {
    snprintf(out, NAME_BYTES, "step-%08" PRId64, step);
}

/* The step of a published folder's name, -1 for any other name. */
static int64_t step_of(const char *name) {
    const char *digits = name + strlen("step-");
    if (strncmp(name, "step-", strlen("step-")) != 0 || *digits < '0' || *digits > '9')
        return -1;
    errno = 0;
    const long long step = strtoll(digits, NULL, 10);
    char expected[NAME_BYTES];
    published_name(expected, step);
    return errno == 0 && strcmp(name, expected) == 0 ? step : -1;
}

static swt_status add_step(void *context, const char *folder, const char *name) {
    (void)folder;
    step_list *list = context;
    const int64_t step = step_of(name);
    if (step < 0)
        return SWT_OK;
    if (list->count == list->capacity) {
        const int64_t capacity = 2 * list->capacity + 16;
        int64_t *steps = realloc(list->steps, (size_t)capacity * sizeof *steps);
        if (steps == NULL)
            return SWT_FAIL(MEMORY, "checkpoints: no memory for %" PRId64 " names", capacity);
        list->steps = steps;
        list->capacity = capacity;
    }
    list->steps[list->count++] = step;
    return SWT_OK;
}

static int ascending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The caller frees list->steps, also on an error. */
static swt_status list_steps(step_list *list, const char *checkpoints) {
    SWT_TRY(swt_folder_walk(checkpoints, add_step, list));
    if (list->count > 0)
        qsort(list->steps, (size_t)list->count, sizeof *list->steps, ascending);
    return SWT_OK;
}

/* checkpoints/<prefix>step-NNNNNNNN<suffix> of a run */
static swt_status step_path(char out[SWT_PATH_BYTES], const char *checkpoints, int64_t step,
                            const char *prefix, const char *suffix) {
    char published[NAME_BYTES], name[2 * NAME_BYTES];
    published_name(published, step);
    snprintf(name, sizeof name, "%s%s%s", prefix, published, suffix);
    return swt_path_join(out, SWT_PATH_BYTES, checkpoints, name);
}

static swt_status remove_leftover(void *context, const char *folder, const char *name) {
    (void)context;
    char path[SWT_PATH_BYTES];
    if (strncmp(name, hidden_prefix, strlen(hidden_prefix)) != 0)
        return SWT_OK;
    SWT_TRY(swt_path_join(path, sizeof path, folder, name));
    return swt_folder_remove(path);
}

swt_status swt_run_checkpoint_begin(const swt_run *run, int64_t step, char *dir, size_t dir_bytes) {
    char checkpoints[SWT_PATH_BYTES], hidden[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(checkpoints, sizeof checkpoints, run->path, folder_name));
    SWT_TRY(step_path(hidden, checkpoints, step, ".", ""));
    if (strlen(hidden) >= dir_bytes)
        return SWT_FAIL(FILE, "%s: the path is too long; give a shorter --out", hidden);
    if (mkdir(checkpoints, 0777) == 0)
        SWT_TRY(swt_path_sync(run->path));
    else if (errno != EEXIST)
        return SWT_FAIL(FILE, "%s: cannot be created (%s); give a folder that can be written",
                        checkpoints, strerror(errno));
    SWT_TRY(swt_folder_walk(checkpoints, remove_leftover, NULL));
    if (mkdir(hidden, 0777) != 0)
        return SWT_FAIL(FILE, "%s: cannot be created (%s); give a folder that can be written",
                        hidden, strerror(errno));
    memcpy(dir, hidden, strlen(hidden) + 1);
    return SWT_OK;
}

/* Hide a published checkpoint before anything in it is removed, so that a kill leaves no half one.
 */
static swt_status retire(const char *checkpoints, int64_t step, char hidden[SWT_PATH_BYTES]) {
    char published[SWT_PATH_BYTES];
    SWT_TRY(step_path(published, checkpoints, step, "", ""));
    SWT_TRY(step_path(hidden, checkpoints, step, ".", ".old"));
    return swt_path_rename(published, hidden);
}

static swt_status remove_oldest(const char *checkpoints, int64_t keep) {
    step_list list = {0};
    char hidden[SWT_PATH_BYTES];
    swt_status status = list_steps(&list, checkpoints);
    for (int64_t i = 0; status == SWT_OK && i < list.count - keep; i++) {
        status = retire(checkpoints, list.steps[i], hidden);
        if (status == SWT_OK)
            status = swt_folder_remove(hidden);
    }
    free(list.steps);
    return status;
}

static swt_status sync_file(void *context, const char *folder, const char *name) {
    (void)context;
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, sizeof path, folder, name));
    return swt_path_sync(path);
}

swt_status swt_run_checkpoint_publish(const swt_run *run, int64_t step, int64_t keep) {
    char checkpoints[SWT_PATH_BYTES], hidden[SWT_PATH_BYTES], published[SWT_PATH_BYTES],
        replaced[SWT_PATH_BYTES] = "";
    SWT_TRY(swt_path_join(checkpoints, sizeof checkpoints, run->path, folder_name));
    SWT_TRY(step_path(hidden, checkpoints, step, ".", ""));
    SWT_TRY(step_path(published, checkpoints, step, "", ""));
    SWT_TRY(swt_folder_walk(hidden, sync_file, NULL));
    SWT_TRY(swt_path_sync(hidden));
    if (swt_path_exists(published)) /* the same step again: rename(2) replaces no full folder */
        SWT_TRY(retire(checkpoints, step, replaced));
    SWT_TRY(swt_path_rename(hidden, published));
    SWT_TRY(swt_path_sync(checkpoints));
    if (replaced[0] != '\0')
        SWT_TRY(swt_folder_remove(replaced));
    return keep > 0 ? remove_oldest(checkpoints, keep) : SWT_OK;
}

/* *found = whether the folder holds weights. */
static swt_status has_weights(const char *folder, bool *found) {
    char path[SWT_PATH_BYTES];
    struct stat info;
    SWT_TRY(swt_path_join(path, sizeof path, folder, weights_name));
    *found = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    return SWT_OK;
}

/* The newest published checkpoint with weights; *found = false where there is none. */
static swt_status find_newest(char out[SWT_PATH_BYTES], const char *checkpoints, bool *found) {
    step_list list = {0};
    swt_status status = list_steps(&list, checkpoints);
    *found = false;
    for (int64_t i = list.count - 1; status == SWT_OK && !*found && i >= 0; i--) {
        status = step_path(out, checkpoints, list.steps[i], "", "");
        if (status == SWT_OK)
            status = has_weights(out, found);
    }
    free(list.steps);
    return status;
}

static swt_status find_checkpoint(char out[SWT_PATH_BYTES], const char *dir) {
    struct stat info;
    bool found = false;
    if (stat(dir, &info) != 0)
        return SWT_FAIL(CHECKPOINT, "%s: %s; a run or checkpoint folder is needed", dir,
                        errno == ENOENT ? "is missing" : strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return SWT_FAIL(CHECKPOINT, "%s: is a file; a run or checkpoint folder is needed", dir);
    SWT_TRY(has_weights(dir, &found));
    if (found) {
        memcpy(out, dir, strlen(dir) + 1);
        return SWT_OK;
    }
    char checkpoints[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(checkpoints, sizeof checkpoints, dir, folder_name));
    if (stat(checkpoints, &info) == 0 && S_ISDIR(info.st_mode))
        SWT_TRY(find_newest(out, checkpoints, &found));
    if (!found)
        return SWT_FAIL(CHECKPOINT,
                        "%s: holds no checkpoint; a folder with %s, or a run with one in "
                        "checkpoints/, is needed",
                        dir, weights_name);
    return SWT_OK;
}

swt_status swt_checkpoint_find(char *out, size_t out_bytes, const char *dir) {
    char path[SWT_PATH_BYTES];
    const swt_status status = find_checkpoint(path, dir);
    /* What the file helpers report as FILE is about a checkpoint here. */
    if (status == SWT_FILE)
        swt_last_error()->status = SWT_CHECKPOINT;
    if (status != SWT_OK)
        return status == SWT_FILE ? SWT_CHECKPOINT : status;
    if (strlen(path) >= out_bytes)
        return SWT_FAIL(CHECKPOINT, "%s: the path is too long; at most %zu bytes are possible",
                        path, out_bytes - 1);
    memcpy(out, path, strlen(path) + 1);
    return SWT_OK;
}
