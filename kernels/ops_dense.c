/* Checks and dispatch of the dense layers' operations. */
#include "kernels/check.h"

#undef IN
#undef OUT
enum { IN = SWT_ARG_IN, OUT = SWT_ARG_OUT, MAYBE = SWT_ARG_OPTIONAL, IN_PLACE = SWT_ARG_IN_PLACE };

swt_status swt_linear_forward(const swt_ctx *c, void *y, const void *x, const void *w,
                              const void *bias, const void *residual, int64_t N, int64_t in,
                              int64_t out, swt_epilogue epilogue) {
    const swt_arg args[] = {
        {"y", &y, OUT, SWT_ACT, SWT_COUNT(N, out)},
        {"x", &x, IN, SWT_ACT, SWT_COUNT(N, in)},
        {"w", &w, IN, SWT_ACT, SWT_COUNT(out, in)},
        {"bias", &bias, IN | MAYBE, SWT_ACT, SWT_COUNT(out)},
        {"residual", &residual, IN | MAYBE | IN_PLACE, SWT_ACT, SWT_COUNT(N, out)},
    };
    SWT_CHECK("linear_forward", args);
    return c->ops->linear_forward(c, y, x, w, bias, residual, N, in, out, epilogue);
}

swt_status swt_linear_backward_input(const swt_ctx *c, void *dx, const void *dy, const void *w,
                                     const void *relu_output, int64_t N, int64_t in, int64_t out) {
    const swt_arg args[] = {
        {"dx", &dx, OUT, SWT_ACT, SWT_COUNT(N, in)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(N, out)},
        {"w", &w, IN, SWT_ACT, SWT_COUNT(out, in)},
        {"relu_output", &relu_output, IN | MAYBE, SWT_ACT, SWT_COUNT(N, in)},
    };
    SWT_CHECK("linear_backward_input", args);
    return c->ops->linear_backward_input(c, dx, dy, w, relu_output, N, in, out);
}

swt_status swt_linear_backward_weight(const swt_ctx *c, float *dw, float *dbias, const void *dy,
                                      const void *x, int64_t N, int64_t in, int64_t out, int add) {
    const swt_arg args[] = {
        {"dw", &dw, OUT, SWT_F32, SWT_COUNT(out, in)},
        {"dbias", &dbias, OUT | MAYBE, SWT_F32, SWT_COUNT(out)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(N, out)},
        {"x", &x, IN, SWT_ACT, SWT_COUNT(N, in)},
    };
    SWT_CHECK("linear_backward_weight", args);
    return c->ops->linear_backward_weight(c, dw, dbias, dy, x, N, in, out, add);
}

swt_status swt_embedding_forward(const swt_ctx *c, void *x, const void *table,
                                 const int32_t *tokens, int64_t N, int64_t C, int64_t V) {
    const swt_arg args[] = {
        {"x", &x, OUT, SWT_ACT, SWT_COUNT(N, C)},
        {"table", &table, IN, SWT_ACT, SWT_COUNT(V, C)},
        {"tokens", &tokens, IN, SWT_I32, SWT_COUNT(N)},
    };
    SWT_CHECK("embedding_forward", args);
    return c->ops->embedding_forward(c, x, table, tokens, N, C, V);
}

swt_status swt_embedding_backward(const swt_ctx *c, float *dtable, const void *dx,
                                  const int32_t *tokens, int64_t N, int64_t C, int64_t V, int add) {
    const swt_arg args[] = {
        {"dtable", &dtable, OUT, SWT_F32, SWT_COUNT(V, C)},
        {"dx", &dx, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"tokens", &tokens, IN, SWT_I32, SWT_COUNT(N)},
    };
    SWT_CHECK("embedding_backward", args);
    return c->ops->embedding_backward(c, dtable, dx, tokens, N, C, V, add);
}

swt_status swt_norm_forward(const swt_ctx *c, void *y, float *mean, float *rstd, const void *x,
                            const float *weight, const float *bias, int64_t N, int64_t C,
                            double eps) {
    const swt_arg args[] = {
        {"y", &y, OUT, SWT_ACT, SWT_COUNT(N, C)},       {"mean", &mean, OUT, SWT_F32, SWT_COUNT(N)},
        {"rstd", &rstd, OUT, SWT_F32, SWT_COUNT(N)},    {"x", &x, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"weight", &weight, IN, SWT_F32, SWT_COUNT(C)}, {"bias", &bias, IN, SWT_F32, SWT_COUNT(C)},
    };
    SWT_CHECK("norm_forward", args);
    return c->ops->norm_forward(c, y, mean, rstd, x, weight, bias, N, C, eps);
}

