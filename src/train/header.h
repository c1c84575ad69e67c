/* What a run says of itself at its start. */
#ifndef SWT_TRAIN_HEADER_H
#define SWT_TRAIN_HEADER_H

#include "train/rundir.h"
#include "train/session.h"

/* Say where the run works, on what text, with which model, and what is likely not meant (rank 0).
 * The session's model is open and the run created. */
void swt_header_say(swt_run *run, const swt_session *s);

#endif
