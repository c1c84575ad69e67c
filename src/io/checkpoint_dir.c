#include "io/checkpoint_dir.h"

#include "base/checked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 48, SET_ASIDE_MOST = 100 };

static const char *const folder_name = "checkpoints", *const hidden_prefix = ".step-";

/* ---- names */

/* step-NNNNNNNN, with what is before and behind it where it is hidden */
static void step_name(char out[NAME_BYTES], const char *prefix, int64_t step, const char *suffix) {
    snprintf(out, NAME_BYTES, "%sstep-%08" PRId64 "%s", prefix, step, suffix);
}

static swt_status step_path(char out[SWT_PATH_BYTES], const char *checkpoints, const char *prefix,
                            int64_t step, const char *suffix) {
    char name[NAME_BYTES];
    step_name(name, prefix, step, suffix);
    return swt_path_join(out, checkpoints, name);
}

/* The step of a published folder's name, -1 for any other name. */
static int64_t step_of(const char *name) {
    const char *digits = name + strlen("step-");
    if (strncmp(name, "step-", strlen("step-")) != 0 || *digits < '0' || *digits > '9')
        return -1;
    errno = 0;
    const long long step = strtoll(digits, NULL, 10);
    char expected[NAME_BYTES];
    step_name(expected, "", step, "");
    return errno == 0 && strcmp(name, expected) == 0 ? step : -1;
}

/* The steps of the published checkpoints, from one to below another. */
typedef struct step_range {
    int64_t from, below;
    int64_t count, oldest, newest; /* the last two where there are any */
} step_range;

static swt_status count_step(void *context, const char *folder, const char *name) {
    (void)folder;
    step_range *range = context;
    const int64_t step = step_of(name);
    if (step < range->from || step >= range->below)
        return SWT_OK;
    range->oldest = range->count == 0 ? step : swt_min(range->oldest, step);
    range->newest = range->count == 0 ? step : swt_max(range->newest, step);
    range->count++;
    return SWT_OK;
}

/* Where the folder cannot be read to its end there are none: any of half of them might seem to be
 * the oldest or the newest. */
static swt_status find_published(step_range *out, const char *checkpoints, int64_t from,
                                 int64_t below) {
    *out = (step_range){.from = from, .below = below};
    const swt_status status = swt_folder_walk(checkpoints, count_step, out);
    if (status != SWT_OK)
        out->count = 0;
    return status;
}

swt_status swt_checkpoints_init(swt_checkpoints *out, const char *run_path, int64_t last_step) {
    char folder[SWT_PATH_BYTES], file[SWT_PATH_BYTES];
    *out = (swt_checkpoints){.spared = -1};
    SWT_TRY(swt_path_join(out->path, run_path, folder_name));
    SWT_TRY(step_path(folder, out->path, ".", last_step, ".old99"));
    return swt_path_join(file, folder, SWT_WEIGHTS_FILE);
}

/* ---- tidying up */

static void keep_first(swt_checkpoints *c, swt_status status) {
    if (status != SWT_OK && c->untidy.status == SWT_OK)
        c->untidy = *swt_last_error();
}

static swt_status remove_leftover(void *context, const char *folder, const char *name) {
    if (strncmp(name, hidden_prefix, strlen(hidden_prefix)) == 0)
        keep_first(context, swt_folder_remove(folder, name));
    return SWT_OK;
}

/* Hide a published checkpoint, or what is left in the way of a new one, under a name with .old:
 * the first that is free, where a leftover cannot be removed. */
static swt_status set_aside(const swt_checkpoints *c, const char *prefix, int64_t step,
                            char name[NAME_BYTES]) {
    char from[SWT_PATH_BYTES], to[SWT_PATH_BYTES], suffix[16] = ".old";
    swt_path_kind kind = SWT_PATH_OTHER;
    SWT_TRY(step_path(from, c->path, prefix, step, ""));
    for (int i = 1; kind != SWT_PATH_NONE && i < SET_ASIDE_MOST; i++) {
        step_name(name, ".", step, suffix);
        SWT_TRY(swt_path_join(to, c->path, name));
        SWT_TRY(swt_path_look(&kind, to, false));
        snprintf(suffix, sizeof suffix, ".old%d", i);
    }
    return swt_path_rename(from, to);
}

/* A published checkpoint is hidden before anything in it is removed, so that a kill leaves no half
 * one. */
static swt_status remove_step(const swt_checkpoints *c, int64_t step) {
    char name[NAME_BYTES];
    SWT_TRY(set_aside(c, "", step, name));
    return swt_folder_remove(c->path, name);
}

void swt_checkpoints_prune(swt_checkpoints *c, int64_t keep) {
    step_range range;
    if (keep == 0)
        return;
    keep_first(c, find_published(&range, c->path, 0, INT64_MAX));
    for (int64_t excess = range.count - keep; excess > 0 && range.count > 0; excess--) {
        if (range.oldest != c->spared)
            keep_first(c, remove_step(c, range.oldest));
        keep_first(c, find_published(&range, c->path, range.oldest + 1, INT64_MAX));
    }
}

int64_t swt_checkpoints_drop(swt_checkpoints *c, int64_t keep) {
    step_range range;
    swt_status status = find_published(&range, c->path, 0, INT64_MAX);
    if (status == SWT_OK && range.count > 0 && range.oldest == c->spared)
        status = find_published(&range, c->path, range.oldest + 1, INT64_MAX);
    const bool drops = keep > 0 && range.count > 1;
    if (drops)
        status = remove_step(c, range.oldest);
    keep_first(c, status);
    return drops && status == SWT_OK ? range.oldest : -1;
}

