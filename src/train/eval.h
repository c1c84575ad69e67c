/* Evaluation over the whole validation part: the same number in any layout, whenever it is run. */
#ifndef SWT_TRAIN_EVAL_H
#define SWT_TRAIN_EVAL_H

#include "train/session.h"

typedef struct swt_eval_result {
    double loss;          /* cross-entropy with the evaluation's capacity, nats per target */
    double loss_dropless; /* the same with no token dropped */
    double dropped;       /* share of the routed tokens dropped at that capacity, over all layers */
    int64_t targets;
} swt_eval_result;

/* Room for swt_evaluate, which the caller frees: a row of sums for each micro-batch of the
 * validation part, and the statistics of one. Text and model must be open. Local. Errors: MEMORY.
 */
SWT_MUST_CHECK swt_status swt_eval_alloc(const swt_session *s, double **rows);

/* Collective. Uses the model's batch buffers; changes no parameter and no random state; allocates
 * nothing. */
SWT_MUST_CHECK swt_status swt_evaluate(swt_session *s, double *rows, swt_eval_result *out);

#endif
