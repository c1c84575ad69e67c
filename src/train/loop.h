/* Inside the train command: the state of a run, and its beginning, its course and its end, which
 * are a file each: loop_start.c, loop.c, loop_end.c. */
#ifndef SWT_TRAIN_LOOP_H
#define SWT_TRAIN_LOOP_H

#include "state/load.h"
#include "train/checkpoint.h"
#include "train/limit.h"
#include "train/record.h"
#include "train/report.h"
#include "train/rundir.h"
#include "train/session.h"
#include "train/stop.h"

/* The state of a run beside the session's. */
typedef struct swt_loop {
    swt_session *s;
    swt_run run;           /* rank 0's; closed elsewhere */
    bool first;            /* rank 0: writes and speaks */
    double *rows;          /* of swt_report_alloc */
    double *eval_rows;     /* of swt_eval_alloc */
    swt_report report;     /* of the last row */
    swt_step_state state;  /* after the last step */
    swt_record record;     /* the ledger's */
    int64_t step;          /* updates done */
    int64_t row_step;      /* at the last row */
    int64_t first_step;    /* updates done when this program began */
    int64_t first_skipped; /* of those, left out */
    int64_t told_skipped;  /* of those left out since, told */
    double steps_ms;       /* time of the steps since the last row */
    double comm_ms;        /* of that, communication */
    double shown_ms;       /* when the live line was last drawn */
    double recent_step_ms; /* a step since the last row, or in the row's interval */
    double eval_start_ms;
    double eval_ms;                 /* the last evaluation; 0: there was none yet */
    swt_saver saver;                /* of checkpoints */
    bool untrusted;                 /* ranks hold what differs: no weights are worth keeping */
    int64_t evaluated_step;         /* of the last evaluation; -1: none */
    double valid_loss;              /* its result */
    swt_pace turns, steps;          /* when they look for a signal */
    swt_limit limit;                /* what has to fit into run.max_seconds */
    int32_t prompt[SWT_TEXT_BYTES]; /* of samples; read where there are some */
    int64_t prompt_count;
} swt_loop;

/* Collective: open all that a run needs, new or going on from *resumed, which the caller closes. */
SWT_MUST_CHECK swt_status swt_loop_start(swt_loop *r, swt_checkpoint *resumed);

/* Collective: read what the steps so far did, and tell of those that were left out. Errors: NUMBERS
 * where one of them ends the run. */
SWT_MUST_CHECK swt_status swt_loop_look(swt_loop *r);

/* Collective: hashes of the step that was just done (swt_record_take). Errors: NUMBERS where ranks
 * differ: nobody knows which weights are good, and no checkpoint of the step will be tried. */
SWT_MUST_CHECK swt_status swt_loop_record(swt_loop *r);

/* Collective: a checkpoint of the step that the model has done. `whole`: it is published before
 * this returns. */
SWT_MUST_CHECK swt_status swt_loop_save(swt_loop *r, int64_t step, bool whole);

/* Collective, where the ranks still agree: a run ends before its last step. Weights that are good
 * are written, and the message says what became of them. Returns the status to end with. */
SWT_MUST_CHECK swt_status swt_loop_end_early(swt_loop *r, swt_status status);

#endif
