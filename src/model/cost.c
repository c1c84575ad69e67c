#include "model/cost.h"

double swt_dense_flops_per_token(const swt_dims *d) {
    const double tokens = (double)(d->encoder_T + d->T);
    double flops = 2.0 * (double)d->C * (double)d->V * (double)d->T / tokens;
    for (int64_t i = 0; i < swt_sublayer_count(d); i++) {
        const swt_sublayer s = swt_sublayer_at(d, i);
        flops += swt_kind_of(&s)->flops_per_token(d, s.stack) *
                 (double)swt_stack_positions(d, s.stack) / tokens;
    }
    return flops;
}

double swt_expert_flops_per_slot(const swt_dims *d) {
    return 2.0 * (double)d->C * (double)(swt_wi_width(d->ffn, d->F) + d->F);
}

double swt_step_routes(const swt_dims *d) {
    double routes = 0.0;
    for (int stack = 0; stack < SWT_STACKS; stack++)
        routes += (double)(swt_sparse_blocks(d, (swt_stack)stack) * d->M * d->B) *
                  (double)swt_stack_positions(d, (swt_stack)stack);
    return routes;
}

double swt_step_slots(const swt_dims *d) {
    double slots = 0.0;
    for (int stack = 0; stack < SWT_STACKS; stack++) {
        const int64_t blocks = swt_sparse_blocks(d, (swt_stack)stack);
        if (blocks > 0)
            slots +=
                (double)(blocks * d->M * d->E) * (double)swt_sent_slots(d, (swt_stack)stack, true);
    }
    return slots;
}

double swt_step_flops(const swt_dims *d, double slots) {
    const double tokens = (double)swt_step_tokens(d);
    return 3.0 * (tokens * swt_dense_flops_per_token(d) + slots * swt_expert_flops_per_slot(d));
}

double swt_all_to_all_bytes(const swt_dims *d, const swt_dist *dist) {
    const double slot = (double)d->C * (double)swt_dtype_bytes(d->dtype), number = 4.0;
    const double out = (double)(dist->E - dist->El), back = (double)(dist->El * (dist->P - 1));
    const double turns = (double)swt_dist_turns(dist, d->M);
    double bytes = 0.0;
    for (int stack = 0; stack < SWT_STACKS; stack++) {
        const double layers = (double)swt_sparse_blocks(d, (swt_stack)stack);
        if (layers == 0.0)
            continue;
        const double slots = (double)swt_sent_slots(d, (swt_stack)stack, true);
        const double blocks_out = number + 2.0 * slots * slot;
        const double blocks_back = 2.0 * slots * slot + slots * number;
        bytes += layers * turns * (out * blocks_out + back * blocks_back);
    }
    return bytes;
}
