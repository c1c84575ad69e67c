/* The tensors of the dense layers' operations. */
#include "kernels/check.h"

SWT_ARGS_OF(linear_forward) {
    return SWT_LIST(OUT(y, ACT, a->N, a->out), IN(x, ACT, a->N, a->in), IN(w, ACT, a->out, a->in),
                    OPTIONAL(bias, ACT, a->out),
                    SWT_ARG(SWT_ARG_OPTIONAL | SWT_ARG_IN_PLACE, residual, ACT, a->N, a->out));
}

SWT_ARGS_OF(linear_backward_input) {
    return SWT_LIST(OUT(dx, ACT, a->N, a->in), IN(dy, ACT, a->N, a->out), IN(w, ACT, a->out, a->in),
                    OPTIONAL(relu_output, ACT, a->N, a->in));
}

/* A parameter's gradient. */
static unsigned gradient(bool add) {
    return SWT_ARG_OUT | (add ? SWT_ARG_UPDATED : 0);
}

SWT_ARGS_OF(linear_backward_weight) {
    return SWT_LIST(SWT_ARG(gradient(a->add), dw, F32, a->out, a->in),
                    SWT_ARG(gradient(a->add) | SWT_ARG_OPTIONAL, dbias, F32, a->out),
                    IN(dy, ACT, a->N, a->out), IN(x, ACT, a->N, a->in));
}

SWT_ARGS_OF(embedding_forward) {
    return SWT_LIST(OUT(x, ACT, a->N, a->C), IN(table, ACT, a->V, a->C), IN(tokens, I32, a->N));
}

SWT_ARGS_OF(embedding_backward) {
    return SWT_LIST(SWT_ARG(gradient(a->add), dtable, F32, a->V, a->C), IN(dx, ACT, a->N, a->C),
                    IN(tokens, I32, a->N));
}

SWT_ARGS_OF(norm_forward) {
    return SWT_LIST(OUT(y, ACT, a->N, a->C), OUT(mean, F32, a->N), OUT(rstd, F32, a->N),
                    IN(x, ACT, a->N, a->C), IN(weight, F32, a->C), IN(bias, F32, a->C));
}

SWT_ARGS_OF(norm_backward) {
    return SWT_LIST(OUT(dx, ACT, a->N, a->C), SWT_ARG(gradient(a->add), dweight, F32, a->C),
                    SWT_ARG(gradient(a->add), dbias, F32, a->C), IN(dy, ACT, a->N, a->C),
                    SWT_ARG(SWT_ARG_OPTIONAL | SWT_ARG_IN_PLACE, dresidual, ACT, a->N, a->C),
                    IN(x, ACT, a->N, a->C), IN(weight, F32, a->C), IN(mean, F32, a->N),
                    IN(rstd, F32, a->N),
                    SCRATCH(scratch, U8, swt_norm_backward_scratch_bytes(a->N, a->C)));
}

static swt_status check_attention(const swt_attention_dims *d, const char *op) {
    if (d->D > SWT_HEAD_WIDTH_MAX)
        return SWT_FAIL(SHAPE, "%s: heads of %lld features; up to %d are possible", op,
                        (long long)d->D, SWT_HEAD_WIDTH_MAX);
    return SWT_OK;
}

SWT_ARGS_OF(attention_forward) {
    const swt_attention_dims *d = &a->dims;
    SWT_TRY(check_attention(d, out->op));
    return SWT_LIST(OUT(y, ACT, d->B, d->T, d->H, d->D), OUT(lse, F32, d->B, d->H, d->T),
                    IN(qkv, ACT, d->B, d->T, 3, d->H, d->D));
}

SWT_ARGS_OF(attention_backward) {
    const swt_attention_dims *d = &a->dims;
    SWT_TRY(check_attention(d, out->op));
    return SWT_LIST(OUT(dqkv, ACT, d->B, d->T, 3, d->H, d->D), IN(dy, ACT, d->B, d->T, d->H, d->D),
                    IN(qkv, ACT, d->B, d->T, 3, d->H, d->D), IN(y, ACT, d->B, d->T, d->H, d->D),
                    IN(lse, F32, d->B, d->H, d->T));
}

SWT_ARGS_OF(cross_entropy) {
    out->state = true;
    return SWT_LIST(OPTIONAL_OUT(dlogits, ACT, a->N, a->V), OUT(stats, F64, 2),
                    SWT_ARG(SWT_ARG_IN_PLACE, logits, ACT, a->N, a->V), IN(targets, I32, a->N),
                    SCRATCH(scratch, U8, swt_cross_entropy_scratch_bytes(a->N)));
}
