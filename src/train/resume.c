#include "train/resume.h"

#include "io/files.h"
#include "state/ledger.h"
#include "state/resume.h"

#include <inttypes.h>
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

/* The ledger up to the checkpoint's step is the one that the checkpoint's run had, and the rows are
 * those that it saw. */
static swt_status check_ledger(const swt_run *run, const swt_manifest *m) {
    char path[SWT_PATH_BYTES];
    swt_ledger l;
    SWT_TRY(swt_path_join(path, run->path, SWT_LEDGER_FILE));
    SWT_TRY(swt_ledger_read_up_to(&l, path, m->step));
    const swt_ledger_line *last = &l.lines[l.count - 1];
    swt_status status = SWT_OK;
    if (last->chain != m->ledger)
        status = SWT_FAIL(CHECKPOINT,
                          "%s: up to step %" PRId64 " its last line (step %" PRId64
                          ") has the hash %016" PRIx64 ", but %016" PRIx64
                          " in the checkpoint; put the run's own file back",
                          path, m->step, last->step, last->chain, m->ledger);
    if (status == SWT_OK)
        status = swt_path_join(path, run->path, SWT_METRICS_FILE);
    if (status == SWT_OK)
        status = swt_ledger_check_rows(&l, path);
    swt_ledger_fini(&l);
    return status;
}

/* What does not fit is refused before anything is cut. */
swt_status swt_resume_run(swt_session *s, swt_run *run, const swt_checkpoint *c) {
    if (run->lock <= 0) /* nothing was there, or nothing was to be gone on from */
        return swt_run_create(run, s->options);
    if (c->listed)
        SWT_TRY(check_ledger(run, &c->manifest));
    SWT_TRY(swt_run_reopen(run, s->options, c->listed ? c->manifest.step : -1));
    if (c->listed)
        swt_run_say(run, "resume: %lld step%s done, from %s", (long long)c->manifest.step,
                    swt_plural(c->manifest.step), c->folder);
    else
        swt_run_say(run, "resume: %s holds no checkpoint; training starts at step 0", run->path);
    return SWT_OK;
}
