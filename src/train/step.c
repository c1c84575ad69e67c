#include "train/step.h"

#include "base/words.h"
#include "model/sums.h"

#include <string.h>

#include <stdio.h>

swt_update_rule swt_update_from_options(const swt_options *o) {
    swt_update_rule u = {.name = (swt_optim_name)o->optim_name,
                         .schedule = o->schedule,
                         .adam = o->adam,
                         .adafactor = {.clip_update = o->optim_clip_update,
                                       .scale_parameter = o->optim_scale_parameter},
                         .clip_norm = o->optim_clip_norm,
                         .skips_most = o->run_nonfinite == SWT_NONFINITE_SKIP ? SWT_SKIPS_MOST : 0};
    u.schedule.width = (double)o->dims.C;
    u.schedule.total_steps = (double)o->train_steps;
    u.schedule.beta1 = o->adam.beta1;
    u.schedule.beta2 = o->adam.beta2;
    return u;
}

/* The copies have a stream of their own, so that waiting for them is not waiting for the steps that
 * are queued behind them. */
swt_status swt_step_await_batch(swt_model *m) {
    SWT_TRY(swt_comm_wait(m->dist->devices, m->upload));
    return swt_stream_sync(m->ctx.device, m->upload);
}

/* A part of the batch: on the host, and where it goes. */
typedef struct batch_part {
    int32_t *to, *from;
    int64_t count;
} batch_part;

/* Those of so many turns; returns how many there are. */
static int batch_parts(const swt_model *m, int64_t turns, batch_part out[6]) {
    const swt_shared_acts *a = &m->acts;
    const int64_t B = turns * m->dims.B, N = B * m->dims.T, S = B * m->dims.encoder_T;
    const batch_part parts[6] = {{a->tokens, m->host_tokens, N},
                                 {a->targets, m->host_targets, N},
                                 {a->routed, m->host_routed, N},
                                 {a->inputs, m->host_inputs, S},
                                 {a->inputs_routed, m->host_inputs_routed, S},
                                 {a->lengths, m->host_lengths, B}};
    memcpy(out, parts, sizeof parts);
    return m->dims.encoder_L > 0 ? 6 : 3;
}

void swt_step_clear_batch(swt_model *m) {
    batch_part parts[6];
    const int n = batch_parts(m, m->turns, parts);
    for (int i = 0; i < n; i++)
        memset(parts[i].from, 0, (size_t)parts[i].count * sizeof(int32_t));
}

swt_window swt_step_row(const swt_model *m, int64_t row) {
    const int64_t T = m->dims.T, S = m->dims.encoder_T;
    return (swt_window){.tokens = m->host_tokens + row * T,
                        .targets = m->host_targets + row * T,
                        .inputs = S > 0 ? m->host_inputs + row * S : NULL};
}

void swt_step_end_row(swt_model *m, int64_t row, int64_t filled) {
    const int64_t T = m->dims.T, S = m->dims.encoder_T;
    const swt_window w = swt_step_row(m, row);
    for (int64_t t = 0; t < T; t++) {
        m->host_routed[row * T + t] = t < filled;
        if (t < filled)
            continue;
        w.tokens[t] = 0;
        w.targets[t] = -1;
    }
    for (int64_t t = 0; t < S; t++) {
        m->host_inputs_routed[row * S + t] = filled > 0;
        w.inputs[t] = filled > 0 ? w.inputs[t] : 0;
    }
    if (S > 0)
        m->host_lengths[row] = (int32_t)S;
}

swt_status swt_step_upload(swt_model *m, int64_t turns) {
    batch_part parts[6];
    const int n = batch_parts(m, turns, parts);
    swt_device *device = m->ctx.device;
    SWT_TRY(swt_event_record(device, m->uploaded, m->ctx.stream)); /* who reads the last batch */
    SWT_TRY(swt_stream_wait(device, m->upload, m->uploaded));
    for (int i = 0; i < n; i++)
        SWT_TRY(swt_device_copy(device, m->upload, SWT_TO_DEVICE, parts[i].to, parts[i].from,
                                (size_t)parts[i].count * sizeof(int32_t)));
    SWT_TRY(swt_event_record(device, m->uploaded, m->upload));
    return swt_stream_wait(device, m->ctx.stream, m->uploaded);
}

swt_status swt_step_begin(swt_model *m, const swt_update_rule *u) {
    const swt_ctx *c = &m->ctx;
    const int64_t N = m->dims.B * m->dims.T;
    int64_t own = 0; /* micro-batches of this rank that are not empty: they come first */
    for (int64_t turn = 0; turn < m->turns; turn++)
        own += swt_dist_micro_batch(m->dist, m->dims.M, turn, m->dist->rank) >= 0;
    SWT_TRY(swt_state_advance(c, &(swt_state_advance_args){.schedule = u->schedule}));
    SWT_TRY(swt_count_targets(c, &(swt_count_targets_args){.count = &c->state->targets,
                                                           .targets = m->acts.targets,
                                                           .n = own * N}));
    return swt_comm_all_reduce_i64(m->dist->devices, &c->state->targets, 1, c->stream);
}

