#include "kernels/cpu/dropout.h"
#include "base/checked.h"
#include "kernels/dropout_experts.h"

enum { ROWS = 64 /* of a part */ };

swt_vec_dropout swt_cpu_dropout_of(const swt_ctx *c, const swt_dropout_mask *m, int64_t row) {
    return (swt_vec_dropout){.key = {(uint32_t)c->state->seed, (uint32_t)(c->state->seed >> 32)},
                             .row = m->first + (uint32_t)row,
                             .step = (uint32_t)c->state->step,
                             .purpose = (uint32_t)m->place * 65536u + m->block,
                             .limit = m->limit,
                             .scale = m->scale};
}

static void rows_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_dropout_args *a = args;
    const swt_dropout_dims *d = &a->dims;
    const int64_t C = d->C, end = swt_min((part + 1) * ROWS, d->blocks * d->rows);
    for (int64_t row = part * ROWS; row < end; row++) {
        const int64_t block = row / d->rows, r = row % d->rows;
        if (a->row_counts != NULL && r >= a->row_counts[block])
            continue;
        const int64_t number =
            block / d->sources * d->expert_step + block % d->sources * d->source_step + r;
        const swt_vec_dropout of = swt_cpu_dropout_of(c, &a->mask, number);
        const float *residual = a->residual != NULL ? (const float *)a->residual + row * C : NULL;
        swt_cpu_vec(c)->dropout((float *)a->y + row * C, residual, (const float *)a->x + row * C, C,
                                &of);
    }
}

swt_status swt_cpu_dropout(const swt_ctx *c, const swt_dropout_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->dims.blocks * a->dims.rows, ROWS), rows_part, a);
    return SWT_OK;
}

swt_status swt_cpu_drop_hidden(const swt_ctx *c, void *x, const int32_t *counts,
                               const swt_moe_dims *d) {
    const swt_dropout_args a = swt_dropout_of_experts(x, counts, d);
    return d->dropout.limit > 0 ? swt_cpu_dropout(c, &a) : SWT_OK;
}
