/* The model's memory: one walk over every tensor, run once to plan and once to use. */
#include "base/checked.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>

/* The walk. Errors stop it: the first failing take is remembered, later ones do nothing. */
typedef struct walk {
    swt_model *m;
    swt_status status;
} walk;

static void *take(walk *w, swt_arena_category category, swt_dtype dtype, int64_t count) {
    void *at = NULL;
    if (w->status == SWT_OK)
        w->status = swt_arena_take(&w->m->arenas[category], &at, count, dtype);
    return at;
}

static void take_params(walk *w) {
    swt_model *m = w->m;
    const int64_t n = m->params.end;
    m->param = take(w, SWT_ARENA_PARAM, SWT_F32, n);
    m->weights = m->ctx.dtype == SWT_F32 ? m->param : take(w, SWT_ARENA_PARAM, m->ctx.dtype, n);
    if (!m->training)
        return;
    m->grad = take(w, SWT_ARENA_GRAD, SWT_F32, n);
    if (m->sum_count > 0)
        m->sum = take(w, SWT_ARENA_GRAD, SWT_I64, m->sum_count);
    m->squares = take(w, SWT_ARENA_GRAD, SWT_F64, m->params.count + 1);
    m->spans = take(w, SWT_ARENA_GRAD, SWT_I64, m->n_spans * (int64_t)(sizeof(swt_span) / 8));
    if (m->moments) {
        m->m = take(w, SWT_ARENA_OPT, SWT_F32, n);
        m->v = take(w, SWT_ARENA_OPT, SWT_F32, n);
    }
}

static void take_moe(walk *w, swt_moe_acts *a) {
    const swt_dims *d = &w->m->dims;
    const swt_dist *dist = w->m->dist;
    const int64_t N = d->B * d->T, G = swt_groups_per_micro_batch(d, d->B);
    const int64_t rows = dist->El * dist->P * w->m->K;
    const swt_dtype act = w->m->ctx.dtype;
    a->probs = take(w, SWT_ARENA_ACT, SWT_F32, N * d->E);
    a->lse = take(w, SWT_ARENA_ACT, SWT_F32, N);
    a->expert = take(w, SWT_ARENA_ACT, SWT_I32, N);
    a->gate = take(w, SWT_ARENA_ACT, SWT_F32, N);
    a->slot = take(w, SWT_ARENA_ACT, SWT_I32, N);
    a->kept = take(w, SWT_ARENA_ACT, SWT_I32, d->E);
    a->group_counts = take(w, SWT_ARENA_ACT, SWT_I32, G * d->E);
    a->slot_counts = take(w, SWT_ARENA_ACT, SWT_I32, dist->El * dist->P);
    a->x = take(w, SWT_ARENA_ACT, act, rows * d->C);
    a->hidden = take(w, SWT_ARENA_ACT, act, rows * d->F);
}

static void take_block(walk *w, swt_block_acts *a, bool sparse) {
    const swt_dims *d = &w->m->dims;
    const int64_t N = d->B * d->T;
    const swt_dtype act = w->m->ctx.dtype;
    a->x = take(w, SWT_ARENA_ACT, act, N * d->C);
    a->qkv = take(w, SWT_ARENA_ACT, act, N * 3 * d->H * d->D);
    a->lse = take(w, SWT_ARENA_ACT, SWT_F32, N * d->H);
    a->att = take(w, SWT_ARENA_ACT, act, N * d->H * d->D);
    a->mid = take(w, SWT_ARENA_ACT, act, N * d->C);
    if (sparse)
        take_moe(w, &a->moe);
    else
        a->hidden = take(w, SWT_ARENA_ACT, act, N * d->F);
}

static int64_t scratch_bytes(const swt_model *m) {
    const swt_dims *d = &m->dims;
    const int64_t N = d->B * d->T;
    int64_t bytes =
        swt_max(swt_norm_backward_scratch_bytes(N, d->C), swt_cross_entropy_scratch_bytes(N));
    const swt_pass full = {.B = d->B, .T = d->T, .training = true};
    if (swt_sparse_layers(d) > 0) {
        const swt_moe_dims moe = swt_pass_moe_dims(m, &full, 0);
        bytes = swt_max(bytes, swt_router_scratch_bytes(&moe));
    }
    return bytes;
}

