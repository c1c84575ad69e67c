#include "judge/broken.h"
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

/* BROKEN(slot, what goes wrong), with `a` the operation's arguments. */
#define BROKEN(slot, damage)                                                                       \
    static swt_status broken_##slot(const swt_ctx *c, const swt_##slot##_args *a) {                \
        SWT_TRY(swt_cpu_backend.ops->slot(c, a));                                                  \
        damage;                                                                                    \
        return SWT_OK;                                                                             \
    }

BROKEN(linear_forward, bump(a->y, 0.01))
BROKEN(linear_backward_input, bump(a->dx, 0.01))
BROKEN(linear_backward_weight, bump(a->dbias != NULL ? a->dbias : a->dw, 0.01))
BROKEN(embedding_forward, bump(a->x, 1e-6))
BROKEN(embedding_backward, bump(a->dtable, 1e-3))
BROKEN(norm_forward, bump(a->y, 1e-3))
BROKEN(norm_backward, bump(a->dx, 1e-2))
BROKEN(attention_forward, bump(a->lse, 1e-3))
BROKEN(attention_backward, bump(a->dq, 1e-2))
BROKEN(cross_entropy, a->stats[0] += 1e-2)
BROKEN(router_forward, if (a->dims.N > 0) bump(a->lse, 1e-2))
BROKEN(router_assign, a->counts[0]++)
BROKEN(router_losses, a->stats[SWT_ROUTER_AUX] *= 1 + 1e-9)
BROKEN(router_backward, bump(a->dw, 0.05))
BROKEN(dispatch_forward, bump_rows(a->send, a->dims.E * a->dims.K, a->dims.C))
BROKEN(dispatch_backward, bump(a->dgate, 1e-5))
BROKEN(experts_forward, bump_rows(a->y, a->dims.El * a->dims.P * a->dims.K, a->dims.C))
BROKEN(experts_backward_input, bump_rows(a->dot, a->dims.El * a->dims.P * a->dims.K, 1))
BROKEN(experts_backward_weight, bump(a->dwo, 0.05))
BROKEN(combine_forward, bump(a->y, 1e-5))
BROKEN(combine_backward, bump(a->dh, 1e-4))
BROKEN(state_advance, c->state->correction2 += 1e-12)
BROKEN(count_targets, a->count[0]++)
BROKEN(grad_add, a->sum[a->n - 1]++)
BROKEN(grad_finish, a->grad[a->n - 1] = nextafterf(a->grad[a->n - 1], 1e9f))
BROKEN(grad_squares, a->squares[a->n_spans - 1] *= 1 + 1e-9)
BROKEN(state_clip, c->state->clip *= 1 + 1e-9)
BROKEN(adam, bump(&a->v[a->n - 1], 1e-4))
BROKEN(sgd, bump(&a->param[a->n - 1], 1e-4))
BROKEN(cast, bump(a->to, 1e-4))

const swt_broken *swt_broken_tables(void) {
#define ROW(name) [SWT_OP_##name] = {.slot = #name},
    static swt_broken tables[] = {SWT_OPS(ROW)};
/* Each table is the CPU's with one slot replaced. */
#define FILL(slot_name)                                                                            \
    tables[SWT_OP_##slot_name].ops = *swt_cpu_backend.ops;                                         \
    tables[SWT_OP_##slot_name].ops.slot_name = broken_##slot_name;
    SWT_OPS(FILL)
    return tables;
}
