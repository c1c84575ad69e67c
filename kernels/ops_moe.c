/* The tensors of the switch layer's operations, and what their dimensions must fit. */
#include "kernels/check.h"
#include "kernels/router_scratch.h"

/* Dimensions that make sense together; indices must fit the 32 bits that hold them. */
static swt_status check_dims(const swt_moe_dims *d, const char *op) {
    if (d->k != 1)
        return SWT_FAIL(SHAPE, "%s: k is %lld; one expert per token is all there is", op,
                        (long long)d->k);
    if (d->G < 1 || d->E < 1 || d->P < 1 || d->N < 0 || d->N % d->G != 0)
        return SWT_FAIL(SHAPE,
                        "%s: N %lld, G %lld, E %lld, P %lld; G, E and P must be >= 1 and G "
                        "must divide N",
                        op, (long long)d->N, (long long)d->G, (long long)d->E, (long long)d->P);
    const int64_t rows[] = {
        SWT_COUNT(d->N, d->E), SWT_COUNT(d->N, d->C),        SWT_COUNT(d->E, d->K),
        SWT_COUNT(d->G, d->E), SWT_COUNT(d->El, d->P, d->K), SWT_COUNT(d->F, d->C),
        SWT_COUNT(2, d->F)};
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
    if (swt_moe_jitters(d) && SWT_COUNT(d->N, d->C) > UINT32_MAX)
        return SWT_FAIL(SHAPE, "%s: N C is too large for jitter; it must be < 2^32", op);
    return SWT_OK;
}

static swt_status check_first_slot(int64_t first_slot, const char *op) {
    if (first_slot < 0)
        return SWT_FAIL(SHAPE, "%s: first_slot is %lld; it must be >= 0", op,
                        (long long)first_slot);
    return SWT_OK;
}

/* ------------------------------------------------------------------ the router */

int64_t swt_router_scratch_bytes(const swt_moe_dims *dims) {
    return swt_router_scratch_of(dims).bytes;
}

SWT_ARGS_OF(router_forward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t N = a->dims.N, C = a->dims.C, E = a->dims.E, k = a->dims.k;
    out->state = true;
    return SWT_LIST(OUT(probs, F32, N, E), OUT(lse, F32, N), OUT(expert, I32, N, k),
                    OUT(gate, F32, N, k), IN(h, ACT, N, C), IN(w, F32, E, C),
                    OPTIONAL(bias, F32, E), IN(routed, I32, N),
                    SCRATCH(scratch, U8, swt_router_scratch_bytes(&a->dims)));
}

SWT_ARGS_OF(router_assign) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t N = a->dims.N, E = a->dims.E, k = a->dims.k;
    out->state = true;
    return SWT_LIST(OUT(slot, I32, N, k), OUT(kept_counts, I32, E),
                    OUT(group_counts, I32, a->dims.G, E), IN(expert, I32, N, k),
                    IN(gate, F32, N, k), SCRATCH(scratch, U8, swt_router_scratch_bytes(&a->dims)));
}

SWT_ARGS_OF(router_losses) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t N = a->dims.N, E = a->dims.E;
    return SWT_LIST(OUT(stats, F64, SWT_ROUTER_LOAD + E), IN(probs, F32, N, E), IN(lse, F32, N),
                    IN(expert, I32, N, a->dims.k), IN(kept_counts, I32, E),
                    IN(group_counts, I32, a->dims.G, E));
}

SWT_ARGS_OF(router_backward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t N = a->dims.N, C = a->dims.C, E = a->dims.E, k = a->dims.k;
    out->state = true;
    return SWT_LIST(UPDATED(dh, ACT, N, C), OUT(dw, F32, E, C), OPTIONAL_OUT(dbias, F32, E),
                    IN(dgate, F32, N, k), IN(h, ACT, N, C), IN(w, F32, E, C), IN(probs, F32, N, E),
                    IN(lse, F32, N), IN(expert, I32, N, k), IN(gate, F32, N, k),
                    IN(group_counts, I32, a->dims.G, E),
                    SCRATCH(scratch, U8, swt_router_scratch_bytes(&a->dims)));
}

/* ------------------------------------------------------------------ tokens to their slots */

SWT_ARGS_OF(dispatch_forward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    SWT_TRY(check_first_slot(a->first_slot, out->op));
    const int64_t N = a->dims.N, C = a->dims.C, E = a->dims.E, k = a->dims.k;
    return SWT_LIST(OUT(send, ACT, E, a->dims.K, C), OUT(send_counts, I32, E), IN(h, ACT, N, C),
                    IN(expert, I32, N, k), IN(slot, I32, N, k), IN(kept_counts, I32, E));
}

SWT_ARGS_OF(dispatch_backward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t N = a->dims.N, C = a->dims.C, E = a->dims.E, K = a->dims.K, k = a->dims.k;
    return SWT_LIST(UPDATED(dh, ACT, N, C), UPDATED(dgate, F32, N, k), IN(dsend, ACT, E, K, C),
                    IN(dot, F32, E, K), IN(expert, I32, N, k), IN(gate, F32, N, k),
                    IN(slot, I32, N, k));
}

/* ------------------------------------------------------------------ the experts */

