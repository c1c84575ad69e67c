/* A router on a trial: inputs, and what the oracle makes of them. Used by the checks of single
 * operations, of routing and of gradients. */
#ifndef SWT_JUDGE_ROUTING_H
#define SWT_JUDGE_ROUTING_H

#include "judge/oracle.h"
#include "judge/trial.h"

/* Names and shapes of swt_ops.h. Those of the device; NULL until they are made. */
typedef struct swt_routing {
    swt_moe_dims dims;
    float *h, *w, *bias, *probs, *lse, *gate;
    int32_t *routed, *expert, *slot, *kept, *counts;
    double *stats;
} swt_routing;

/* The oracle's forward pass of the same inputs. */
typedef struct swt_routing_truth {
    swt_moe_dims dims;
    double *h, *factor, *w, *bias, *z, *probs, *lse;
} swt_routing_truth;

/* h, w, bias (or NULL) and routed, random; whole: whole numbers, so that logits are exact and ties
 * are common. dims: swt_oracle_moe_dims, the caller may change them. */
swt_routing swt_routing_inputs(swt_trial *t, int64_t N, int64_t C, int64_t E, bool bias,
                               bool whole);

swt_routing_truth swt_routing_solve(swt_trial *t, const swt_routing *r);

/* probs, lse, expert and gate as inputs: the truth, rounded to float. */
void swt_routing_given(swt_trial *t, swt_routing *r, const swt_routing_truth *truth);

/* slot, kept and counts as inputs: the oracle's assignment of r's experts and gates. */
void swt_routing_assigned(swt_trial *t, swt_routing *r);

/* The operations, one after the other; their outputs are inputs of what follows. */
SWT_MUST_CHECK swt_status swt_routing_forward(swt_trial *t, swt_routing *r);
SWT_MUST_CHECK swt_status swt_routing_assign(swt_trial *t, swt_routing *r);
SWT_MUST_CHECK swt_status swt_routing_losses(swt_trial *t, swt_routing *r);

/* slot, kept and counts are the oracle's, exactly. */
void swt_routing_expect_assigned(swt_trial *t, const swt_routing *r);

#endif
