/* A run's checkpoints: written into its folder, published, and older ones removed. */
#ifndef SWT_TRAIN_CHECKPOINT_H
#define SWT_TRAIN_CHECKPOINT_H

#include "train/rundir.h"
#include "train/session.h"

/* Collective: write checkpoints/step-NNNNNNNN of the run (rank 0's `run`; the others' path is
 * theirs for messages) and publish it: weights, moments, configuration, vocabulary, manifest; the
 * log gets the weights' hash. valid_loss is that of this step, NULL where it was not evaluated. On
 * a full disk the oldest checkpoint that may go makes room for a second attempt. Errors: FILE, on
 * every rank; nothing half-written stays. */
SWT_MUST_CHECK swt_status swt_checkpoint_write(swt_session *s, swt_run *run, int64_t step,
                                               const double *valid_loss);

/* Rank 0, before the first step: warn where the disk has less room than the run needs. */
void swt_checkpoint_check_room(swt_session *s, swt_run *run);

#endif
