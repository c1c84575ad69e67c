/* Checks and dispatch of the switch layer's operations. */
#include "kernels/check.h"
#include "kernels/cpu/router.h"
#include "kernels/cuda/router.h"

#undef IN
#undef OUT
enum { IN = SWT_ARG_IN, OUT = SWT_ARG_OUT, MAYBE = SWT_ARG_OPTIONAL, IN_PLACE = SWT_ARG_IN_PLACE };

/* Dimensions that make sense together; indices must fit the 32 bits that hold them. */
static swt_status check_dims(const swt_moe_dims *d, const char *op) {
    SWT_TRY(swt_check_given(d, op, "dims"));
    if (d->k != 1)
        return SWT_FAIL(SHAPE, "%s: k is %lld; one expert per token is all there is", op,
                        (long long)d->k);
    if (d->G < 1 || d->E < 1 || d->P < 1 || d->N < 0 || d->N % d->G != 0)
        return SWT_FAIL(SHAPE,
                        "%s: N %lld, G %lld, E %lld, P %lld; G, E and P must be >= 1 and G "
                        "must divide N",
                        op, (long long)d->N, (long long)d->G, (long long)d->E, (long long)d->P);
    const int64_t rows[] = {SWT_COUNT(d->N, d->E), SWT_COUNT(d->N, d->C), SWT_COUNT(d->E, d->K),
                            SWT_COUNT(d->El, d->P, d->K), SWT_COUNT(d->F, d->C)};
    for (int i = 0; i < (int)(sizeof rows / sizeof rows[0]); i++)
        if (rows[i] < 0)
            return SWT_FAIL(SHAPE,
                            "%s: a dimension is negative or they are too large; "
                            "they must be >= 0 and their products must fit 63 bits",
                            op);
    if (d->N > INT32_MAX || d->E > INT32_MAX || d->group_capacity < 0)
        return SWT_FAIL(SHAPE,
                        "%s: N %lld, E %lld, group_capacity %lld; N and E must be < 2^31 "
                        "and the capacity >= 0",
                        op, (long long)d->N, (long long)d->E, (long long)d->group_capacity);
    if (d->training && d->jitter > 0.0f && SWT_COUNT(d->N, d->C) > UINT32_MAX)
        return SWT_FAIL(SHAPE, "%s: N C is too large for jitter; it must be < 2^32", op);
    return SWT_OK;
}

static swt_status check_first_slot(int64_t first_slot, const char *op) {
    if (first_slot < 0)
        return SWT_FAIL(SHAPE, "%s: first_slot is %lld; it must be >= 0", op,
                        (long long)first_slot);
    return SWT_OK;
}

/* What either backend needs: the same in every build, so that tests of one hold for all. */
int64_t swt_router_scratch_bytes(const swt_moe_dims *dims) {
    return swt_max(swt_cpu_router_scratch_bytes(dims), swt_cuda_router_scratch_bytes(dims));
}

swt_status swt_router_forward(const swt_ctx *c, float *probs, float *lse, int32_t *expert,
                              float *gate, const void *h, const float *w, const float *bias,
                              const int32_t *routed, void *scratch, const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "router_forward"));
    const int64_t N = dims->N, C = dims->C, E = dims->E, k = dims->k;
    const swt_arg args[] = {
        {"probs", &probs, OUT, SWT_F32, SWT_COUNT(N, E)},
        {"lse", &lse, OUT, SWT_F32, SWT_COUNT(N)},
        {"expert", &expert, OUT, SWT_I32, SWT_COUNT(N, k)},
        {"gate", &gate, OUT, SWT_F32, SWT_COUNT(N, k)},
        {"h", &h, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"w", &w, IN, SWT_F32, SWT_COUNT(E, C)},
        {"bias", &bias, IN | MAYBE, SWT_F32, SWT_COUNT(E)},
        {"routed", &routed, IN, SWT_I32, SWT_COUNT(N)},
        {"scratch", &scratch, OUT, SWT_U8, swt_router_scratch_bytes(dims)},
    };
    SWT_CHECK("router_forward", args);
    SWT_TRY(swt_check_state(c, "router_forward"));
    return c->ops->router_forward(c, probs, lse, expert, gate, h, w, bias, routed, scratch, dims);
}

