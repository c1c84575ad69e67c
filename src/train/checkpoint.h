/* A run's checkpoints: written into its folder, published, and older ones removed. */
#ifndef SWT_TRAIN_CHECKPOINT_H
#define SWT_TRAIN_CHECKPOINT_H

#include "train/rundir.h"
#include "train/session.h"

/* What a checkpoint is of, beside the session. */
typedef struct swt_checkpoint_facts {
    int64_t step;             /* updates done */
    int64_t skipped;          /* of those, left out */
    const double *valid_loss; /* of this step; NULL where it was not evaluated */
    uint64_t ledger;          /* chain of the ledger's last line */
} swt_checkpoint_facts;

/* Collective: write checkpoints/step-NNNNNNNN of the run (rank 0's `run`; the others' path is
 * theirs for messages) and publish it: weights, moments, configuration, vocabulary, manifest; the
 * log gets the weights' hash. The run's rows and ledger reach the disk before it does. On a full
 * disk the oldest checkpoint that may go makes room for a second attempt. Errors: FILE, on every
 * rank; nothing half-written stays. */
SWT_MUST_CHECK swt_status swt_checkpoint_write(swt_session *s, swt_run *run,
                                               const swt_checkpoint_facts *facts);

/* Rank 0, before the first step: warn where the disk has less room than the run needs. */
void swt_checkpoint_check_room(swt_session *s, swt_run *run);

#endif
