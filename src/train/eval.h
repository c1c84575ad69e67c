/* Evaluation over the validation part, all of it or its first train.eval_windows windows: the same
 * number in any layout, whenever it is run. */
#ifndef SWT_TRAIN_EVAL_H
#define SWT_TRAIN_EVAL_H

#include "train/session.h"

typedef struct swt_eval_result {
    double loss;          /* cross-entropy with the evaluation's capacity, nats per target */
    double loss_dropless; /* the same with no token dropped */
    double dropped;       /* share of the routed tokens dropped at that capacity, over all layers */
    int64_t targets;
} swt_eval_result;

/* Told after every micro-batch, with the share that is done. */
typedef struct swt_eval_watch {
    void (*progress)(void *context, double share);
    void *context;
} swt_eval_watch;

/* Room for swt_evaluate, which the caller frees: a row of sums for each micro-batch of the
 * validation part, and the statistics of one. Text and model must be open. Local. Errors: MEMORY.
 */
SWT_MUST_CHECK swt_status swt_eval_alloc(const swt_session *s, double **rows);

/* Collective. Uses the model's batch buffers; changes no parameter and no random state; allocates
 * nothing. Errors: INTERRUPTED, on all ranks alike, where signals are caught and one came. */
SWT_MUST_CHECK swt_status swt_evaluate(swt_session *s, double *rows, swt_eval_result *out,
                                       const swt_eval_watch *watch);

#endif