swt_status swt_norm_backward(const swt_ctx *c, void *dx, float *dweight, float *dbias,
                             const void *dy, const void *dresidual, const void *x,
                             const float *mean, const float *rstd, const float *weight,
                             void *scratch, int64_t N, int64_t C, int add) {
    const swt_arg args[] = {
        {"dx", &dx, OUT, SWT_ACT, SWT_COUNT(N, C)},
        {"dweight", &dweight, OUT, SWT_F32, SWT_COUNT(C)},
        {"dbias", &dbias, OUT, SWT_F32, SWT_COUNT(C)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"dresidual", &dresidual, IN | MAYBE | IN_PLACE, SWT_ACT, SWT_COUNT(N, C)},
        {"x", &x, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"mean", &mean, IN, SWT_F32, SWT_COUNT(N)},
        {"rstd", &rstd, IN, SWT_F32, SWT_COUNT(N)},
        {"weight", &weight, IN, SWT_F32, SWT_COUNT(C)},
        {"scratch", &scratch, OUT, SWT_U8, swt_norm_backward_scratch_bytes(N, C)},
    };
    SWT_CHECK("norm_backward", args);
    return c->ops->norm_backward(c, dx, dweight, dbias, dy, dresidual, x, mean, rstd, weight,
                                 scratch, N, C, add);
}

static swt_status check_attention(const swt_attention_dims *d, const char *op) {
    SWT_TRY(swt_check_given(d, op, "dims"));
    if (SWT_COUNT(d->B, d->T, 3, d->H, d->D) < 0)
        return SWT_FAIL(SHAPE,
                        "%s: a dimension is negative or they are too large; "
                        "they must be >= 0 and their product must fit 63 bits",
                        op);
    if (d->D > SWT_HEAD_WIDTH_MAX)
        return SWT_FAIL(SHAPE, "%s: heads of %lld features; up to %d are possible", op,
                        (long long)d->D, SWT_HEAD_WIDTH_MAX);
    return SWT_OK;
}

swt_status swt_attention_forward(const swt_ctx *c, void *y, float *lse, const void *qkv,
                                 const swt_attention_dims *dims) {
    SWT_TRY(check_attention(dims, "attention_forward"));
    const int64_t B = dims->B, T = dims->T, H = dims->H, D = dims->D;
    const swt_arg args[] = {
        {"y", &y, OUT, SWT_ACT, SWT_COUNT(B, T, H, D)},
        {"lse", &lse, OUT, SWT_F32, SWT_COUNT(B, H, T)},
        {"qkv", &qkv, IN, SWT_ACT, SWT_COUNT(B, T, 3, H, D)},
    };
    SWT_CHECK("attention_forward", args);
    return c->ops->attention_forward(c, y, lse, qkv, dims);
}

swt_status swt_attention_backward(const swt_ctx *c, void *dqkv, const void *dy, const void *y,
                                  const float *lse, const void *qkv,
                                  const swt_attention_dims *dims) {
    SWT_TRY(check_attention(dims, "attention_backward"));
    const int64_t B = dims->B, T = dims->T, H = dims->H, D = dims->D;
    const swt_arg args[] = {
        {"dqkv", &dqkv, OUT, SWT_ACT, SWT_COUNT(B, T, 3, H, D)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(B, T, H, D)},
        {"y", &y, IN, SWT_ACT, SWT_COUNT(B, T, H, D)},
        {"lse", &lse, IN, SWT_F32, SWT_COUNT(B, H, T)},
        {"qkv", &qkv, IN, SWT_ACT, SWT_COUNT(B, T, 3, H, D)},
    };
    SWT_CHECK("attention_backward", args);
    return c->ops->attention_backward(c, dqkv, dy, y, lse, qkv, dims);
}

swt_status swt_cross_entropy(const swt_ctx *c, void *dlogits, double *stats, const void *logits,
                             const int32_t *targets, void *scratch, int64_t N, int64_t V) {
    const swt_arg args[] = {
        {"dlogits", &dlogits, OUT | MAYBE, SWT_ACT, SWT_COUNT(N, V)},
        {"stats", &stats, OUT, SWT_F64, 2},
        {"logits", &logits, IN | IN_PLACE, SWT_ACT, SWT_COUNT(N, V)},
        {"targets", &targets, IN, SWT_I32, SWT_COUNT(N)},
        {"scratch", &scratch, OUT, SWT_U8, swt_cross_entropy_scratch_bytes(N)},
    };
    SWT_CHECK("cross_entropy", args);
    SWT_TRY(swt_check_state(c, "cross_entropy"));
    return c->ops->cross_entropy(c, dlogits, stats, logits, targets, scratch, N, V);
}
