#include "train/resume.h"

#include "io/files.h"
#include "state/resume.h"

#include <stdio.h>

/* Rank 0: "" where there is nothing to go on from. */
static swt_status find(swt_session *s, swt_run *run, char folder[SWT_PATH_BYTES]) {
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(swt_run_name(run, s->options));
    SWT_TRY(swt_path_look(&kind, run->path, true));
    if (kind != SWT_PATH_FOLDER)
        return SWT_OK;
    SWT_TRY(swt_run_lock(run));
    return swt_resume_newest(&run->checkpoints, folder, &s->warnings);
}

swt_status swt_resume_open(swt_session *s, swt_run *run, swt_checkpoint *out) {
    char folder[SWT_PATH_BYTES] = "";
    *out = (swt_checkpoint){.listed = false};
    if (s->options->run_resume == SWT_RESUME_OFF)
        return SWT_OK;
    SWT_TRY(swt_comm_agree(s->world, s->world->rank == 0 ? find(s, run, folder) : SWT_OK));
    SWT_TRY(swt_comm_broadcast(s->world, folder, sizeof folder, 0, NULL));
    if (folder[0] == '\0')
        return SWT_OK;
    swt_status status = swt_checkpoint_open(out, folder);
    if (status == SWT_OK && !out->listed) /* on another machine than rank 0's, say */
        status =
            SWT_FAIL(CHECKPOINT, "%s: has no %s here; see that every rank reads the same folder",
                     folder, SWT_MANIFEST_FILE);
    if (status == SWT_OK)
        status = swt_resume_check_options(out, s->options);
    return swt_comm_agree(s->world, status);
}

swt_status swt_start_weights(swt_session *s, const swt_checkpoint *resumed, const char *from) {
    const swt_options *o = s->options;
    swt_checkpoint c;
    if (resumed->listed)
        return swt_checkpoint_restore(resumed, &s->model, (uint64_t)o->train_seed);
    if (from == NULL)
        return swt_comm_agree(s->world,
                              swt_model_init_values(&s->model, (swt_init)o->model_init,
                                                    o->model_init_scale, (uint64_t)o->train_seed));
    swt_status status = swt_comm_agree(s->world, swt_checkpoint_open(&c, from));
    if (status == SWT_OK)
        status = swt_checkpoint_load_weights(&c, &s->model, &s->warnings);
    swt_checkpoint_close(&c);
    return status;
}

swt_status swt_resume_run(swt_session *s, swt_run *run, const swt_checkpoint *c) {
    if (run->lock <= 0) /* nothing was there, or nothing was to be gone on from */
        return swt_run_create(run, s->options);
    SWT_TRY(swt_run_reopen(run, s->options, c->listed ? c->manifest.step : -1));
    if (c->listed)
        swt_run_say(run, "resume: %lld step%s done, from %s", (long long)c->manifest.step,
                    swt_plural(c->manifest.step), c->folder);
    else
        swt_run_say(run, "resume: %s holds no checkpoint; training starts at step 0", run->path);
    return SWT_OK;
}
