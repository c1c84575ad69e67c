/* A step's forward pass, gradients and their reduction over all ranks, against the same step that
 * each rank computes alone: the same bits. And the step of the tested backend against the CPU's. */
#include "judge/checks.h"
#include "train/step.h"

#include <math.h>
#include <stdlib.h>

static const swt_update_rule update = {.name = SWT_OPTIM_SGD,
                                       .schedule = {.kind = SWT_SCHEDULE_CONSTANT, .lr = 0.01},
                                       .clip_norm = 0.5};

/* A model on some ranks, and what its step gave. */
typedef struct run {
    swt_comm self; /* of a model alone */
    swt_dist dist;
    swt_model m;
    float *logits; /* (turns, N, V) host: of this rank's micro-batches */
    float *grad;   /* (params.end) host */
    swt_step_state state;
} run;

/* Random experts, capacity that drops tokens, a dense and a sparse block. */
static swt_dims model_dims(int64_t E, int64_t M) {
    return (swt_dims){.B = 2,
                      .T = 9,
                      .C = 12,
                      .H = 2,
                      .D = 6,
                      .F = 20,
                      .V = 13,
                      .L = 2,
                      .E = E,
                      .M = M,
                      .every = 2,
                      .attn_scale = 0.4f,
                      .bias = true,
                      .capacity_factor = 1,
                      .dropped_output = SWT_DROPPED_GATED_INPUT,
                      .aux_coef = 0.1,
                      .z_coef = 0.01,
                      .pad_id = -1,
                      .route_padding = true};
}

/* The batch is a function of the seed and of a token's place in it. */
static void fill_batch(swt_model *m, uint64_t seed) {
    const swt_dims *d = &m->dims;
    const int64_t N = d->B * d->T;
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const int64_t number = swt_dist_micro_batch(m->dist, d->M, turn, m->dist->rank);
        for (int64_t n = 0; n < N && number >= 0; n++) {
            const swt_rng_u32x4 r =
                swt_rng(seed, (uint32_t)(number * N + n), 0, 0, SWT_RNG_SAMPLE, 1);
            m->host_tokens[turn * N + n] = (int32_t)(r.v[0] % (uint32_t)d->V);
            m->host_targets[turn * N + n] = (int32_t)(r.v[1] % (uint32_t)(d->V + 1)) - 1;
            m->host_routed[turn * N + n] = r.v[2] % 8 > 0;
        }
    }
}

/* Lay out, plan, allocate and fill a model; without a host the rank is alone. */
static swt_status open_run(run *r, const swt_trial_setup *on, const swt_dims *d) {
    const uint64_t seed = on->seed;
    *r = (run){0};
    swt_comm_open_self(&r->self);
    swt_comm *host = on->host != NULL ? on->host : &r->self;
    swt_comm *world = on->host != NULL ? on->world : &r->self;
    SWT_TRY(swt_dist_init(&r->dist, host->size, host->rank, d->E, 0));
    SWT_TRY(swt_model_plan(&r->m, d, &r->dist, on->ops, true, SWT_KEEPS_NOTHING));
    r->m.ctx.stream = on->stream;
    SWT_TRY(swt_dist_connect(&r->dist, host, world));
    SWT_TRY(swt_model_commit(&r->m, on->device, seed));
    SWT_TRY(swt_model_init_values(&r->m, SWT_INIT_PYTORCH, 0, seed));
    r->logits = calloc((size_t)(r->m.turns * d->B * d->T * d->V), sizeof *r->logits);
    r->grad = calloc((size_t)r->m.params.end, sizeof *r->grad);
    if (r->logits == NULL || r->grad == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for the gradients of the self-test's model");
    return SWT_OK;
}

/* Not orderly: some rank has met an error in the middle of an exchange. Closing would wait for it;
 * the end of all ranks is near. */
static void close_run(run *r, bool orderly) {
    free(r->logits);
    free(r->grad);
    if (!orderly)
        return;
    swt_dist_fini(&r->dist);
    swt_model_fini(&r->m);
}

static swt_status step(run *r, uint64_t seed) {
    swt_model *m = &r->m;
    const int64_t logits = m->dims.B * m->dims.T * m->dims.V;
    SWT_TRY(swt_step_await_batch(m));
    fill_batch(m, seed);
    SWT_TRY(swt_step_upload(m, m->turns));
    SWT_TRY(swt_step_begin(m, &update));
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const swt_pass pass = swt_step_pass(m, turn);
        SWT_TRY(swt_model_forward(m, &pass));
        if (pass.B > 0)
            SWT_TRY(swt_model_read(m, r->logits + turn * logits, m->acts.logits,
                                   (size_t)logits * sizeof *r->logits));
        SWT_TRY(swt_model_loss(m, &pass, true));
        SWT_TRY(swt_model_backward(m, &pass));
    }
    SWT_TRY(swt_step_reduce(m, &update));
    SWT_TRY(swt_model_read(m, r->grad, m->grad, (size_t)m->params.end * sizeof *r->grad));
    return swt_model_read(m, &r->state, m->ctx.state, sizeof r->state);
}

