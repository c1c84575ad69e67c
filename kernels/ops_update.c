/* The tensors of the operations on gradients and the step's state. */
#include "kernels/adafactor_scratch.h"
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

SWT_ARGS_OF(adafactor) {
    out->state = true;
    return SWT_LIST(
        UPDATED(param, F32, a->n, a->rows, a->cols),
        SWT_ARG(SWT_ARG_OUT | SWT_ARG_UPDATED | SWT_ARG_OPTIONAL, row, F32, a->n, a->rows),
        UPDATED(col, F32, a->n, a->cols), IN(grad, F32, a->n, a->rows, a->cols),
        SCRATCH(scratch, U8, swt_adafactor_scratch_bytes(a->n, a->rows, a->cols)));
}

int64_t swt_adafactor_scratch_bytes(int64_t n, int64_t rows, int64_t cols) {
    /* No piece has more elements than this; with all of them together bytes do not wrap. */
    const int64_t most = SWT_COUNT(swt_max(n, 1), swt_max(rows, 1), swt_max(cols, 1), 8);
    return most < 0 || n < 0 || rows < 0 || cols < 0
               ? -1
               : swt_adafactor_scratch_of(n, rows, cols).bytes;
}

SWT_ARGS_OF(cast) {
    return SWT_LIST(OUT(to, ACT, a->n), IN(from, F32, a->n));
}
