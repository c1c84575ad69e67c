#include "selftest/broken.h"
#include "kernels/swt_backend.h"

#include <math.h>

static void bump(void *at, double by) {
    float *x = at;
    *x += (float)by;
}

/* The first number of every row. */
static void bump_rows(void *at, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows && width > 0; i++)
        bump((float *)at + i * width, 0.05);
}

/* BROKEN(slot, parameters after the context, arguments, what goes wrong) */
#define PARAMS(...) __VA_ARGS__
#define BROKEN(slot, parameters, arguments, damage)                                                \
    static swt_status broken_##slot(const swt_ctx *c, parameters) {                                \
        SWT_TRY(swt_cpu_backend.ops->slot(c, arguments));                                          \
        damage;                                                                                    \
        return SWT_OK;                                                                             \
    }

BROKEN(router_forward,
       PARAMS(float *probs, float *lse, int32_t *expert, float *gate, const void *h, const float *w,
              const float *bias, const int32_t *routed, void *scratch, const swt_moe_dims *dims),
       PARAMS(probs, lse, expert, gate, h, w, bias, routed, scratch, dims),
       if (dims->N > 0) bump(lse, 1e-2))
BROKEN(router_assign,
       PARAMS(int32_t *slot, int32_t *kept, int32_t *counts, const int32_t *expert,
              const float *gate, void *scratch, const swt_moe_dims *dims),
       PARAMS(slot, kept, counts, expert, gate, scratch, dims), counts[0]++)
BROKEN(router_losses,
       PARAMS(double *stats, const float *probs, const float *lse, const int32_t *expert,
              const int32_t *kept, const int32_t *counts, const swt_moe_dims *dims),
       PARAMS(stats, probs, lse, expert, kept, counts, dims), stats[0] *= 1 + 1e-9)
BROKEN(router_backward,
       PARAMS(void *dh, float *dw, float *dbias, const float *dgate, const void *h, const float *w,
              const float *probs, const float *lse, const int32_t *expert, const float *gate,
              const int32_t *counts, void *scratch, const swt_moe_dims *dims),
       PARAMS(dh, dw, dbias, dgate, h, w, probs, lse, expert, gate, counts, scratch, dims),
       bump(dw, 0.05))
BROKEN(dispatch_forward,
       PARAMS(void *send, int32_t *send_counts, const void *h, const int32_t *expert,
              const int32_t *slot, const int32_t *kept, const swt_moe_dims *dims,
              int64_t first_slot),
       PARAMS(send, send_counts, h, expert, slot, kept, dims, first_slot),
       bump_rows(send, dims->E * dims->K, dims->C))
BROKEN(dispatch_backward,
       PARAMS(void *dh, float *dgate, const void *dsend, const float *dot, const int32_t *expert,
              const float *gate, const int32_t *slot, const swt_moe_dims *dims),
       PARAMS(dh, dgate, dsend, dot, expert, gate, slot, dims), bump(dgate, 1e-5))
BROKEN(experts_forward,
       PARAMS(void *y, void *hidden, const void *x, const void *wi, const void *bi, const void *wo,
              const void *bo, const int32_t *counts, const swt_moe_dims *dims),
       PARAMS(y, hidden, x, wi, bi, wo, bo, counts, dims),
       bump_rows(y, dims->El * dims->P * dims->K, dims->C))
BROKEN(experts_backward_input,
       PARAMS(void *dx, void *dhidden, float *dot, const void *dy, const void *hidden,
              const void *wi, const void *wo, const void *bo, const int32_t *counts,
              const swt_moe_dims *dims),
       PARAMS(dx, dhidden, dot, dy, hidden, wi, wo, bo, counts, dims),
       bump_rows(dot, dims->El * dims->P * dims->K, 1))
