/* The tensors of the operations on gradients and the step's state. */
#include "kernels/check.h"

SWT_ARGS_OF(state_advance) {
    (void)a;
    out->state = true;
    return SWT_OK;
}

SWT_ARGS_OF(count_targets) {
    return SWT_LIST(OUT(count, I64, 1), IN(targets, I32, a->n));
}

SWT_ARGS_OF(grad_add) {
    const unsigned sum = SWT_ARG_OUT | (a->first ? 0 : SWT_ARG_UPDATED);
    out->state = true;
    return SWT_LIST(SWT_ARG(sum, sum, I64, a->n), IN(grad, F32, a->n));
}

SWT_ARGS_OF(grad_finish) {
    return SWT_LIST(OUT(grad, F32, a->n), IN(sum, I64, a->n));
}

SWT_ARGS_OF(grad_squares) {
    const int64_t some = a->n_spans > 0 ? 1 : 0;
    return SWT_LIST(OUT(squares, F64, some), IN(grad, F32, some), IN(spans, I64, a->n_spans, 3));
}

SWT_ARGS_OF(state_clip) {
    out->state = true;
    return SWT_LIST(IN(squares, F64, a->n), IN(nonfinite_ranks, I64, 1));
}

SWT_ARGS_OF(adam) {
    out->state = true;
    return SWT_LIST(UPDATED(param, F32, a->n), UPDATED(m, F32, a->n), UPDATED(v, F32, a->n),
                    IN(grad, F32, a->n));
}

SWT_ARGS_OF(sgd) {
    out->state = true;
    return SWT_LIST(UPDATED(param, F32, a->n), IN(grad, F32, a->n));
}

SWT_ARGS_OF(cast) {
    return SWT_LIST(OUT(to, ACT, a->n), IN(from, F32, a->n));
}
