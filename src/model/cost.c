#include "model/cost.h"

double swt_dense_flops_per_token(const swt_dims *d) {
    double flops = 2.0 * (double)d->C * (double)d->V;
    for (int64_t i = 0; i < swt_sublayer_count(d); i++) {
        const swt_sublayer s = swt_sublayer_at(d, i);
        flops += swt_kind_of(&s)->flops_per_token(d);
    }
    return flops;
}

double swt_expert_flops_per_slot(const swt_dims *d) {
    return 2.0 * (double)d->C * (double)(swt_wi_width(d->ffn, d->F) + d->F);
}

double swt_step_slots(const swt_dims *d) {
    const int64_t slots = swt_sparse_layers(d) * d->M * d->E;
    return (double)slots * (double)swt_sent_slots(d, true);
}

double swt_step_flops(const swt_dims *d, double slots) {
    const double tokens = (double)(d->M * d->B * d->T);
    return 3.0 * (tokens * swt_dense_flops_per_token(d) + slots * swt_expert_flops_per_slot(d));
}

double swt_all_to_all_bytes(const swt_dims *d, const swt_dist *dist) {
    const double slot = (double)d->C * (double)swt_dtype_bytes(d->dtype), number = 4.0,
                 slots = (double)swt_sent_slots(d, true);
    const double out = (double)(dist->E - dist->El), back = (double)(dist->El * (dist->P - 1));
    const double layers = (double)swt_sparse_layers(d), turns = (double)swt_dist_turns(dist, d->M);
    const double blocks_out = number + 2.0 * slots * slot;
    const double blocks_back = 2.0 * slots * slot + slots * number;
    return layers * turns * (out * blocks_out + back * blocks_back);
}