swt_status swt_router_assign(const swt_ctx *c, int32_t *slot, int32_t *kept, int32_t *counts,
                             const int32_t *expert, const float *gate, void *scratch,
                             const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "router_assign"));
    const int64_t N = dims->N, E = dims->E, k = dims->k;
    const swt_arg args[] = {
        {"slot", &slot, OUT, SWT_I32, SWT_COUNT(N, k)},
        {"kept", &kept, OUT, SWT_I32, SWT_COUNT(E)},
        {"counts", &counts, OUT, SWT_I32, SWT_COUNT(dims->G, E)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, k)},
        {"gate", &gate, IN, SWT_F32, SWT_COUNT(N, k)},
        {"scratch", &scratch, OUT, SWT_U8, swt_router_scratch_bytes(dims)},
    };
    SWT_CHECK("router_assign", args);
    SWT_TRY(swt_check_state(c, "router_assign"));
    return c->ops->router_assign(c, slot, kept, counts, expert, gate, scratch, dims);
}

swt_status swt_router_losses(const swt_ctx *c, double *stats, const float *probs, const float *lse,
                             const int32_t *expert, const int32_t *kept, const int32_t *counts,
                             const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "router_losses"));
    const int64_t N = dims->N, E = dims->E;
    const swt_arg args[] = {
        {"stats", &stats, OUT, SWT_F64, 3 + E},
        {"probs", &probs, IN, SWT_F32, SWT_COUNT(N, E)},
        {"lse", &lse, IN, SWT_F32, SWT_COUNT(N)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, dims->k)},
        {"kept", &kept, IN, SWT_I32, SWT_COUNT(E)},
        {"counts", &counts, IN, SWT_I32, SWT_COUNT(dims->G, E)},
    };
    SWT_CHECK("router_losses", args);
    return c->ops->router_losses(c, stats, probs, lse, expert, kept, counts, dims);
}

swt_status swt_router_backward(const swt_ctx *c, void *dh, float *dw, float *dbias,
                               const float *dgate, const void *h, const float *w,
                               const float *probs, const float *lse, const int32_t *expert,
                               const float *gate, const int32_t *counts, void *scratch,
                               const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "router_backward"));
    const int64_t N = dims->N, C = dims->C, E = dims->E, k = dims->k;
    const swt_arg args[] = {
        {"dh", &dh, OUT, SWT_ACT, SWT_COUNT(N, C)},
        {"dw", &dw, OUT, SWT_F32, SWT_COUNT(E, C)},
        {"dbias", &dbias, OUT | MAYBE, SWT_F32, SWT_COUNT(E)},
        {"dgate", &dgate, IN, SWT_F32, SWT_COUNT(N, k)},
        {"h", &h, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"w", &w, IN, SWT_F32, SWT_COUNT(E, C)},
        {"probs", &probs, IN, SWT_F32, SWT_COUNT(N, E)},
        {"lse", &lse, IN, SWT_F32, SWT_COUNT(N)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, k)},
        {"gate", &gate, IN, SWT_F32, SWT_COUNT(N, k)},
        {"counts", &counts, IN, SWT_I32, SWT_COUNT(dims->G, E)},
        {"scratch", &scratch, OUT, SWT_U8, swt_router_scratch_bytes(dims)},
    };
    SWT_CHECK("router_backward", args);
    SWT_TRY(swt_check_state(c, "router_backward"));
    return c->ops->router_backward(c, dh, dw, dbias, dgate, h, w, probs, lse, expert, gate, counts,
                                   scratch, dims);
}

swt_status swt_dispatch_forward(const swt_ctx *c, void *send, int32_t *send_counts, const void *h,
                                const int32_t *expert, const int32_t *slot, const int32_t *kept,
                                const swt_moe_dims *dims, int64_t first_slot) {
    SWT_TRY(check_dims(dims, "dispatch_forward"));
    SWT_TRY(check_first_slot(first_slot, "dispatch_forward"));
    const int64_t N = dims->N, C = dims->C, E = dims->E, k = dims->k;
    const swt_arg args[] = {
        {"send", &send, OUT, SWT_ACT, SWT_COUNT(E, dims->K, C)},
        {"send_counts", &send_counts, OUT, SWT_I32, SWT_COUNT(E)},
        {"h", &h, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, k)},
        {"slot", &slot, IN, SWT_I32, SWT_COUNT(N, k)},
        {"kept", &kept, IN, SWT_I32, SWT_COUNT(E)},
    };
    SWT_CHECK("dispatch_forward", args);
    return c->ops->dispatch_forward(c, send, send_counts, h, expert, slot, kept, dims, first_slot);
}