static void take_backward(walk *w) {
    const swt_dims *d = &w->m->dims;
    swt_shared_acts *a = &w->m->acts;
    const int64_t N = d->B * d->T, rows = w->m->dist->El * w->m->dist->P * w->m->K;
    const swt_dtype act = w->m->ctx.dtype;
    a->dx = take(w, SWT_ARENA_ACT, act, N * d->C);
    a->dh = take(w, SWT_ARENA_ACT, act, N * d->C);
    a->dqkv = take(w, SWT_ARENA_ACT, act, N * 3 * d->H * d->D);
    a->datt = take(w, SWT_ARENA_ACT, act, N * d->H * d->D);
    if (swt_sparse_layers(d) < d->L)
        a->dhidden = take(w, SWT_ARENA_ACT, act, N * d->F);
    if (swt_sparse_layers(d) > 0) {
        a->dgate = take(w, SWT_ARENA_ACT, SWT_F32, N);
        a->dhidden_experts = take(w, SWT_ARENA_ACT, act, rows * d->F);
        a->dot = take(w, SWT_ARENA_COMM, SWT_F32, d->E * w->m->K);
        if (w->m->dist->P > 1) {
            a->expert_dx = take(w, SWT_ARENA_COMM, act, rows * d->C);
            a->expert_dot = take(w, SWT_ARENA_COMM, SWT_F32, rows);
        }
    }
}

static void take_acts(walk *w) {
    swt_model *m = w->m;
    const swt_dims *d = &m->dims;
    swt_shared_acts *a = &m->acts;
    const int64_t N = d->B * d->T, rows = m->dist->El * m->dist->P * m->K;
    const swt_dtype act = m->ctx.dtype;
    a->tokens = take(w, SWT_ARENA_ACT, SWT_I32, m->turns * N);
    a->targets = take(w, SWT_ARENA_ACT, SWT_I32, m->turns * N);
    a->routed = take(w, SWT_ARENA_ACT, SWT_I32, m->turns * N);
    for (int64_t l = 0; l < d->L; l++) {
        const size_t before = m->arenas[SWT_ARENA_ACT].used_bytes;
        take_block(w, &m->blocks[l], swt_is_sparse(d, l));
        m->kept_bytes[swt_is_sparse(d, l)] = m->arenas[SWT_ARENA_ACT].used_bytes - before;
    }
    a->x = take(w, SWT_ARENA_ACT, act, N * d->C);
    a->norm = take(w, SWT_ARENA_ACT, act, N * d->C);
    a->norm_mean = take(w, SWT_ARENA_ACT, SWT_F32, N);
    a->norm_rstd = take(w, SWT_ARENA_ACT, SWT_F32, N);
    a->logits = take(w, SWT_ARENA_ACT, act, N * d->V);
    a->stats = take(w, SWT_ARENA_ACT, SWT_F64, m->turns * swt_stats_count(d));
    m->ctx.state = take(w, SWT_ARENA_ACT, SWT_U8, sizeof *m->ctx.state);
    if (swt_sparse_layers(d) > 0) {
        a->send_counts = take(w, SWT_ARENA_COMM, SWT_I32, d->E);
        a->slots = take(w, SWT_ARENA_COMM, act, d->E * m->K * d->C);
        a->expert_y = take(w, SWT_ARENA_COMM, act, rows * d->C);
    }
    if (m->training)
        take_backward(w);
    /* First in its arena, so aligned as the device's own allocations are (256 bytes on a GPU). */
    if (m->ctx.ops->workspace_bytes > 0)
        m->ctx.workspace = take(w, SWT_ARENA_SCRATCH, SWT_U8, m->ctx.ops->workspace_bytes);
    a->scratch = take(w, SWT_ARENA_SCRATCH, SWT_U8, scratch_bytes(m));
}

static swt_status walk_memory(swt_model *m) {
    walk w = {.m = m, .status = SWT_OK};
    take_params(&w);
    take_acts(&w);
    const int64_t batch = m->turns * m->dims.B * m->dims.T;
    m->staging = take(&w, SWT_ARENA_HOST, SWT_F32, m->params.largest);
    m->host_kept = take(&w, SWT_ARENA_HOST, SWT_I32, m->dims.E);
    m->host_tokens = take(&w, SWT_ARENA_HOST, SWT_I32, batch);
    m->host_targets = take(&w, SWT_ARENA_HOST, SWT_I32, batch);
    m->host_routed = take(&w, SWT_ARENA_HOST, SWT_I32, batch);
    return w.status;
}

