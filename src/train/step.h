/* One optimiser step: the batch's gradients, their exact sum over ranks, the clipped update.
 *
 *     swt_step_begin
 *     swt_step_gradients:  for each turn the pass of swt_step_pass, forward, loss, backward
 *     swt_step_reduce
 *     swt_step_update
 *
 * All are collective over all ranks. None needs the host: they queue work and return, and what
 * changes from step to step is in the step state and the batch. So a device can be given a step as
 * one graph, again and again. */
#ifndef SWT_TRAIN_STEP_H
#define SWT_TRAIN_STEP_H

#include "io/data.h"
#include "model/model.h"
#include "options/options.h"

/* swt_update_rule.skips_most of run.nonfinite skip, whose help tells it. A batch that is bad, or
 * two, are passed over; weights that make every gradient bad are not trained on. */
enum { SWT_SKIPS_MOST = 10 };

/* How parameters are updated; constant over a run. */
typedef struct swt_update_rule {
    swt_optim_name name;
    swt_schedule schedule;
    swt_adam_hyper adam;
    swt_adafactor_hyper adafactor;
    double clip_norm;   /* 0 = no clipping */
    int64_t skips_most; /* steps in a row that are left out for a bad gradient; the next one ends
                           the run */
    /* Asked after each turn; NULL: not. An error leaves the parameters as they were. */
    swt_status (*look)(void *context);
    void *look_context;
} swt_update_rule;

swt_update_rule swt_update_from_options(const swt_options *o);

/* Wait until the host's batch (model.host_tokens, ...) may be written: the copies of the last
 * swt_step_upload are done. The work that was queued behind them goes on. Local. */
SWT_MUST_CHECK swt_status swt_step_await_batch(swt_model *m);

/* The host's batch becomes zeros. */
void swt_step_clear_batch(swt_model *m);

/* Where a window of a text goes in the host's batch, as its sequence number `row`. */
swt_window swt_step_row(const swt_model *m, int64_t row);

/* After that: the first `filled` of its targets are text, and what the encoder reads where any is.
 * What is not becomes token 0 without a target, and takes no part in routing. A text has no
 * padding, whatever token model.pad_id is. */
void swt_step_end_row(swt_model *m, int64_t row, int64_t filled);

/* Copy the first `turns` micro-batches of the host's batch to the device. Local. */
SWT_MUST_CHECK swt_status swt_step_upload(swt_model *m, int64_t turns);

/* Begin update t: schedule, bias corrections, and the number of real targets of the global batch.
 */
SWT_MUST_CHECK swt_status swt_step_begin(swt_model *m, const swt_update_rule *u);

/* The training pass of a turn; an empty one where this rank has no micro-batch left. */
swt_pass swt_step_pass(const swt_model *m, int64_t turn);

/* Forward, loss and backward of every turn. */
SWT_MUST_CHECK swt_status swt_step_gradients(swt_model *m, const swt_update_rule *u);

/* After it model.grad is the gradient of the global batch on every rank that holds the tensor.
 * Integer sums for M > 1; for M = 1 the gradients of the only micro-batch, which rank 0's group
 * has, are copied. Then the global norm over every parameter once, the clip factor, and what
 * becomes of the step (swt_step_state.nonfinite), the same on all ranks, are in the step state. */
SWT_MUST_CHECK swt_status swt_step_reduce(swt_model *m, const swt_update_rule *u);

/* The optimiser, with the clip factor. Local. Where the gradient was not finite nothing changes. */
SWT_MUST_CHECK swt_status swt_step_update(swt_model *m, const swt_update_rule *u);

/* The batch on the device makes one step. */
SWT_MUST_CHECK swt_status swt_step(swt_model *m, const swt_update_rule *u);

/* Read the step state back after a reduction (waits for the device). Errors: NUMBERS, on every rank
 * alike, if a gradient was not finite and its step could not be left out. */
SWT_MUST_CHECK swt_status swt_step_state_read(swt_model *m, swt_step_state *out);

#endif
