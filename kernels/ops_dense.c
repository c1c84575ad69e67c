/* The tensors of the dense layers' operations. */
#include "kernels/check.h"

SWT_ARGS_OF(linear_forward) {
    return SWT_LIST(OUT(y, ACT, a->N, a->out), IN(x, ACT, a->N, a->in), IN(w, ACT, a->out, a->in),
                    OPTIONAL(bias, ACT, a->out),
                    SWT_ARG(SWT_ARG_OPTIONAL | SWT_ARG_IN_PLACE, residual, ACT, a->N, a->out));
}

SWT_ARGS_OF(linear_backward_input) {
    if (a->relu_output != NULL && a->dresidual != NULL)
        return SWT_FAIL(SHAPE, "%s: relu_output and dresidual; one of them is possible", out->op);
    return SWT_LIST(OUT(dx, ACT, a->N, a->in), IN(dy, ACT, a->N, a->out), IN(w, ACT, a->out, a->in),
                    OPTIONAL(relu_output, ACT, a->N, a->in),
                    SWT_ARG(SWT_ARG_OPTIONAL | SWT_ARG_IN_PLACE, dresidual, ACT, a->N, a->in));
}

SWT_ARGS_OF(linear_backward_weight) {
    return SWT_LIST(SWT_ARG(swt_arg_gradient(a->add), dw, F32, a->out, a->in),
                    SWT_ARG(swt_arg_gradient(a->add) | SWT_ARG_OPTIONAL, dbias, F32, a->out),
                    IN(dy, ACT, a->N, a->out), IN(x, ACT, a->N, a->in));
}

SWT_ARGS_OF(embedding_forward) {
    return SWT_LIST(OUT(x, ACT, a->N, a->C), IN(table, ACT, a->V, a->C), IN(tokens, I32, a->N));
}

SWT_ARGS_OF(embedding_backward) {
    return SWT_LIST(SWT_ARG(swt_arg_gradient(a->add), dtable, F32, a->V, a->C),
                    IN(dx, ACT, a->N, a->C), IN(tokens, I32, a->N));
}

SWT_ARGS_OF(norm_forward) {
    return SWT_LIST(OUT(y, ACT, a->N, a->C), OPTIONAL_OUT(mean, F32, a->N), OUT(rstd, F32, a->N),
                    IN(x, ACT, a->N, a->C), IN(weight, F32, a->C), OPTIONAL(bias, F32, a->C));
}

SWT_ARGS_OF(norm_backward) {
    return SWT_LIST(OUT(dx, ACT, a->N, a->C), SWT_ARG(swt_arg_gradient(a->add), dweight, F32, a->C),
                    SWT_ARG(swt_arg_gradient(a->add) | SWT_ARG_OPTIONAL, dbias, F32, a->C),
                    IN(dy, ACT, a->N, a->C),
                    SWT_ARG(SWT_ARG_OPTIONAL | SWT_ARG_IN_PLACE, dresidual, ACT, a->N, a->C),
                    IN(x, ACT, a->N, a->C), IN(weight, F32, a->C), OPTIONAL(mean, F32, a->N),
                    IN(rstd, F32, a->N),
                    SCRATCH(scratch, U8, swt_norm_backward_scratch_bytes(a->N, a->C)));
}

SWT_ARGS_OF(gelu_forward) {
    const swt_gelu_dims *d = &a->dims;
    const int64_t parts = d->gated ? 2 : 1;
    return SWT_LIST(OUT(y, ACT, d->blocks, d->rows, d->F),
                    IN(x, ACT, d->blocks, d->rows, parts, d->F),
                    OPTIONAL(row_counts, I32, d->blocks));
}

SWT_ARGS_OF(gelu_backward) {
    const swt_gelu_dims *d = &a->dims;
    const int64_t parts = d->gated ? 2 : 1;
    return SWT_LIST(
        OUT(dx, ACT, d->blocks, d->rows, parts, d->F), IN(dy, ACT, d->blocks, d->rows, d->F),
        IN(x, ACT, d->blocks, d->rows, parts, d->F), OPTIONAL(row_counts, I32, d->blocks));
}

SWT_ARGS_OF(dropout) {
    const swt_dropout_dims *d = &a->dims;
    if (d->sources < 1)
        return SWT_FAIL(SHAPE, "%s: sources is %lld; it must be >= 1", out->op,
                        (long long)d->sources);
    out->state = true;
    return SWT_LIST(OUT(y, ACT, d->blocks, d->rows, d->C),
                    SWT_ARG(SWT_ARG_IN_PLACE, x, ACT, d->blocks, d->rows, d->C),
                    OPTIONAL(residual, ACT, d->blocks, d->rows, d->C),
                    OPTIONAL(row_counts, I32, d->blocks));
}

/* What fits no list of dimensions. Lengths and strides are 32 bits wide in places. */
SWT_ARGS_OF(cross_entropy) {
    out->state = true;
    return SWT_LIST(OPTIONAL_OUT(dlogits, ACT, a->N, a->V), OUT(stats, F64, SWT_LOSS_STATS),
                    SWT_ARG(SWT_ARG_IN_PLACE, logits, ACT, a->N, a->V), IN(targets, I32, a->N),
                    SCRATCH(scratch, U8, swt_cross_entropy_scratch_bytes(a->N)));
}
