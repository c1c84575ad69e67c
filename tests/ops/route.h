/* The routing operations one after the other on a trial: inputs, and the calls. After each call its
 * outputs are inputs of the next. */
#ifndef SWT_TESTS_OPS_ROUTE_H
#define SWT_TESTS_OPS_ROUTE_H

#include "support/trial.h"

typedef struct swt_route_case {
    int64_t N, C, E, G;
    bool bias;
    bool all_routed;
    bool whole; /* whole-numbered input and weights: exact logits, many ties */
    float jitter;
    bool evaluation;
} swt_route_case;

typedef struct swt_route {
    swt_moe_dims dims;
    float *h, *w, *bias, *probs, *lse, *gate, *dh, *old_dh, *dw, *dbias;
    int32_t *routed, *expert, *slot, *kept_counts, *group_counts;
    double *stats;
} swt_route;

/* Begin the case. dims: training unless evaluation, room for every token; the caller may change
 * them. */
swt_route swt_route_inputs(swt_trial *t, const swt_route_case *c);

void swt_route_forward(swt_trial *t, swt_route *r);
void swt_route_assign(swt_trial *t, swt_route *r);
void swt_route_losses(swt_trial *t, swt_route *r);

/* The gates' gradients and the old dh are drawn here. */
void swt_route_backward(swt_trial *t, swt_route *r);

#endif
