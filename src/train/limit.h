/* run.max_seconds: a run that ends in time, with a checkpoint. */
#ifndef SWT_TRAIN_LIMIT_H
#define SWT_TRAIN_LIMIT_H

#include "train/checkpoint.h"

/* What has to fit: the longest step and evaluation so far, and a checkpoint where none was written
 * yet. */
typedef struct swt_limit {
    double end_ms; /* when the run must have ended; 0: no limit */
    double step_ms, eval_ms, save_ms;
} swt_limit;

/* Before step 1 a checkpoint is taken to need a second, and one more for each 50 MB of this rank's
 * weights and moments. */
void swt_limit_open(swt_limit *limit, const swt_session *s);

/* It took so long this time. */
void swt_limit_note(double *most_ms, double ms);

/* After `step`, before what follows it: the moment from which one more step could not be made in
 * time, with the evaluations and checkpoints that are due until then, the one under way, and the
 * last. 0: there is none. */
double swt_limit_until(const swt_limit *limit, const swt_options *o, int64_t step,
                       const swt_saver *saver);

#endif