/* Products of dimensions that size the largest tensors; all others are smaller. */
static swt_status check_sizes(const swt_model *m) {
    const swt_dims *d = &m->dims;
    const int64_t factors[][5] = {
        {m->turns, d->B, d->T, 8, 1},
        {d->B, d->T, d->V, 8, 1},
        {d->B, d->T, 3 * d->H, d->D, 8},
        {d->B, d->T, swt_max(d->E, d->F), 8, 1},
        {d->E, swt_max(m->K, 1), swt_max(d->C, d->F), m->dist->P, 8},
        {d->E, swt_max(d->C, d->F), swt_max(d->C, d->F), 32, d->L},
        {m->turns, d->L, d->E, 64, 1},
    };
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        int64_t size = 1;
        for (int j = 0; j < 5; j++)
            if (!swt_checked_mul(size, factors[i][j], &size) || size > INT64_MAX / 16)
                return SWT_FAIL(MEMORY, "memory: a tensor of this model is larger than the address "
                                        "space; use smaller dimensions or batches");
    }
    return SWT_OK;
}

static int64_t slots(const swt_dims *d) {
    return swt_sparse_layers(d) > 0 ? swt_message_slots(d) : 0;
}

/* Every tensor counts once in the clip norm: the first replica reports its experts, rank 0 the
 * shared. */
static bool in_norm(const swt_dist *dist, const swt_param *p) {
    return dist->replica == 0 && (p->expert >= 0 ? p->offset >= 0 : dist->rank == 0);
}

/* Copy to the device, and be done with the host's memory. */
static swt_status put(swt_model *m, void *to, const void *host, size_t bytes) {
    SWT_TRY(swt_device_copy(m->ctx.device, m->ctx.stream, SWT_TO_DEVICE, to, host, bytes));
    return swt_stream_sync(m->ctx.device, m->ctx.stream);
}

static swt_status fill_spans(swt_model *m) {
    swt_span *spans = calloc((size_t)m->n_spans + 1, sizeof *spans);
    int64_t n = 0;
    if (spans == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a list of %lld tensors",
                        (long long)m->n_spans);
    for (int64_t i = 0; i < m->params.count; i++) {
        const swt_param *p = &m->params.table[i];
        if (in_norm(m->dist, p))
            spans[n++] = (swt_span){.offset = p->offset, .count = p->count, .index = i};
    }
    const swt_status status = put(m, m->spans, spans, (size_t)n * sizeof *spans);
    free(spans);
    return status;
}

/* On the CPU an expert's sums never reach memory where one call sees all its micro-batches. */
static int64_t sum_count(const swt_model *m) {
    if (m->dims.M == 1)
        return 0;
    const bool all = m->ctx.ops->expert_sums || m->turns > 1 || swt_dist_replicas(m->dist) > 1;
    return all ? m->params.end : m->params.shared_end;
}

swt_status swt_model_plan(swt_model *out, const swt_dims *d, swt_dist *dist, const swt_ops *ops,
                          bool training, bool moments) {
    *out = (swt_model){.dims = *d, .dist = dist, .training = training, .moments = moments};
    out->ctx.ops = ops;
    out->ctx.dtype = d->dtype;
    out->turns = swt_dist_turns(dist, d->M);
    out->K = slots(d);
    if (d->dtype == SWT_BF16 && !ops->bf16)
        return SWT_FAIL(USAGE, "run.dtype: bf16 needs GPUs, and the ranks work on CPUs; use "
                               "--device cuda, or run.dtype fp32");
    SWT_TRY(check_sizes(out));
    swt_status status = swt_params_init(&out->params, d, dist);
    if (status != SWT_OK)
        return status;
    out->sum_count = sum_count(out);
    for (int64_t i = 0; i < out->params.count; i++)
        out->n_spans += in_norm(dist, &out->params.table[i]);
    out->blocks = calloc((size_t)d->L, sizeof *out->blocks);
    if (out->blocks == NULL) {
        swt_model_fini(out);
        return SWT_FAIL(MEMORY, "memory: no room for the table of %lld layers", (long long)d->L);
    }
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        swt_arena_init(&out->arenas[i], swt_arena_category_name((swt_arena_category)i),
                       i == SWT_ARENA_HOST);
    status = walk_memory(out);
    if (status != SWT_OK)
        swt_model_fini(out);
    return status;
}

