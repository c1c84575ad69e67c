/* Which checkpoint folders there are, and their atomic publication. */
#include "io/files.h"
#include "train/rundir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 40, SET_ASIDE_MOST = 100 };

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
    const swt_status status = swt_folder_walk(checkpoints, add_step, list);
    /* Half a list, in the folder's order, would make any of them the oldest or the newest. */
    if (status != SWT_OK)
        list->count = 0;
    if (list->count > 0)
        qsort(list->steps, (size_t)list->count, sizeof *list->steps, ascending);
    return status;
}

/* checkpoints/<prefix>step-NNNNNNNN<suffix> of a run */
static swt_status step_path(char out[SWT_PATH_BYTES], const char *checkpoints, int64_t step,
                            const char *prefix, const char *suffix) {
    char published[NAME_BYTES], name[2 * NAME_BYTES];
    published_name(published, step);
    snprintf(name, sizeof name, "%s%s%s", prefix, published, suffix);
    return swt_path_join(out, SWT_PATH_BYTES, checkpoints, name);
}

static swt_status checkpoints_of(char out[SWT_PATH_BYTES], const swt_run *run) {
    return swt_path_join(out, SWT_PATH_BYTES, run->path, folder_name);
}

swt_status swt_run_check_path(const char *run_path, int64_t last_step) {
    swt_run run = {0};
    char checkpoints[SWT_PATH_BYTES], folder[SWT_PATH_BYTES], file[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(run.path, sizeof run.path, run_path, ""));
    SWT_TRY(checkpoints_of(checkpoints, &run));
    SWT_TRY(step_path(folder, checkpoints, last_step, ".", ".old99"));
    return swt_path_join(file, sizeof file, folder, weights_name);
}

/* ---- tidying up */

static void warn_once(swt_run *run, swt_status status) {
    if (status != SWT_OK && !run->untidy)
        swt_run_say(run, "warning: %s", swt_last_error()->message);
    run->untidy = run->untidy || status != SWT_OK;
}

static swt_status remove_leftover(void *context, const char *folder, const char *name) {
    if (strncmp(name, hidden_prefix, strlen(hidden_prefix)) == 0)
        warn_once(context, swt_folder_remove(folder, name));
    return SWT_OK;
}

/* Hide a published checkpoint, or what is left in the way of a new one, under a name with .old:
 * the first that is free, where a leftover cannot be removed. */
static swt_status set_aside(const char *checkpoints, int64_t step, const char *prefix,
                            char name[2 * NAME_BYTES]) {
    char from[SWT_PATH_BYTES], to[SWT_PATH_BYTES], suffix[NAME_BYTES] = ".old";
    swt_path_kind kind = SWT_PATH_OTHER;
    SWT_TRY(step_path(from, checkpoints, step, prefix, ""));
    for (int i = 1; kind != SWT_PATH_NONE && i < SET_ASIDE_MOST; i++) {
        SWT_TRY(step_path(to, checkpoints, step, ".", suffix));
        SWT_TRY(swt_path_look(&kind, to, false));
        snprintf(suffix, sizeof suffix, ".old%d", i);
    }
    SWT_TRY(swt_path_rename(from, to));
    snprintf(name, (size_t)2 * NAME_BYTES, "%s", strrchr(to, '/') + 1);
    return SWT_OK;
}

/* A published checkpoint is hidden before anything in it is removed, so that a kill leaves no half
 * one. */
static swt_status remove_step(const char *checkpoints, int64_t step) {
    char name[2 * NAME_BYTES];
    SWT_TRY(set_aside(checkpoints, step, "", name));
    return swt_folder_remove(checkpoints, name);
}

static void remove_oldest(swt_run *run, const char *checkpoints, int64_t keep) {
    step_list list = {0};
    warn_once(run, list_steps(&list, checkpoints));
    for (int64_t i = 0; i < list.count - keep; i++)
        warn_once(run, remove_step(checkpoints, list.steps[i]));
    free(list.steps);
}

bool swt_run_checkpoint_drop(swt_run *run, int64_t keep) {
    char checkpoints[SWT_PATH_BYTES];
    step_list list = {0};
    bool dropped = false;
    swt_status status = checkpoints_of(checkpoints, run);
    if (status == SWT_OK)
        status = list_steps(&list, checkpoints);
    if (status == SWT_OK && keep > 0 && list.count > 1) {
        status = remove_step(checkpoints, list.steps[0]);
        dropped = status == SWT_OK;
    }
    if (dropped)
        swt_run_say(run,
                    "warning: the disk is full, so the checkpoint of step %" PRId64
                    " was removed; free space",
                    list.steps[0]);
    warn_once(run, status);
    free(list.steps);
    return dropped;
}

