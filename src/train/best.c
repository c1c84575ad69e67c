/* RUN/best, a link to the published checkpoint with the lowest valid_loss (train.keep_best). */
#include "io/files.h"
#include "state/manifest.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const link_name = "best", *const hidden_name = ".best";

/* One of the checkpoints that are there. What cannot be read is no candidate. */
static swt_status consider(swt_saver *saver, const char *folder) {
    char path[SWT_PATH_BYTES];
    swt_manifest m;
    SWT_TRY(swt_path_join(path, folder, SWT_MANIFEST_FILE));
    swt_status status = swt_manifest_read(&m, path);
    if (status == SWT_OK)
        status = swt_manifest_check_files(&m, folder);
    if (status == SWT_OK && m.evaluated &&
        (saver->best_step < 0 || m.valid_loss <= saver->best_loss)) {
        saver->best_step = m.step;
        saver->best_loss = m.valid_loss;
    }
    swt_manifest_fini(&m);
    return status == SWT_CHECKPOINT ? SWT_OK : status;
}

swt_status swt_best_find(swt_run *run, const swt_options *o, swt_saver *saver) {
    char folder[SWT_PATH_BYTES], link[SWT_PATH_BYTES];
    int64_t step = saver->saved_step + 1;
    while (o->train_keep_best && step >= 0) {
        SWT_TRY(swt_checkpoints_newest(&run->checkpoints, step, &step, folder));
        if (step >= 0)
            SWT_TRY(consider(saver, folder));
    }
    run->checkpoints.spared = saver->best_step;
    if (saver->best_step >= 0)
        return swt_best_mark(run, saver->best_step);
    SWT_TRY(swt_path_join(link, run->path, link_name));
    return swt_file_remove(link);
}

swt_status swt_best_mark(swt_run *run, int64_t step) {
    char link[SWT_PATH_BYTES], hidden[SWT_PATH_BYTES], target[64];
    SWT_TRY(swt_path_join(link, run->path, link_name));
    SWT_TRY(swt_path_join(hidden, run->path, hidden_name));
    SWT_TRY(swt_file_remove(hidden)); /* of a run that was killed here */
    snprintf(target, sizeof target, "checkpoints/step-%08" PRId64, step);
    if (symlink(target, hidden) != 0)
        return swt_path_uncreated(hidden, errno);
    SWT_TRY(swt_path_rename(hidden, link));
    return swt_path_sync(run->path);
}
