/* Which checkpoint a run goes on from, and whether it may. */
#ifndef SWT_STATE_RESUME_H
#define SWT_STATE_RESUME_H

#include "io/checkpoint_dir.h"
#include "options/options.h"
#include "state/load.h"

/* The newest published checkpoint of a run that verifies wholly, to its last byte; `folder` is ""
 * where the run has none at all. Warns of each newer one that does not, and why. Local, for rank 0.
 * Errors: CHECKPOINT where there are some and none verifies. */
SWT_MUST_CHECK swt_status swt_resume_newest(const swt_checkpoints *c, char folder[SWT_PATH_BYTES],
                                            swt_warnings *skipped);

/* A run with these options may go on from the checkpoint (swt_options_check_resume). Errors: USAGE.
 */
SWT_MUST_CHECK swt_status swt_resume_check_options(const swt_checkpoint *c, const swt_options *o);

/* The texts are those that the checkpoint's run read, by the hashes of their tokens. Errors: FILE.
 */
SWT_MUST_CHECK swt_status swt_resume_check_text(const swt_checkpoint *c, const swt_options *o,
                                                uint64_t train_hash, uint64_t valid_hash);

#endif