swt_pass swt_step_pass(const swt_model *m, int64_t turn) {
    const int64_t number = swt_dist_micro_batch(m->dist, m->dims.M, turn, m->dist->rank);
    const swt_dims *d = &m->dims;
    swt_pass pass = {.B = number >= 0 ? d->B : 0,
                     .targets = m->acts.targets + turn * d->B * d->T,
                     .micro_batch = number >= 0 ? number : 0,
                     .turn = turn,
                     .training = true};
    swt_pass_sequences(m, &pass);
    return pass;
}

static swt_status run_turn(swt_model *m, int64_t turn) {
    const swt_pass pass = swt_step_pass(m, turn);
    swt_progress *progress = m->dist->host->progress;
    swt_progress_phase(progress, SWT_PHASE_FORWARD);
    SWT_TRY(swt_model_forward(m, &pass));
    SWT_TRY(swt_model_loss(m, &pass, true));
    swt_progress_phase(progress, SWT_PHASE_BACKWARD);
    return swt_model_backward(m, &pass);
}

swt_status swt_step_gradients(swt_model *m, const swt_update_rule *u) {
    for (int64_t turn = 0; turn < m->turns; turn++) {
        SWT_TRY(run_turn(m, turn));
        if (u->look != NULL)
            SWT_TRY(u->look(u->look_context));
    }
    return SWT_OK;
}

/* The squares of each tensor come from one rank and zero from the others, so their integer sum is
 * an exact copy (as in swt_comm_share_f64). Behind them travel the ranks' flags: their sum, too, is
 * one of integers. */
static swt_status clip(swt_model *m, const swt_update_rule *u) {
    const swt_ctx *c = &m->ctx;
    const int64_t n = m->params.count;
    int64_t *bits = (int64_t *)(void *)m->squares;
    SWT_TRY(swt_device_set(c->device, c->stream, m->squares, 0, (size_t)(n + 1) * sizeof(double)));
    SWT_TRY(swt_grad_squares(
        c, &(swt_grad_squares_args){
               .squares = m->squares, .grad = m->grad, .spans = m->spans, .n_spans = m->n_spans}));
    SWT_TRY(swt_device_copy(c->device, c->stream, SWT_ON_DEVICE, &bits[n], &c->state->nonfinite,
                            sizeof *bits));
    SWT_TRY(swt_comm_all_reduce_i64(m->dist->devices, bits, n + 1, c->stream));
    return swt_state_clip(c, &(swt_state_clip_args){.squares = m->squares,
                                                    .nonfinite_ranks = &bits[n],
                                                    .n = n,
                                                    .max_norm = u->clip_norm,
                                                    .skips_most = u->skips_most});
}

swt_status swt_step_reduce(swt_model *m, const swt_update_rule *u) {
    swt_progress_phase(m->dist->host->progress, SWT_PHASE_REDUCE);
    SWT_TRY(swt_sums_reduce(m));
    return clip(m, u);
}

static swt_status update_factored(swt_model *m, const swt_update_rule *u) {
    for (int64_t i = 0; i < m->factors.n_groups; i++) {
        const swt_factor_group *g = &m->factors.groups[i];
        SWT_TRY(swt_adafactor(&m->ctx, &(swt_adafactor_args){.param = m->param + g->offset,
                                                             .row = swt_slice(m->factor, g->row),
                                                             .col = m->factor + g->col,
                                                             .grad = m->grad + g->offset,
                                                             .scratch = m->acts.scratch,
                                                             .n = g->n,
                                                             .rows = g->rows,
                                                             .cols = g->cols,
                                                             .hyper = u->adafactor}));
    }
    return SWT_OK;
}

swt_status swt_step_update(swt_model *m, const swt_update_rule *u) {
    const int64_t n = m->params.end;
    swt_progress_phase(m->dist->host->progress, SWT_PHASE_UPDATE);
    if (u->name == SWT_OPTIM_ADAFACTOR)
        SWT_TRY(update_factored(m, u));
    else if (u->name == SWT_OPTIM_ADAM)
        SWT_TRY(swt_adam(&m->ctx, &(swt_adam_args){.param = m->param,
                                                   .m = m->first_moment,
                                                   .v = m->second_moment,
                                                   .grad = m->grad,
                                                   .n = n,
                                                   .hyper = u->adam}));
    else
        SWT_TRY(swt_sgd(&m->ctx, &(swt_sgd_args){.param = m->param, .grad = m->grad, .n = n}));
    return swt_model_round_weights(m);
}

swt_status swt_step(swt_model *m, const swt_update_rule *u) {
    SWT_TRY(swt_step_begin(m, u));
    SWT_TRY(swt_step_gradients(m, u));
    SWT_TRY(swt_step_reduce(m, u));
    return swt_step_update(m, u);
}

swt_status swt_step_state_read(swt_model *m, swt_step_state *out) {
    SWT_TRY(swt_model_read(m, out, m->ctx.state, sizeof *out));
    if (out->nonfinite != SWT_STEP_STOPPED)
        return SWT_OK;
    char before[64] = "";
    if (out->skipped_in_row > 0)
        snprintf(before, sizeof before, ", as in the %lld step%s before it",
                 (long long)out->skipped_in_row, swt_plural(out->skipped_in_row));
    const swt_status status =
        SWT_FAIL(NUMBERS,
                 "step %lld: a gradient is not finite or too large%s; lower optim.lr, clip with "
                 "optim.clip_norm, or look at the data",
                 (long long)out->step, before);
    return swt_comm_agree(m->dist->host, status);
}
