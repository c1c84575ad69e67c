#include "bench/bed.h"

#include "base/rng.h"

#include <stdlib.h>

swt_status bed_random(swt_session *s, void *out, int64_t count, double scale, uint64_t seed) {
    const size_t bytes = (size_t)count * sizeof(float);
    float *values = malloc(bytes);
    if (values == NULL)
        return SWT_FAIL(MEMORY, "random numbers: no room for %lld", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        const swt_rng_u32x4 r =
            swt_rng(seed, (uint32_t)i, (uint32_t)s->world->rank, 0, SWT_RNG_INIT, 0);
        values[i] = (float)(scale * (2.0 * (double)swt_rng_uniform(r.v[0]) - 1.0));
    }
    const swt_status status = swt_device_copy(&s->device, NULL, SWT_TO_DEVICE, out, values, bytes);
    free(values);
    return status;
}

swt_status bed_open(swt_session *s, int64_t V) {
    const swt_options *o = s->options;
    swt_model *m = &s->model;
    swt_dims d;
    SWT_TRY(swt_comm_agree(s->world, swt_dims_from_options(&d, o, V)));
    SWT_TRY(swt_session_open_model(s, &d, true));
    SWT_TRY(swt_comm_agree(s->world,
                           swt_model_init_values(m, (swt_init)o->model_init, o->model_init_scale,
                                                 (uint64_t)o->train_seed)));
    SWT_TRY(swt_comm_agree(s->world, bed_random(s, m->grad, m->params.end, 1e-3, 1)));
    for (int64_t i = 0; i < m->turns * d.B * d.T; i++) {
        const swt_rng_u32x4 r =
            swt_rng(2, (uint32_t)i, (uint32_t)s->world->rank, 0, SWT_RNG_OFFSET, 0);
        m->host_tokens[i] = (int32_t)swt_rng_below(r.v[0], r.v[1], (uint64_t)V);
        m->host_targets[i] = (int32_t)swt_rng_below(r.v[2], r.v[3], (uint64_t)V);
        m->host_routed[i] = 1;
    }
    SWT_TRY(swt_step_upload(m, m->turns));
    return swt_step_begin(m, &s->update);
}
