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

/* Collective. Uses the model's batch buffers; changes no parameter and no random state. */
SWT_MUST_CHECK swt_status swt_evaluate(swt_session *s, swt_eval_result *out);

#endif