void swt_checkpoints_discard(swt_checkpoints *c, int64_t step) {
    char name[NAME_BYTES];
    step_name(name, ".", step, "");
    keep_first(c, swt_folder_remove(c->path, name));
}

/* ---- publication */

/* checkpoints/, made if it is not there. */
static swt_status make_folder(const swt_checkpoints *c) {
    swt_path_kind kind = SWT_PATH_NONE;
    char run_path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_look(&kind, c->path, true));
    if (kind == SWT_PATH_FOLDER)
        return SWT_OK;
    SWT_TRY(swt_folder_make(c->path));
    snprintf(run_path, sizeof run_path, "%.*s", (int)(strrchr(c->path, '/') - c->path), c->path);
    return swt_path_sync(run_path);
}

swt_status swt_checkpoints_begin(swt_checkpoints *c, int64_t step, char folder[SWT_PATH_BYTES]) {
    char aside[NAME_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(make_folder(c));
    SWT_TRY(step_path(folder, c->path, ".", step, ""));
    keep_first(c, swt_folder_walk(c->path, remove_leftover, c));
    SWT_TRY(swt_path_look(&kind, folder, false));
    if (kind != SWT_PATH_NONE)
        SWT_TRY(set_aside(c, ".", step, aside));
    return swt_folder_make(folder);
}

swt_status swt_checkpoints_publish(swt_checkpoints *c, int64_t step,
                                   char published[SWT_PATH_BYTES]) {
    char hidden[SWT_PATH_BYTES], old[SWT_PATH_BYTES], replaced[NAME_BYTES] = "";
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(step_path(hidden, c->path, ".", step, ""));
    SWT_TRY(step_path(published, c->path, "", step, ""));
    SWT_TRY(swt_folder_sync(hidden));
    SWT_TRY(swt_path_look(&kind, published, false));
    if (kind != SWT_PATH_NONE) /* the same step again: rename(2) replaces no full folder */
        SWT_TRY(set_aside(c, "", step, replaced));
    const swt_status status = swt_path_rename(hidden, published);
    if (status != SWT_OK) {
        /* The one that was there comes back. */
        const swt_error why = *swt_last_error();
        if (replaced[0] != '\0' && swt_path_join(old, c->path, replaced) == SWT_OK)
            keep_first(c, swt_path_rename(old, published));
        *swt_last_error() = why;
        return status;
    }
    SWT_TRY(swt_path_sync(c->path));
    if (replaced[0] != '\0')
        keep_first(c, swt_folder_remove(c->path, replaced));
    return SWT_OK;
}

/* ---- finding */

/* *found = whether the folder holds weights: a manifest, which says where, or a file of them. */
static swt_status has_weights(const char *folder, bool *found) {
    static const char *const names[] = {SWT_MANIFEST_FILE, SWT_WEIGHTS_FILE};
    *found = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !*found; i++) {
        char path[SWT_PATH_BYTES];
        swt_path_kind kind = SWT_PATH_NONE;
        SWT_TRY(swt_path_join(path, folder, names[i]));
        SWT_TRY(swt_path_look(&kind, path, true));
        *found = kind == SWT_PATH_FILE;
    }
    return SWT_OK;
}

swt_status swt_checkpoints_newest(const swt_checkpoints *c, int64_t below, int64_t *step,
                                  char folder[SWT_PATH_BYTES]) {
    step_range range;
    swt_path_kind kind = SWT_PATH_NONE;
    *step = -1;
    SWT_TRY(swt_path_look(&kind, c->path, true));
    if (kind == SWT_PATH_NONE)
        return SWT_OK;
    SWT_TRY(find_published(&range, c->path, 0, below));
    if (range.count == 0)
        return SWT_OK;
    *step = range.newest;
    return step_path(folder, c->path, "", range.newest, "");
}

/* The newest published checkpoint with weights; *found = false where there is none. */
static swt_status find_newest(char out[SWT_PATH_BYTES], const char *checkpoints, bool *found) {
    step_range range;
    SWT_TRY(find_published(&range, checkpoints, 0, INT64_MAX));
    while (range.count > 0 && !*found) {
        SWT_TRY(step_path(out, checkpoints, "", range.newest, ""));
        SWT_TRY(has_weights(out, found));
        SWT_TRY(find_published(&range, checkpoints, 0, range.newest));
    }
    return SWT_OK;
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
    SWT_TRY(swt_path_join(checkpoints, dir, folder_name));
    SWT_TRY(swt_path_look(&kind, checkpoints, true));
    if (kind == SWT_PATH_FOLDER)
        SWT_TRY(find_newest(out, checkpoints, &found));
    if (!found)
        return SWT_FAIL(CHECKPOINT,
                        "%s: holds no checkpoint; a folder with %s, or a run with one in "
                        "checkpoints/, is needed",
                        dir, SWT_WEIGHTS_FILE);
    return SWT_OK;
}

swt_status swt_checkpoint_find(char out[SWT_PATH_BYTES], const char *dir) {
    const swt_status status = find_checkpoint(out, dir);
    if (status != SWT_FILE)
        return status;
    /* What the file helpers report as FILE is about a checkpoint here. */
    swt_last_error()->status = SWT_CHECKPOINT;
    return SWT_CHECKPOINT;
}