SWT_ARGS_OF(experts_forward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t El = a->dims.El, P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F;
    const int64_t W = swt_moe_wi_width(&a->dims);
    out->state = a->dims.dropout.limit > 0;
    SWT_TRY(SWT_LIST(OUT(y, ACT, El, P, K, C), OUT(hidden, ACT, El, P, K, F),
                     IN(x, ACT, El, P, K, C), IN(wi, ACT, El, W, C), OPTIONAL(bi, ACT, El, W),
                     IN(wo, ACT, El, C, F), OPTIONAL(bo, ACT, El, C), IN(slot_counts, I32, El, P)));
    return a->dims.ffn == SWT_FFN_RELU ? SWT_OK : SWT_LIST(OUT(pre, ACT, El, P, K, W));
}

SWT_ARGS_OF(experts_backward_input) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t El = a->dims.El, P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F;
    const int64_t W = swt_moe_wi_width(&a->dims);
    out->state = a->dims.dropout.limit > 0;
    SWT_TRY(SWT_LIST(OUT(dx, ACT, El, P, K, C), OUT(dhidden, ACT, El, P, K, F),
                     OUT(dot, F32, El, P, K), IN(dy, ACT, El, P, K, C),
                     IN(hidden, ACT, El, P, K, F), IN(wi, ACT, El, W, C), IN(wo, ACT, El, C, F),
                     OPTIONAL(bo, ACT, El, C), IN(slot_counts, I32, El, P)));
    return a->dims.ffn == SWT_FFN_RELU
               ? SWT_OK
               : SWT_LIST(OUT(dpre, ACT, El, P, K, W), IN(pre, ACT, El, P, K, W));
}

/* Some backends hold the sums of one call that is the first and the last outside of memory: there
 * they may be missing, all four of them. */
static swt_status list_sums(const swt_experts_backward_weight_args *a, swt_arg_list *out) {
    const int64_t El = a->dims.El, C = a->dims.C, F = a->dims.F, W = swt_moe_wi_width(&a->dims);
    const swt_expert_sums *s = &a->sums;
    const swt_ops *ops = out->c != NULL ? out->c->ops : NULL;
    const bool needed = (ops != NULL && ops->expert_sums) || !s->first || !s->last ||
                        s->wi != NULL || s->wo != NULL || s->bi != NULL || s->bo != NULL;
    if (needed && ((s->bi == NULL) != (a->dbi == NULL) || (s->bo == NULL) != (a->dbo == NULL)))
        return SWT_FAIL(SHAPE,
                        "%s: the biases' sums or their gradients are NULL; both or neither must "
                        "be given",
                        out->op);
    const unsigned bias = SWT_ARG_OUT | SWT_ARG_OPTIONAL | (s->first ? 0 : SWT_ARG_UPDATED) |
                          (s->last ? SWT_ARG_SCRATCH : 0);
    const unsigned weight = needed ? bias & ~(unsigned)SWT_ARG_OPTIONAL : bias;
    return SWT_LIST(SWT_ARG(weight, sums.wi, I64, El, W, C), SWT_ARG(bias, sums.bi, I64, El, W),
                    SWT_ARG(weight, sums.wo, I64, El, C, F), SWT_ARG(bias, sums.bo, I64, El, C));
}

SWT_ARGS_OF(experts_backward_weight) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t El = a->dims.El, P = a->dims.P, K = a->dims.K, C = a->dims.C, F = a->dims.F;
    const int64_t W = swt_moe_wi_width(&a->dims);
    const unsigned gradient = SWT_ARG_OUT | (a->sums.exact && !a->sums.last ? SWT_ARG_SCRATCH : 0);
    out->state = a->sums.exact;
    SWT_TRY(SWT_LIST(SWT_ARG(gradient, dwi, F32, El, W, C),
                     SWT_ARG(gradient | SWT_ARG_OPTIONAL, dbi, F32, El, W),
                     SWT_ARG(gradient, dwo, F32, El, C, F),
                     SWT_ARG(gradient | SWT_ARG_OPTIONAL, dbo, F32, El, C), IN(x, ACT, El, P, K, C),
                     IN(hidden, ACT, El, P, K, F), IN(dpre, ACT, El, P, K, W),
                     IN(dy, ACT, El, P, K, C), IN(slot_counts, I32, El, P)));
    return a->sums.exact ? list_sums(a, out) : SWT_OK;
}

/* ------------------------------------------------------------------ and back to their tokens */

SWT_ARGS_OF(combine_forward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    SWT_TRY(check_first_slot(a->first_slot, out->op));
    const int64_t N = a->dims.N, C = a->dims.C, k = a->dims.k;
    const bool first = a->first_slot == 0;
    return SWT_LIST(
        SWT_ARG(SWT_ARG_OUT | (first ? 0 : SWT_ARG_UPDATED), y, ACT, N, C),
        SWT_ARG(SWT_ARG_OPTIONAL | (first ? SWT_ARG_IN_PLACE : SWT_ARG_IN), residual, ACT, N, C),
        IN(recv, ACT, a->dims.E, a->dims.K, C), IN(h, ACT, N, C), IN(expert, I32, N, k),
        IN(gate, F32, N, k), IN(slot, I32, N, k));
}

SWT_ARGS_OF(combine_backward) {
    SWT_TRY(check_dims(&a->dims, out->op));
    const int64_t N = a->dims.N, C = a->dims.C, k = a->dims.k;
    return SWT_LIST(OUT(drecv, ACT, a->dims.E, a->dims.K, C), UPDATED(dgate, F32, N, k),
                    OUT(dh, ACT, N, C), IN(dy, ACT, N, C), IN(h, ACT, N, C), IN(expert, I32, N, k),
                    IN(gate, F32, N, k), IN(slot, I32, N, k));
}