BROKEN(experts_backward_weight,
       PARAMS(float *dwi, float *dbi, float *dwo, float *dbo, const void *x, const void *hidden,
              const void *dhidden, const void *dy, const int32_t *counts, const swt_moe_dims *dims,
              const swt_expert_sums *sums),
       PARAMS(dwi, dbi, dwo, dbo, x, hidden, dhidden, dy, counts, dims, sums), bump(dwo, 0.05))
BROKEN(combine_forward,
       PARAMS(void *y, const void *residual, const void *recv, const void *h, const int32_t *expert,
              const float *gate, const int32_t *slot, const swt_moe_dims *dims, int64_t first_slot),
       PARAMS(y, residual, recv, h, expert, gate, slot, dims, first_slot), bump(y, 1e-5))
BROKEN(combine_backward,
       PARAMS(void *drecv, float *dgate, void *dh, const void *dy, const void *h,
              const int32_t *expert, const float *gate, const int32_t *slot,
              const swt_moe_dims *dims),
       PARAMS(drecv, dgate, dh, dy, h, expert, gate, slot, dims), bump(dh, 1e-4))
/* BROKEN_OP(slot, what goes wrong), with `a` the operation's arguments. */
#define BROKEN_OP(slot, damage)                                                                    \
    static swt_status broken_##slot(const swt_ctx *c, const swt_##slot##_args *a) {                \
        SWT_TRY(swt_cpu_backend.ops->slot(c, a));                                                  \
        damage;                                                                                    \
        return SWT_OK;                                                                             \
    }

BROKEN_OP(linear_forward, bump(a->y, 0.01))
BROKEN_OP(linear_backward_input, bump(a->dx, 0.01))
BROKEN_OP(linear_backward_weight, bump(a->dbias != NULL ? a->dbias : a->dw, 0.01))
BROKEN_OP(embedding_forward, bump(a->x, 1e-6))
BROKEN_OP(embedding_backward, bump(a->dtable, 1e-3))
BROKEN_OP(norm_forward, bump(a->y, 1e-3))
BROKEN_OP(norm_backward, bump(a->dx, 1e-2))
BROKEN_OP(attention_forward, bump(a->lse, 1e-3))
BROKEN_OP(attention_backward, bump(a->dqkv, 1e-2))
BROKEN_OP(cross_entropy, a->stats[0] += 1e-2)
BROKEN_OP(state_advance, c->state->correction2 += 1e-12)
BROKEN_OP(count_targets, a->count[0]++)
BROKEN_OP(grad_add, a->sum[a->n - 1]++)
BROKEN_OP(grad_finish, a->grad[a->n - 1] = nextafterf(a->grad[a->n - 1], 1e9f))
BROKEN_OP(grad_squares, a->squares[a->n_spans - 1] *= 1 + 1e-9)
BROKEN_OP(state_clip, c->state->clip *= 1 + 1e-9)
BROKEN_OP(adam, bump(&a->v[a->n - 1], 1e-4))
BROKEN_OP(sgd, bump(&a->param[a->n - 1], 1e-4))
BROKEN_OP(cast, bump(a->to, 1e-4))

#define SLOTS(X)                                                                                   \
    X(router_forward)                                                                              \
    X(router_assign)                                                                               \
    X(router_losses)                                                                               \
    X(router_backward)                                                                             \
    X(dispatch_forward)                                                                            \
    X(dispatch_backward)                                                                           \
    X(experts_forward)                                                                             \
    X(experts_backward_input)                                                                      \
    X(experts_backward_weight)                                                                     \
    X(combine_forward)                                                                             \
    X(combine_backward)                                                                            \
    SWT_OPS(X)

const swt_broken *swt_broken_tables(int *count) {
#define ROW(name) {.slot = #name},
    static swt_broken tables[] = {SLOTS(ROW)};
    int i = 0;
/* Each table is the CPU's with one slot replaced. */
#define FILL(slot_name)                                                                            \
    tables[i].ops = *swt_cpu_backend.ops;                                                          \
    tables[i++].ops.slot_name = broken_##slot_name;
    SLOTS(FILL)
    *count = i;
    return tables;
}
