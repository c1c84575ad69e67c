#include "model/sums.h"

/* Without replicas the group's sum is the batch's, and the last turn's pass knows it. */
static bool last_turn_finishes_experts(const swt_model *m) {
    return swt_dist_replicas(m->dist) == 1;
}

bool swt_sums_exact(const swt_model *m) {
    return m->dims.M > 1;
}

int64_t swt_sums_count(const swt_model *m) {
    if (!swt_sums_exact(m))
        return 0;
    const bool outlive = m->turns > 1 || !last_turn_finishes_experts(m);
    return outlive || m->ctx.ops->expert_sums ? m->params.end : m->params.shared_end;
}

double swt_sums_limit(const swt_model *m) {
    return 0x1p62 / (double)m->dims.M;
}

swt_status swt_sums_add(swt_model *m, const swt_pass *pass) {
    if (!swt_sums_exact(m))
        return SWT_OK;
    return swt_grad_add(&m->ctx, &(swt_grad_add_args){.sum = m->sum,
                                                      .grad = m->grad,
                                                      .n = m->params.shared_end,
                                                      .limit = swt_sums_limit(m),
                                                      .first = pass->turn == 0});
}

static int64_t *sum_of(const swt_model *m, int64_t offset) {
    return offset >= 0 && offset < m->sum_count ? m->sum + offset : NULL;
}

swt_expert_sums swt_sums_of_experts(const swt_model *m, const swt_pass *pass, const swt_places *p) {
    const bool last_turn = pass->turn == m->turns - 1;
    return (swt_expert_sums){.exact = swt_sums_exact(m),
                             .wi = sum_of(m, p->wi.weight),
                             .bi = sum_of(m, p->wi.bias),
                             .wo = sum_of(m, p->wo.weight),
                             .bo = sum_of(m, p->wo.bias),
                             .limit = swt_sums_limit(m),
                             .first = pass->turn == 0,
                             .last = last_turn && last_turn_finishes_experts(m)};
}

static swt_status copy_gradients(swt_model *m) {
    const int64_t shared = m->params.shared_end, experts = m->params.end - shared;
    SWT_TRY(swt_comm_broadcast(m->dist->devices, m->grad, (size_t)shared * sizeof(float), 0,
                               m->ctx.stream));
    return swt_comm_broadcast(&m->dist->replica_group, m->grad + shared,
                              (size_t)experts * sizeof(float), 0, m->ctx.stream);
}

swt_status swt_sums_reduce(swt_model *m) {
    if (!swt_sums_exact(m))
        return copy_gradients(m);
    const int64_t shared = m->params.shared_end;
    int64_t finished = shared;
    SWT_TRY(swt_comm_all_reduce_i64(m->dist->devices, m->sum, shared, m->ctx.stream));
    if (!last_turn_finishes_experts(m)) {
        finished = m->params.end;
        SWT_TRY(swt_comm_all_reduce_i64(&m->dist->replica_group, m->sum + shared, finished - shared,
                                        m->ctx.stream));
    }
    return swt_grad_finish(&m->ctx,
                           &(swt_grad_finish_args){.grad = m->grad, .sum = m->sum, .n = finished});
}
