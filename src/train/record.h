/* What a run writes into its ledger (state/ledger.h), and the comparison of what several ranks
 * hold. All are collective. */
#ifndef SWT_TRAIN_RECORD_H
#define SWT_TRAIN_RECORD_H

#include "state/ledger.h"
#include "state/manifest.h"
#include "train/report.h"
#include "train/rundir.h"
#include "train/session.h"

typedef struct swt_record {
    swt_digest digest;
    swt_ledger_line line; /* the last; its chain goes on */
    char *text;           /* room for a line's, owned */
    int64_t written_step; /* what the ledger ends with */
} swt_record;

/* Local: room. Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_record_init(swt_record *out, const swt_session *s);
void swt_record_fini(swt_record *r);

/* The line of step 0 into a new ledger; or, in a run that goes on, the chain is taken up where the
 * checkpoint's run had left it. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_record_open(swt_record *r, swt_session *s, swt_run *run,
                                          const swt_manifest *resumed);

/* Whether a step is hashed: for the ledger, or to compare ranks. */
bool swt_record_due(const swt_session *s, int64_t step);

/* A step that is done. */
typedef struct swt_record_step {
    int64_t step;
    const swt_report *report; /* its numbers, NULL where they are to be gathered from: */
    double *rows;             /* of swt_report_alloc */
    int64_t targets;
} swt_record_step;

/* Hash the step, if that is due, before anything else is done to model and batch. Errors: NUMBERS
 * where ranks differ. */
SWT_MUST_CHECK swt_status swt_record_take(swt_record *r, swt_session *s,
                                          const swt_record_step *step);

/* Once all rows of the step are written: its line, where the ledger lists it, the step was taken
 * and the line is not there yet. Errors: FILE; it may be tried again. */
SWT_MUST_CHECK swt_status swt_record_write(swt_record *r, swt_session *s, swt_run *run,
                                           int64_t step);

#endif