/* This rank's logits and gradients are those of the model alone, to the bit. */
static void expect_same(swt_trial *t, const run *shared, const run *alone) {
    const swt_dims *d = &shared->m.dims;
    const int64_t logits = d->B * d->T * d->V;
    for (int64_t turn = 0; turn < shared->m.turns; turn++) {
        const int64_t number = swt_dist_micro_batch(&shared->dist, d->M, turn, shared->dist.rank);
        if (number >= 0)
            swt_trial_same(t, "logits", shared->logits + turn * logits,
                           alone->logits + number * logits, logits, SWT_F32);
    }
    for (int64_t i = 0; i < shared->m.params.count; i++) {
        const swt_param *p = &shared->m.params.table[i], *q = &alone->m.params.table[i];
        if (p->offset >= 0)
            swt_trial_same(t, p->name, shared->grad + p->offset, alone->grad + q->offset, p->count,
                           SWT_F32);
    }
    swt_trial_number(t, "nonfinite", (double)shared->state.nonfinite,
                     (double)alone->state.nonfinite, 0);
    swt_trial_number(t, "targets", (double)shared->state.targets, (double)alone->state.targets, 0);
    swt_trial_number(t, "grad_norm", shared->state.grad_norm, alone->state.grad_norm, 0);
    swt_trial_number(t, "clip", shared->state.clip, alone->state.clip, 0);
}

/* Where the trial works. */
static swt_trial_setup place_of(const swt_trial *t) {
    return (swt_trial_setup){.ops = t->ctx.ops,
                             .device = t->ctx.device,
                             .stream = t->ctx.stream,
                             .host = t->host,
                             .world = t->world,
                             .seed = t->seed};
}

static swt_status ranks_case(swt_trial *t, const swt_dims *d) {
    const swt_trial_setup together = place_of(t);
    swt_trial_setup apart = together;
    apart.host = NULL;
    run shared, alone = {0};
    swt_status status = open_run(&shared, &together, d);
    if (status == SWT_OK)
        status = open_run(&alone, &apart, d);
    if (status == SWT_OK)
        status = step(&shared, t->seed);
    if (status == SWT_OK)
        status = step(&alone, t->seed);
    if (status == SWT_OK)
        expect_same(t, &shared, &alone);
    close_run(&alone, true);
    close_run(&shared, status == SWT_OK || t->host->size == 1);
    return status;
}

/* A micro-batch for each rank; experts that do not divide by the ranks. */
swt_status swt_check_ranks_against_one(swt_trial *t) {
    const int size = t->world->size;
    const swt_dims d = model_dims(2 * size + 1, size);
    swt_trial_begin(t, "E=%lld M=%lld", (long long)d.E, (long long)d.M);
    return ranks_case(t, &d);
}

/* Ranks that have nothing to do in the last turn, with fewer experts than ranks (several groups of
 * them) and with more; groups by sequence, tokens dropped at random and by priority, jitter,
 * dropout. */
swt_status swt_check_ranks_uneven(swt_trial *t) {
    const int size = t->world->size;
    for (int i = 0; i < 2; i++) {
        swt_dims d = model_dims(i == 0 && size > 1 ? size - 1 : size + 1, size + 1);
        d.drop = i == 0 ? SWT_DROP_RANDOM : SWT_DROP_PRIORITY;
        d.gate = i == 0 ? SWT_GATE_SCALE : SWT_GATE_UNIT;
        d.group = i == 0 ? SWT_GROUP_SEQUENCE : SWT_GROUP_MICRO_BATCH;
        d.dropped_output = i == 0 ? SWT_DROPPED_ZERO : SWT_DROPPED_GATED_INPUT;
        d.jitter = 0.1;
        d.dropout = 0.1;
        d.expert_dropout = 0.3;
        swt_trial_begin(t, "E=%lld M=%lld number %d", (long long)d.E, (long long)d.M, i);
        SWT_TRY(ranks_case(t, &d));
    }
    return SWT_OK;
}

static double rms(const float *x, int64_t n) {
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    return sqrt(squares / fmax(1, (double)n));
}

/* The same numbers from other sums: a step is some hundred roundings deep, 2e-5 of a tensor's size
 * at most, and of a tenth of the whole gradient's where a tensor's is next to nothing (the bias of
 * k, which no score depends on). */
static void expect_near(swt_trial *t, const run *got, const run *want) {
    const double tolerance = 2e-5, whole = rms(want->grad, want->m.params.end);
    const int64_t logits = want->m.turns * want->m.dims.B * want->m.dims.T * want->m.dims.V;
    double *wide = swt_trial_widen(t, want->logits, logits);
    swt_trial_close(t, "logits", got->logits, wide, logits, tolerance, 0);
    for (int64_t i = 0; i < want->m.params.count; i++) {
        const swt_param *p = &want->m.params.table[i];
        swt_trial_close(t, p->name, got->grad + p->offset,
                        swt_trial_widen(t, want->grad + p->offset, p->count), p->count, tolerance,
                        whole / 10);
    }
    swt_trial_number(t, "grad_norm", got->state.grad_norm, want->state.grad_norm,
                     tolerance * want->state.grad_norm);
}

swt_status swt_check_step_against_cpu(swt_trial *t) {
    const swt_dims d = model_dims(5, 2);
    swt_device cpu;
    run got, want = {0};
    swt_trial_begin(t, "E=%lld M=%lld", (long long)d.E, (long long)d.M);
    SWT_TRY(swt_cpu_backend.open(&cpu, 0, 1));
    swt_trial_setup on = place_of(t);
    on.host = NULL;
    swt_status status = open_run(&got, &on, &d);
    on = (swt_trial_setup){.ops = swt_cpu_backend.ops, .device = &cpu, .seed = t->seed};
    if (status == SWT_OK)
        status = open_run(&want, &on, &d);
    if (status == SWT_OK)
        status = step(&got, t->seed);
    if (status == SWT_OK)
        status = step(&want, t->seed);
    if (status == SWT_OK)
        expect_near(t, &got, &want);
    close_run(&want, true);
    close_run(&got, true);
    swt_device_close(&cpu);
    return status;
}