void swt_run_checkpoint_discard(swt_run *run, int64_t step) {
    char checkpoints[SWT_PATH_BYTES], published[NAME_BYTES], name[2 * NAME_BYTES];
    published_name(published, step);
    snprintf(name, sizeof name, ".%s", published);
    swt_status status = checkpoints_of(checkpoints, run);
    if (status == SWT_OK)
        status = swt_folder_remove(checkpoints, name);
    warn_once(run, status);
}

/* ---- publication */

/* checkpoints/ of the run, made if it is not there. */
static swt_status make_checkpoints(const swt_run *run, char checkpoints[SWT_PATH_BYTES]) {
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(checkpoints_of(checkpoints, run));
    SWT_TRY(swt_path_look(&kind, checkpoints, true));
    if (kind == SWT_PATH_FOLDER)
        return SWT_OK;
    SWT_TRY(swt_folder_make(checkpoints));
    return swt_path_sync(run->path);
}

swt_status swt_run_checkpoint_begin(swt_run *run, int64_t step, char *dir, size_t dir_bytes) {
    char checkpoints[SWT_PATH_BYTES], hidden[SWT_PATH_BYTES], left[2 * NAME_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(make_checkpoints(run, checkpoints));
    SWT_TRY(step_path(hidden, checkpoints, step, ".", ""));
    if (strlen(hidden) >= dir_bytes)
        return SWT_FAIL(FILE, "%s: the path is too long; give a shorter --out", hidden);
    warn_once(run, swt_folder_walk(checkpoints, remove_leftover, run));
    SWT_TRY(swt_path_look(&kind, hidden, false));
    if (kind != SWT_PATH_NONE)
        SWT_TRY(set_aside(checkpoints, step, ".", left));
    SWT_TRY(swt_folder_make(hidden));
    memcpy(dir, hidden, strlen(hidden) + 1);
    return SWT_OK;
}

static swt_status sync_file(void *context, const char *folder, const char *name) {
    (void)context;
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, sizeof path, folder, name));
    return swt_path_sync(path);
}

swt_status swt_run_checkpoint_publish(swt_run *run, int64_t step, int64_t keep) {
    char checkpoints[SWT_PATH_BYTES], hidden[SWT_PATH_BYTES], published[SWT_PATH_BYTES],
        old[SWT_PATH_BYTES], replaced[2 * NAME_BYTES] = "";
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(checkpoints_of(checkpoints, run));
    SWT_TRY(step_path(hidden, checkpoints, step, ".", ""));
    SWT_TRY(step_path(published, checkpoints, step, "", ""));
    SWT_TRY(swt_folder_walk(hidden, sync_file, NULL));
    SWT_TRY(swt_path_sync(hidden));
    SWT_TRY(swt_path_look(&kind, published, false));
    if (kind != SWT_PATH_NONE) /* the same step again: rename(2) replaces no full folder */
        SWT_TRY(set_aside(checkpoints, step, "", replaced));
    const swt_status status = swt_path_rename(hidden, published);
    if (status != SWT_OK) {
        /* The one that was there comes back. */
        const swt_error why = *swt_last_error();
        if (replaced[0] != '\0' && swt_path_join(old, sizeof old, checkpoints, replaced) == SWT_OK)
            warn_once(run, swt_path_rename(old, published));
        *swt_last_error() = why;
        return status;
    }
    SWT_TRY(swt_path_sync(checkpoints));
    if (replaced[0] != '\0')
        warn_once(run, swt_folder_remove(checkpoints, replaced));
    if (keep > 0)
        remove_oldest(run, checkpoints, keep);
    return SWT_OK;
}

/* ---- finding */

/* *found = whether the folder holds weights. */
static swt_status has_weights(const char *folder, bool *found) {
    char path[SWT_PATH_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(swt_path_join(path, sizeof path, folder, weights_name));
    SWT_TRY(swt_path_look(&kind, path, true));
    *found = kind == SWT_PATH_FILE;
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
    swt_path_kind kind = SWT_PATH_NONE;
    bool found = false;
    SWT_TRY(swt_path_look(&kind, dir, true));
    if (kind == SWT_PATH_NONE)
        return SWT_FAIL(CHECKPOINT, "%s: is missing; a run or checkpoint folder is needed", dir);
    if (kind != SWT_PATH_FOLDER)
        return SWT_FAIL(CHECKPOINT, "%s: is a file; a run or checkpoint folder is needed", dir);
    SWT_TRY(has_weights(dir, &found));
    if (found) {
        memcpy(out, dir, strlen(dir) + 1);
        return SWT_OK;
    }
    char checkpoints[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(checkpoints, sizeof checkpoints, dir, folder_name));
    SWT_TRY(swt_path_look(&kind, checkpoints, true));
    if (kind == SWT_PATH_FOLDER)
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