swt_status swt_dispatch_backward(const swt_ctx *c, void *dh, float *dgate, const void *dsend,
                                 const float *dot, const int32_t *expert, const float *gate,
                                 const int32_t *slot, const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "dispatch_backward"));
    const int64_t N = dims->N, C = dims->C, k = dims->k;
    const swt_arg args[] = {
        {"dh", &dh, OUT, SWT_ACT, SWT_COUNT(N, C)},
        {"dgate", &dgate, OUT, SWT_F32, SWT_COUNT(N, k)},
        {"dsend", &dsend, IN, SWT_ACT, SWT_COUNT(dims->E, dims->K, C)},
        {"dot", &dot, IN, SWT_F32, SWT_COUNT(dims->E, dims->K)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, k)},
        {"gate", &gate, IN, SWT_F32, SWT_COUNT(N, k)},
        {"slot", &slot, IN, SWT_I32, SWT_COUNT(N, k)},
    };
    SWT_CHECK("dispatch_backward", args);
    return c->ops->dispatch_backward(c, dh, dgate, dsend, dot, expert, gate, slot, dims);
}

swt_status swt_experts_forward(const swt_ctx *c, void *y, void *hidden, const void *x,
                               const void *wi, const void *bi, const void *wo, const void *bo,
                               const int32_t *counts, const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "experts_forward"));
    const int64_t El = dims->El, P = dims->P, K = dims->K, C = dims->C, F = dims->F;
    const swt_arg args[] = {
        {"y", &y, OUT, SWT_ACT, SWT_COUNT(El, P, K, C)},
        {"hidden", &hidden, OUT, SWT_ACT, SWT_COUNT(El, P, K, F)},
        {"x", &x, IN, SWT_ACT, SWT_COUNT(El, P, K, C)},
        {"wi", &wi, IN, SWT_ACT, SWT_COUNT(El, F, C)},
        {"bi", &bi, IN | MAYBE, SWT_ACT, SWT_COUNT(El, F)},
        {"wo", &wo, IN, SWT_ACT, SWT_COUNT(El, C, F)},
        {"bo", &bo, IN | MAYBE, SWT_ACT, SWT_COUNT(El, C)},
        {"counts", &counts, IN, SWT_I32, SWT_COUNT(El, P)},
    };
    SWT_CHECK("experts_forward", args);
    return c->ops->experts_forward(c, y, hidden, x, wi, bi, wo, bo, counts, dims);
}

swt_status swt_experts_backward_input(const swt_ctx *c, void *dx, void *dhidden, float *dot,
                                      const void *dy, const void *hidden, const void *wi,
                                      const void *wo, const void *bo, const int32_t *counts,
                                      const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "experts_backward_input"));
    const int64_t El = dims->El, P = dims->P, K = dims->K, C = dims->C, F = dims->F;
    const swt_arg args[] = {
        {"dx", &dx, OUT, SWT_ACT, SWT_COUNT(El, P, K, C)},
        {"dhidden", &dhidden, OUT, SWT_ACT, SWT_COUNT(El, P, K, F)},
        {"dot", &dot, OUT, SWT_F32, SWT_COUNT(El, P, K)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(El, P, K, C)},
        {"hidden", &hidden, IN, SWT_ACT, SWT_COUNT(El, P, K, F)},
        {"wi", &wi, IN, SWT_ACT, SWT_COUNT(El, F, C)},
        {"wo", &wo, IN, SWT_ACT, SWT_COUNT(El, C, F)},
        {"bo", &bo, IN | MAYBE, SWT_ACT, SWT_COUNT(El, C)},
        {"counts", &counts, IN, SWT_I32, SWT_COUNT(El, P)},
    };
    SWT_CHECK("experts_backward_input", args);
    return c->ops->experts_backward_input(c, dx, dhidden, dot, dy, hidden, wi, wo, bo, counts,
                                          dims);
}

