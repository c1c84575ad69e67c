/* Checks and dispatch of the operations on gradients and the step's state. */
#include "kernels/check.h"

enum { IN = SWT_ARG_IN, OUT = SWT_ARG_OUT };

swt_status swt_state_advance(const swt_ctx *c, const swt_schedule *schedule) {
    SWT_TRY(swt_check_args(c, "state_advance", NULL, 0));
    SWT_TRY(swt_check_state(c, "state_advance"));
    SWT_TRY(swt_check_given(schedule, "state_advance", "schedule"));
    return c->ops->state_advance(c, schedule);
}

swt_status swt_count_targets(const swt_ctx *c, int64_t *count, const int32_t *targets, int64_t n) {
    const swt_arg args[] = {
        {"count", count, OUT, SWT_I64, 1},
        {"targets", targets, IN, SWT_I32, SWT_COUNT(n)},
    };
    SWT_CHECK("count_targets", args);
    return c->ops->count_targets(c, count, targets, n);
}

swt_status swt_grad_add(const swt_ctx *c, int64_t *sum, const float *grad, int64_t n, double limit,
                        bool first) {
    const swt_arg args[] = {
        {"sum", sum, OUT, SWT_I64, SWT_COUNT(n)},
        {"grad", grad, IN, SWT_F32, SWT_COUNT(n)},
    };
    SWT_CHECK("grad_add", args);
    SWT_TRY(swt_check_state(c, "grad_add"));
    return c->ops->grad_add(c, sum, grad, n, limit, first);
}

swt_status swt_grad_finish(const swt_ctx *c, float *grad, const int64_t *sum, int64_t n) {
    const swt_arg args[] = {
        {"grad", grad, OUT, SWT_F32, SWT_COUNT(n)},
        {"sum", sum, IN, SWT_I64, SWT_COUNT(n)},
    };
    SWT_CHECK("grad_finish", args);
    return c->ops->grad_finish(c, grad, sum, n);
}

/* What the spans cover is known to the caller alone: squares and grad are checked for presence. */
swt_status swt_grad_squares(const swt_ctx *c, double *squares, const float *grad,
                            const swt_span *spans, int64_t n_spans) {
    const int64_t some = n_spans > 0 ? 1 : 0;
    const swt_arg args[] = {
        {"squares", squares, OUT, SWT_F64, some},
        {"grad", grad, IN, SWT_F32, some},
        {"spans", spans, IN, SWT_I64, SWT_COUNT(n_spans, 3)},
    };
    SWT_CHECK("grad_squares", args);
    return c->ops->grad_squares(c, squares, grad, spans, n_spans);
}

swt_status swt_state_clip(const swt_ctx *c, const double *squares, int64_t n,
                          const int64_t *nonfinite_ranks, double max_norm) {
    const swt_arg args[] = {
        {"squares", squares, IN, SWT_F64, SWT_COUNT(n)},
        {"nonfinite_ranks", nonfinite_ranks, IN, SWT_I64, 1},
    };
    SWT_CHECK("state_clip", args);
    SWT_TRY(swt_check_state(c, "state_clip"));
    return c->ops->state_clip(c, squares, n, nonfinite_ranks, max_norm);
}

swt_status swt_adam(const swt_ctx *c, float *param, float *m, float *v, const float *grad,
                    int64_t n, const swt_adam_hyper *hyper) {
    const swt_arg args[] = {
        {"param", param, OUT, SWT_F32, SWT_COUNT(n)},
        {"m", m, OUT, SWT_F32, SWT_COUNT(n)},
        {"v", v, OUT, SWT_F32, SWT_COUNT(n)},
        {"grad", grad, IN, SWT_F32, SWT_COUNT(n)},
    };
    SWT_CHECK("adam", args);
    SWT_TRY(swt_check_state(c, "adam"));
    SWT_TRY(swt_check_given(hyper, "adam", "hyper"));
    return c->ops->adam(c, param, m, v, grad, n, hyper);
}

swt_status swt_sgd(const swt_ctx *c, float *param, const float *grad, int64_t n) {
    const swt_arg args[] = {
        {"param", param, OUT, SWT_F32, SWT_COUNT(n)},
        {"grad", grad, IN, SWT_F32, SWT_COUNT(n)},
    };
    SWT_CHECK("sgd", args);
    SWT_TRY(swt_check_state(c, "sgd"));
    return c->ops->sgd(c, param, grad, n);
}

swt_status swt_cast(const swt_ctx *c, void *to, const float *from, int64_t n) {
    const swt_arg args[] = {
        {"to", to, OUT, SWT_ACT, SWT_COUNT(n)},
        {"from", from, IN, SWT_F32, SWT_COUNT(n)},
    };
    SWT_CHECK("cast", args);
    return c->ops->cast(c, to, from, n);
}
