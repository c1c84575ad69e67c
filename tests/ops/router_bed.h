/* The routing operations on a test bed: inputs of a case, and the calls one after the other. After
 * each call its outputs are inputs of the next. */
#ifndef SWT_TESTS_OPS_ROUTER_BED_H
#define SWT_TESTS_OPS_ROUTER_BED_H

#include "support/bed.h"

typedef struct swt_router_case {
    int64_t N, C, E, G;
    bool bias;
    bool all_routed;
    bool whole; /* whole-numbered input and weights: exact logits, many ties */
    float jitter;
    bool evaluation;
} swt_router_case;

typedef struct swt_router_tensors {
    swt_moe_dims dims;
    float *h, *w, *bias, *probs, *lse, *gate, *dh, *old_dh, *dw, *dbias, *dgate;
    int32_t *routed, *expert, *slot, *kept, *counts;
    double *stats;
} swt_router_tensors;

/* Begin the case. dims: training unless evaluation, room for every token; the caller may change
 * them. */
swt_router_tensors swt_router_bed_inputs(swt_bed *bed, const swt_router_case *c);

void swt_router_bed_forward(swt_bed *bed, swt_router_tensors *t);
void swt_router_bed_assign(swt_bed *bed, swt_router_tensors *t);
void swt_router_bed_losses(swt_bed *bed, swt_router_tensors *t);

/* dgate and the old dh are drawn here. */
void swt_router_bed_backward(swt_bed *bed, swt_router_tensors *t);

#endif
