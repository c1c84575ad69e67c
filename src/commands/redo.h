/* Doing again what a run did, on whatever ranks, threads and processor this program has, and
 * comparing with the run's ledger on the way: for audit and replay. All are collective. */
#ifndef SWT_COMMANDS_REDO_H
#define SWT_COMMANDS_REDO_H

#include "state/ledger.h"
#include "train/session.h"

typedef struct swt_redo {
    swt_session *s;
    swt_ledger ledger; /* the run's, the same on every rank */
    swt_digest digest;
    uint16_t *marks; /* (ledger.marks) room */
    double *rows;    /* of swt_report_alloc */
    int64_t step;    /* updates that the model has done; -1: it holds nothing */
    int64_t steps;   /* updates done again so far, all in all */
    int64_t lines;   /* lines of the ledger that were compared */
} swt_redo;

/* Read the ledger of the run --folder, its text, and open its model, with nothing in it yet.
 * Errors: CHECKPOINT where the ledger is none, its rows are not those of metrics.jsonl, or
 * configuration or text are not those of the run; what the session's functions return. */
SWT_MUST_CHECK swt_status swt_redo_open(swt_redo *out, swt_session *s);
void swt_redo_close(swt_redo *r);

/* Bring the model to where it was after `step` updates: from where it is, unless the run has a
 * newer checkpoint of at most `start_most` steps that verifies, or else from the run's beginning.
 * Every line of the ledger on the way is compared, those of the starting points, too. Errors:
 * DIFFERENT, naming the step and what of it is the first that differs: the batch, the loss, or a
 * tensor. */
SWT_MUST_CHECK swt_status swt_redo_to(swt_redo *r, int64_t step, int64_t start_most);

#endif
