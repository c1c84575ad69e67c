#include "train/session.h"

#include "base/checked.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void swt_stack_lengths(const swt_options *o, int64_t *encoder_T, int64_t *T) {
    const bool two = o->model_stacks == SWT_STACKS_ENCODER_DECODER;
    *encoder_T = two ? o->dims.T : 0;
    *T = two && o->batch_target_len > 0 ? o->batch_target_len : o->dims.T;
}

swt_status swt_dims_from_options(swt_dims *out, const swt_options *o, int64_t vocab) {
    swt_dims d = o->dims;
    if (d.V != 0 && vocab != 0 && d.V != vocab)
        return SWT_FAIL(USAGE,
                        "model.vocab: is %lld, but the tokenizer or the weights have %lld; use 0",
                        (long long)d.V, (long long)vocab);
    if (d.V == 0)
        d.V = vocab;
    if (d.D == 0)
        d.D = d.C / d.H;
    if (d.pad_id >= d.V)
        return SWT_FAIL(USAGE, "model.pad_id: %lld is no token; use -1 (none) to %lld",
                        (long long)d.pad_id, (long long)d.V - 1);
    swt_stack_lengths(o, &d.encoder_T, &d.T);
    if (d.encoder_T > 0)
        d.encoder_L = o->model_encoder_layers > 0 ? o->model_encoder_layers : d.L;
    d.attn_scale =
        o->model_attn_scale == SWT_ATTN_SCALE_SQRT ? (float)(1.0 / sqrt((double)d.D)) : 1.0f;
    *out = d;
    return SWT_OK;
}

swt_status swt_dist_from_options(swt_dist *out, const swt_options *o, const swt_dims *d, int size,
                                 int rank) {
    return swt_dist_init(out, size, rank, d->E,
                         swt_sparse_layers(d) > 0 ? o->dist_expert_ranks : 0);
}

swt_optim_keeps swt_optim_keeps_of(const swt_options *o) {
    static const swt_optim_keeps keeps[] = {[SWT_OPTIM_ADAM] = SWT_KEEPS_MOMENTS,
                                            [SWT_OPTIM_SGD] = SWT_KEEPS_NOTHING,
                                            [SWT_OPTIM_ADAFACTOR] = SWT_KEEPS_FACTORS};
    return keeps[o->optim_name];
}

static swt_status plan_and_connect(swt_session *s, const swt_dims *d, bool training) {
    const swt_options *o = s->options;
    swt_status status = swt_dist_from_options(&s->dist, o, d, s->world->size, s->world->rank);
    if (status == SWT_OK)
        status = swt_model_plan(&s->model, d, &s->dist, s->backend->ops, training,
                                swt_optim_keeps_of(o));
    SWT_TRY(swt_comm_agree(s->world, status));
    return swt_dist_connect(&s->dist, s->world, s->devices);
}

/* Two steps of a model of zeros, so that all that is made at its first use is there before step 1:
 * the GPU's code, the products' plans, connections between ranks, events of clocks (of two steps,
 * as many as are queued at a time). Nothing of them is left. */
static swt_status warm_up(swt_session *s) {
    swt_model *m = &s->model;
    swt_step_clear_batch(m);
    SWT_TRY(swt_step_upload(m, m->turns));
    for (int i = 0; i < 2; i++)
        SWT_TRY(swt_step(m, &s->update));
    SWT_TRY(swt_model_wait(m));
    return swt_model_clear(m, (uint64_t)s->options->train_seed);
}

swt_status swt_session_open_model(swt_session *s, const swt_dims *d, bool training) {
    SWT_TRY(swt_session_open_device(s));
    SWT_TRY(plan_and_connect(s, d, training));
    s->model.ctx.stream = s->stream;
    SWT_TRY(swt_comm_agree(
        s->world, swt_model_commit(&s->model, &s->device, (uint64_t)s->options->train_seed)));
    s->update = swt_update_from_options(s->options);
    return training && s->device.table->queues ? warm_up(s) : SWT_OK;
}

swt_status swt_session_load_batch(swt_session *s, int64_t step) {
    swt_model *m = &s->model;
    const int64_t B = m->dims.B;
    swt_progress_phase(s->world->progress, SWT_PHASE_BATCH);
    SWT_TRY(swt_step_await_batch(m));
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const int64_t number = swt_dist_micro_batch(&s->dist, m->dims.M, turn, s->dist.rank);
        for (int64_t b = 0; b < B && number >= 0; b++) {
            const int64_t row = turn * B + b, w = ((step - 1) * m->dims.M + number) * B + b;
            const swt_window window = swt_step_row(m, row);
            SWT_TRY(swt_data_train_window(&s->data, w, &window));
            swt_step_end_row(m, row, m->dims.T);
        }
    }
    return swt_step_upload(m, m->turns);
}

void swt_session_close(swt_session *s) {
    swt_session_say_warnings(s);
    /* First what other ranks may wait for; memory only when no exchange can use it any more. */
    swt_dist_fini(&s->dist);
    swt_comm_close(&s->gpu_world);
    swt_model_fini(&s->model);
    if (s->stream != NULL)
        swt_stream_destroy(&s->device, s->stream);
    if (s->device.table != NULL)
        swt_device_close(&s->device);
    swt_data_fini(&s->data);
    swt_tokenizer_fini(&s->tokenizer);
}
