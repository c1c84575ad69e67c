/* A run that ends before its last step. */
#include "train/loop.h"

#include <stdio.h>

/* The step whose weights are worth keeping when a run ends so; -1: none, or they cannot be written.
 * Of other errors nobody knows where each rank stands. A step that was stopped has changed
 * nothing, and neither have those that a device made after it. */
static int64_t step_to_keep(const swt_loop *r, swt_status why) {
    const bool between = why == SWT_INTERRUPTED || why == SWT_NUMBERS || why == SWT_FILE;
    const int64_t step = r->state.nonfinite == SWT_STEP_STOPPED ? r->state.step - 1 : r->step;
    const bool good = swt_last_error()->agreed && !r->untrusted && !r->saver.failed;
    return between && good ? step : -1;
}

/* The message of the end, and what became of the weights. An interruption that has not written them
 * is the error that kept it from that. */
static swt_status retell(const swt_loop *r, const swt_error *why, int64_t kept,
                         const swt_error *failed) {
    char what[256], weights[512];
    const bool asked = why->status == SWT_INTERRUPTED;
    snprintf(what, sizeof what, "step %lld of %lld: interrupted", (long long)r->step,
             (long long)r->s->options->train_steps);
    if (kept >= 0)
        snprintf(weights, sizeof weights, "the weights of step %lld are in %.200s; %s %.200s",
                 (long long)kept, r->run.path,
                 why->status == SWT_NUMBERS ? "start from them otherwise with --init-from"
                                            : "go on with --run.resume auto --out",
                 r->run.path);
    else
        snprintf(weights, sizeof weights, "no weights written: %.400s", failed->message);
    const swt_status status =
        swt_fail(asked && kept < 0 ? failed->status : why->status, why->file, why->line,
                 "%.480s; %s", asked ? what : why->message, weights);
    swt_last_error()->agreed = why->agreed;
    swt_last_error()->silent = why->silent;
    return status;
}

/* Steps that are queued on a device come first: one of them may have failed. */
static swt_status settle(swt_loop *r, swt_status status) {
    const swt_error why = *swt_last_error();
    if (status != SWT_INTERRUPTED)
        return status;
    SWT_TRY(swt_loop_look(r));
    *swt_last_error() = why;
    return status;
}

/* A failure or a signal may have come between what the step has made and its row and line: they are
 * tried once more. Weights are kept without those that no file takes. Errors: NUMBERS where ranks
 * differ. */
static swt_status write_rest(swt_loop *r, int64_t step) {
    swt_comm *world = r->s->world;
    swt_status status = swt_comm_agree(world, r->first ? swt_run_write_row(&r->run) : SWT_OK);
    if (status == SWT_OK && step == r->step)
        status = swt_loop_record(r);
    if (status == SWT_OK)
        status = swt_record_write(&r->record, r->s, &r->run, step);
    if (status != SWT_FILE)
        return status;
    if (r->first)
        swt_run_say(&r->run, "warning: %s; the rows of step %lld are not complete",
                    swt_last_error()->message, (long long)step);
    return SWT_OK;
}

/* The checkpoint that is being written: what becomes of it is told beside why the run ends, and the
 * weights of now are tried nevertheless. Fails where the ranks agree no more. */
static swt_status end_under_way(swt_loop *r) {
    const swt_error why = *swt_last_error();
    if (!why.agreed || !r->saver.under_way)
        return SWT_OK;
    const swt_status status = swt_checkpoint_end(r->s, &r->run, &r->saver);
    if (status != SWT_OK && !swt_last_error()->agreed)
        return status;
    if (status != SWT_OK && r->first)
        swt_run_say(&r->run, "warning: %s", swt_last_error()->message);
    r->saver.failed = false;
    *swt_last_error() = why;
    return SWT_OK;
}

swt_status swt_loop_end_early(swt_loop *r, swt_status status) {
    status = settle(r, status);
    SWT_TRY(end_under_way(r));
    const swt_error why = *swt_last_error();
    const int64_t step = step_to_keep(r, status);
    if (step >= 0) {
        const bool saved = r->saver.saved_step == step || (write_rest(r, step) == SWT_OK &&
                                                           swt_loop_save(r, step, true) == SWT_OK);
        const swt_error failed = *swt_last_error();
        if (!saved && !failed.agreed)
            return failed.status;
        status = retell(r, &why, saved ? step : -1, &failed);
    }
    if (r->first)
        swt_run_log(&r->run, "error: %s", swt_last_error()->message);
    else if (!swt_last_error()->agreed)
        swt_run_log_end(&r->run, r->s->world->rank, swt_last_error()->message);
    return status;
}
