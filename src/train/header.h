/* What a run says of itself at its start, and what is likely not meant. */
#ifndef SWT_TRAIN_HEADER_H
#define SWT_TRAIN_HEADER_H

#include "train/rundir.h"
#include "train/session.h"

/* Say where the run works, on what text, with which model and rates, and what is likely not meant
 * (rank 0). The session's model is open and the run created. */
void swt_header_say(swt_run *run, swt_session *s);

/* The same warnings on the session's err, for a command without a run (rank 0). */
void swt_header_warn(const swt_session *s);

/* Warn where no expert has a slot, in training or in evaluation. */
void swt_header_warn_of_no_room(swt_warnings *w, const swt_dims *d, bool training);

#endif
