/* Going on from a run's newest checkpoint (run.resume auto). */
#ifndef SWT_TRAIN_RESUME_H
#define SWT_TRAIN_RESUME_H

#include "state/load.h"
#include "train/rundir.h"
#include "train/session.h"

/* Collective. Where run.resume asks for it and run.out is a folder: rank 0 takes its lock and finds
 * the newest checkpoint that verifies, and every rank opens it: out->listed says whether there is
 * one. Errors: USAGE where another run writes there, or where an option may not differ so;
 * CHECKPOINT where no checkpoint verifies. */
SWT_MUST_CHECK swt_status swt_resume_open(swt_session *s, swt_run *run, swt_checkpoint *out);

/* Collective: new weights, those of the checkpoint `from` (NULL: none), or the state that this run
 * goes on from, where it is listed. */
SWT_MUST_CHECK swt_status swt_start_weights(swt_session *s, const swt_checkpoint *resumed,
                                            const char *from);

/* Rank 0: create the run's folder, or open the one that is there to write behind the checkpoint's
 * step, and say which. Errors: CHECKPOINT, with nothing changed, where ledger and rows up to that
 * step are not those that the checkpoint's manifest knows; those of swt_run_create, _reopen. */
SWT_MUST_CHECK swt_status swt_resume_run(swt_session *s, swt_run *run, const swt_checkpoint *c);

#endif
