#include "model/cost.h"

double swt_dense_flops_per_token(const swt_dims *d) {
    const double C = (double)d->C, HD = (double)(d->H * d->D), T = (double)d->T;
    const double attention = 2.0 * 4.0 * C * HD + 2.0 * 2.0 * HD * (T + 1.0) / 2.0;
    const double sparse = (double)swt_sparse_layers(d), dense = (double)d->L - sparse;
    return (double)d->L * attention + sparse * 2.0 * C * (double)d->E +
           dense * 4.0 * C * (double)d->F + 2.0 * C * (double)d->V;
}

double swt_expert_flops_per_slot(const swt_dims *d) {
    return 4.0 * (double)d->C * (double)d->F;
}

double swt_step_slots(const swt_model *m) {
    const swt_dims *d = &m->dims;
    const swt_pass full = {.B = d->B, .T = d->T, .training = true};
    const int64_t sparse = swt_sparse_layers(d);
    return sparse > 0 ? (double)(sparse * d->M * d->E) * (double)swt_pass_moe_dims(m, &full, 0).K
                      : 0.0;
}

double swt_step_flops(const swt_dims *d, double slots) {
    const double tokens = (double)(d->M * d->B * d->T);
    return 3.0 * (tokens * swt_dense_flops_per_token(d) + slots * swt_expert_flops_per_slot(d));
}

double swt_all_to_all_bytes(const swt_dims *d, const swt_dist *dist, int64_t K) {
    const double slot = (double)d->C * (double)swt_dtype_bytes(d->dtype), number = 4.0,
                 slots = (double)K;
    const double out = (double)(dist->E - dist->El), back = (double)(dist->El * (dist->P - 1));
    const double layers = (double)swt_sparse_layers(d), turns = (double)swt_dist_turns(dist, d->M);
    const double blocks_out = number + 2.0 * slots * slot;
    const double blocks_back = 2.0 * slots * slot + slots * number;
    return layers * turns * (out * blocks_out + back * blocks_back);
}
