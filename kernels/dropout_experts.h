/* Dropout of the experts' hidden values, or of their gradient, for both backends. */
#ifndef SWT_DROPOUT_EXPERTS_H
#define SWT_DROPOUT_EXPERTS_H

#include "kernels/ops_moe.h"

/* x (El, P, K, F) in place. The sources' micro-batches follow one another. */
static inline swt_dropout_args swt_dropout_of_experts(void *x, const int32_t *slot_counts,
                                                      const swt_moe_dims *d) {
    swt_dropout_args a;
    a.y = x;
    a.x = x;
    a.residual = NULL;
    a.row_counts = slot_counts;
    a.dims.blocks = d->El * d->P;
    a.dims.rows = d->K;
    a.dims.C = d->F;
    a.dims.sources = d->P;
    a.dims.expert_step = d->K;
    a.dims.source_step = d->E * d->K;
    a.mask = d->dropout;
    return a;
}

#endif