swt_status swt_model_clear(swt_model *m, uint64_t seed) {
    /* Padding between tensors stays zero for ever, so that updates may run over whole arrays. */
    const size_t bytes = (size_t)m->params.end * sizeof(float);
    float *const flat[] = {m->param, m->grad, m->m, m->v};
    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++)
        if (flat[i] != NULL)
            SWT_TRY(swt_device_set(m->ctx.device, m->ctx.stream, flat[i], 0, bytes));
    if (m->sum != NULL)
        SWT_TRY(swt_device_set(m->ctx.device, m->ctx.stream, m->sum, 0,
                               (size_t)m->sum_count * sizeof *m->sum));
    const swt_step_state state = {.seed = seed, .clip = 1.0};
    SWT_TRY(swt_model_round_weights(m));
    return put(m, m->ctx.state, &state, sizeof state);
}

/* The host's arena lies in a memory of its own where the others are a GPU's. */
static bool is_elsewhere(const swt_model *m, int arena) {
    return arena == SWT_ARENA_HOST && m->ctx.device->table->queues;
}

/* The plan's figures beside what was free before the first arena. */
static swt_status does_not_fit(const swt_model *m, const size_t *planned, size_t free_bytes,
                               size_t total_bytes) {
    char parts[256] = "";
    size_t sum = 0, n = 0;
    for (int i = 0; i < SWT_ARENA_COUNT; i++) {
        if (is_elsewhere(m, i) || planned[i] == 0)
            continue;
        sum += planned[i];
        n += (size_t)snprintf(parts + n, sizeof parts - n, "%s%s %.1f", n > 0 ? ", " : "",
                              m->arenas[i].name, (double)planned[i] / 1048576.0);
    }
    const bool on_gpu = m->ctx.device->table->queues;
    return SWT_FAIL(MEMORY,
                    "memory: rank %d plans %.1f MiB on its %s (%s%s), which has %.1f MiB of %.1f "
                    "free; use smaller batches or more ranks, swt-dist plan shows what they need",
                    m->dist->rank, (double)sum / 1048576.0, on_gpu ? "GPU" : "host", parts,
                    on_gpu ? "" : "; more in whole huge pages", (double)free_bytes / 1048576.0,
                    (double)total_bytes / 1048576.0);
}

static swt_status commit_arenas(swt_model *m) {
    size_t planned[SWT_ARENA_COUNT], free_bytes = 0, total_bytes = 0;
    /* For the words of an error alone: a system that does not tell is no reason to end. */
    const swt_status room = swt_device_room(m->ctx.device, &free_bytes, &total_bytes);
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        planned[i] = m->arenas[i].used_bytes;
    for (int i = 0; i < SWT_ARENA_COUNT; i++) {
        const swt_status status = swt_arena_commit(&m->arenas[i], m->ctx.device);
        if (status == SWT_MEMORY && !is_elsewhere(m, i) && room == SWT_OK)
            return does_not_fit(m, planned, free_bytes, total_bytes);
        SWT_TRY(status);
    }
    return SWT_OK;
}

swt_status swt_model_commit(swt_model *m, swt_device *device, uint64_t seed) {
    m->ctx.device = device;
    SWT_TRY(commit_arenas(m));
    SWT_TRY(walk_memory(m));
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        SWT_TRY(swt_arena_check(&m->arenas[i]));
    SWT_TRY(swt_model_clear(m, seed));
    if (m->training)
        SWT_TRY(fill_spans(m));
    SWT_TRY(swt_stream_create(device, &m->upload));
    return swt_event_create(device, &m->uploaded);
}

void swt_model_fini(swt_model *m) {
    if (m->uploaded != NULL)
        swt_event_destroy(m->ctx.device, m->uploaded);
    if (m->upload != NULL)
        swt_stream_destroy(m->ctx.device, m->upload);
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        swt_arena_fini(&m->arenas[i]);
    swt_params_fini(&m->params);
    free(m->blocks);
    *m = (swt_model){0};
}

swt_status swt_model_init_values(swt_model *m, swt_init init, double init_scale, uint64_t seed) {
    for (int64_t i = 0; i < m->params.count; i++) {
        const swt_param *p = &m->params.table[i];
        if (p->offset < 0)
            continue;
        swt_param_values(m->staging, p, init, init_scale, seed);
        SWT_TRY(put(m, m->param + p->offset, m->staging, (size_t)p->count * sizeof(float)));
    }
    return swt_model_round_weights(m);
}
