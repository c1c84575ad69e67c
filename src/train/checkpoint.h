/* A run's checkpoints: written into its folder, published, and older ones removed. */
#ifndef SWT_TRAIN_CHECKPOINT_H
#define SWT_TRAIN_CHECKPOINT_H

#include "state/save.h"
#include "train/rundir.h"
#include "train/session.h"

/* What a checkpoint is of, beside the session. */
typedef struct swt_checkpoint_facts {
    int64_t step;             /* updates done */
    int64_t skipped;          /* of those, left out */
    const double *valid_loss; /* of this step; NULL where it was not evaluated */
    uint64_t ledger;          /* chain of the ledger's last line */
} swt_checkpoint_facts;

/* A run's checkpoints, one after the other. */
typedef struct swt_saver {
    swt_save save;      /* the one under way */
    bool under_way;     /* there is one */
    bool slow_said;     /* one was waited for */
    bool failed;        /* the last could not be written */
    double begin_ms;    /* when the last was begun */
    double took_ms;     /* from there to the publication of the last that was; 0: none yet */
    int64_t saved_step; /* of the last that was published; -1: none */
    int64_t best_step;  /* of RUN/best, on rank 0; -1: none */
    double best_loss;   /* its valid_loss */
} swt_saver;

/* Collective: write checkpoints/step-NNNNNNNN of the run (rank 0's `run`): weights, moments,
 * configuration, vocabulary, manifest. They are copied, and written beside the next steps; `whole`,
 * and without train.async_checkpoints, all is done before this returns. One that is still under way
 * is waited for. The run's rows and ledger reach the disk before it begins. Errors: FILE, NUMBERS,
 * on every rank; nothing half-written stays. */
SWT_MUST_CHECK swt_status swt_checkpoint_write(swt_session *s, swt_run *run, swt_saver *saver,
                                               const swt_checkpoint_facts *facts, bool whole);

/* Collective, now and then: publish the one under way if all ranks have written it; the log gets
 * the weights' hash. On a full disk the oldest checkpoint that may go makes room for a second
 * attempt. Errors: FILE, on every rank. */
SWT_MUST_CHECK swt_status swt_checkpoint_look(swt_session *s, swt_run *run, swt_saver *saver);

/* Collective: the same of one that may have to be waited for. */
SWT_MUST_CHECK swt_status swt_checkpoint_end(swt_session *s, swt_run *run, swt_saver *saver);

/* Rank 0 of a run that goes on: with train.keep_best find the best of the checkpoints up to the one
 * it goes on from, of equal ones the oldest, and have RUN/best lead to it; there is no RUN/best
 * where there is none, or where it is not to be kept. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_best_find(swt_run *run, const swt_options *o, swt_saver *saver);

/* Rank 0: the published checkpoint of this step is the best: the link RUN/best leads to it, at
 * once. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_best_mark(swt_run *run, int64_t step);

/* Rank 0, before the first step: warn where the disk has less room than the run needs. */
void swt_checkpoint_check_room(swt_session *s, swt_run *run);

#endif