swt_status swt_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi, float *dwo,
                                       float *dbo, const void *x, const void *hidden,
                                       const void *dhidden, const void *dy, const int32_t *counts,
                                       const swt_moe_dims *dims, const swt_expert_sums *sums) {
    SWT_TRY(check_dims(dims, "experts_backward_weight"));
    const int64_t El = dims->El, P = dims->P, K = dims->K, C = dims->C, F = dims->F;
    const swt_expert_sums at =
        sums != NULL ? *sums : (swt_expert_sums){.first = true, .last = true};
    /* One call that is the first and the last needs no sums in memory on some backends. */
    const bool in_memory = sums != NULL && c != NULL && c->ops != NULL && c->ops->expert_sums;
    const bool held = in_memory || at.wi != NULL || at.wo != NULL || at.bi != NULL ||
                      at.bo != NULL || !at.first || !at.last;
    if (held && ((at.bi == NULL) != (dbi == NULL) || (at.bo == NULL) != (dbo == NULL)))
        return SWT_FAIL(SHAPE, "experts_backward_weight: the biases' sums or their gradients are "
                               "NULL; both or neither must be given");
    const unsigned sum = OUT | (held ? 0 : MAYBE);
    const swt_arg args[] = {
        {"dwi", &dwi, OUT, SWT_F32, SWT_COUNT(El, F, C)},
        {"dbi", &dbi, OUT | MAYBE, SWT_F32, SWT_COUNT(El, F)},
        {"dwo", &dwo, OUT, SWT_F32, SWT_COUNT(El, C, F)},
        {"dbo", &dbo, OUT | MAYBE, SWT_F32, SWT_COUNT(El, C)},
        {"x", &x, IN, SWT_ACT, SWT_COUNT(El, P, K, C)},
        {"hidden", &hidden, IN, SWT_ACT, SWT_COUNT(El, P, K, F)},
        {"dhidden", &dhidden, IN, SWT_ACT, SWT_COUNT(El, P, K, F)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(El, P, K, C)},
        {"counts", &counts, IN, SWT_I32, SWT_COUNT(El, P)},
        {"sums.wi", &at.wi, sum, SWT_I64, SWT_COUNT(El, F, C)},
        {"sums.bi", &at.bi, OUT | MAYBE, SWT_I64, SWT_COUNT(El, F)},
        {"sums.wo", &at.wo, sum, SWT_I64, SWT_COUNT(El, C, F)},
        {"sums.bo", &at.bo, OUT | MAYBE, SWT_I64, SWT_COUNT(El, C)},
    };
    SWT_CHECK("experts_backward_weight", args);
    if (sums != NULL)
        SWT_TRY(swt_check_state(c, "experts_backward_weight"));
    return c->ops->experts_backward_weight(c, dwi, dbi, dwo, dbo, x, hidden, dhidden, dy, counts,
                                           dims, sums);
}

swt_status swt_combine_forward(const swt_ctx *c, void *y, const void *residual, const void *recv,
                               const void *h, const int32_t *expert, const float *gate,
                               const int32_t *slot, const swt_moe_dims *dims, int64_t first_slot) {
    SWT_TRY(check_dims(dims, "combine_forward"));
    SWT_TRY(check_first_slot(first_slot, "combine_forward"));
    const int64_t N = dims->N, C = dims->C, k = dims->k;
    const unsigned in_place = first_slot == 0 ? IN_PLACE : 0;
    const swt_arg args[] = {
        {"y", &y, OUT, SWT_ACT, SWT_COUNT(N, C)},
        {"residual", &residual, IN | in_place, SWT_ACT, SWT_COUNT(N, C)},
        {"recv", &recv, IN, SWT_ACT, SWT_COUNT(dims->E, dims->K, C)},
        {"h", &h, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, k)},
        {"gate", &gate, IN, SWT_F32, SWT_COUNT(N, k)},
        {"slot", &slot, IN, SWT_I32, SWT_COUNT(N, k)},
    };
    SWT_CHECK("combine_forward", args);
    return c->ops->combine_forward(c, y, residual, recv, h, expert, gate, slot, dims, first_slot);
}

swt_status swt_combine_backward(const swt_ctx *c, void *drecv, float *dgate, void *dh,
                                const void *dy, const void *h, const int32_t *expert,
                                const float *gate, const int32_t *slot, const swt_moe_dims *dims) {
    SWT_TRY(check_dims(dims, "combine_backward"));
    const int64_t N = dims->N, C = dims->C, k = dims->k;
    const swt_arg args[] = {
        {"drecv", &drecv, OUT, SWT_ACT, SWT_COUNT(dims->E, dims->K, C)},
        {"dgate", &dgate, OUT, SWT_F32, SWT_COUNT(N, k)},
        {"dh", &dh, OUT, SWT_ACT, SWT_COUNT(N, C)},
        {"dy", &dy, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"h", &h, IN, SWT_ACT, SWT_COUNT(N, C)},
        {"expert", &expert, IN, SWT_I32, SWT_COUNT(N, k)},
        {"gate", &gate, IN, SWT_F32, SWT_COUNT(N, k)},
        {"slot", &slot, IN, SWT_I32, SWT_COUNT(N, k)},
    };
    SWT_CHECK("combine_backward", args);
    return c->ops->combine_backward(c, drecv, dgate, dh, dy, h, expert, gate, slot, dims);
}
