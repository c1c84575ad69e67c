#include "model/memory.h"

#include "base/checked.h"

void *swt_take(swt_memory_walk *w, swt_arena_category category, swt_dtype dtype, int64_t count) {
    void *memory = NULL;
    if (w->status == SWT_OK)
        w->status = swt_arena_take(&w->m->arenas[category], &memory, count, dtype);
    return memory;
}

void *swt_take_act(swt_memory_walk *w, int64_t count) {
    return swt_take(w, SWT_ARENA_ACT, w->m->ctx.dtype, count);
}

void swt_need_scratch(swt_memory_walk *w, int64_t bytes) {
    const bool counted = bytes >= 0 && w->scratch_bytes >= 0;
    w->scratch_bytes = counted ? swt_max(w->scratch_bytes, bytes) : -1;
}

static void take_params(swt_memory_walk *w) {
    swt_model *m = w->m;
    const int64_t n = m->params.end;
    m->param = swt_take(w, SWT_ARENA_PARAM, SWT_F32, n);
    m->weights = m->ctx.dtype == SWT_F32 ? m->param : swt_take(w, SWT_ARENA_PARAM, m->ctx.dtype, n);
    if (!m->training)
        return;
    m->grad = swt_take(w, SWT_ARENA_GRAD, SWT_F32, n);
    if (m->sum_count > 0)
        m->sum = swt_take(w, SWT_ARENA_GRAD, SWT_I64, m->sum_count);
    m->squares = swt_take(w, SWT_ARENA_GRAD, SWT_F64, m->params.count + 1);
    m->spans = swt_take(w, SWT_ARENA_GRAD, SWT_I64, m->n_spans * (int64_t)(sizeof(swt_span) / 8));
    if (m->keeps == SWT_KEEPS_FACTORS)
        m->factor = swt_take(w, SWT_ARENA_OPT, SWT_F32, m->factors.end);
    for (int64_t i = 0; i < m->factors.n_groups; i++) {
        const swt_factor_group *g = &m->factors.groups[i];
        swt_need_scratch(w, swt_adafactor_scratch_bytes(g->n, g->rows, g->cols));
    }
    if (m->keeps == SWT_KEEPS_MOMENTS) {
        m->first_moment = swt_take(w, SWT_ARENA_OPT, SWT_F32, n);
        m->second_moment = swt_take(w, SWT_ARENA_OPT, SWT_F32, n);
    }
}

/* What each keeps, then what those of a kind share. */
static void take_sublayers(swt_memory_walk *w) {
    swt_model *m = w->m;
    const swt_dims *d = &m->dims;
    for (int64_t i = 0; i < m->n_sublayers; i++) {
        swt_sublayer *s = &m->sublayers[i];
        const size_t before = m->arenas[SWT_ARENA_ACT].used_bytes;
        s->x = swt_take_act(w, SWT_COUNT(d->B, swt_stack_positions(d, s->stack), d->C));
        swt_kind_of(s)->keep(w, s);
        s->kept_bytes = m->arenas[SWT_ARENA_ACT].used_bytes - before;
    }
    for (int kind = 0; kind < SWT_SUBLAYER_KINDS; kind++) {
        const swt_sublayer *first = swt_model_first(m, (swt_sublayer_kind)kind);
        if (first != NULL)
            swt_kind_of(first)->share(w);
    }
}

/* What the encoder reads and what it leaves to the decoder. */
static void take_encoder(swt_memory_walk *w) {
    swt_model *m = w->m;
    const swt_dims *d = &m->dims;
    swt_shared_acts *a = &m->acts;
    const int64_t S = SWT_COUNT(d->B, d->encoder_T);
    a->inputs = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(m->turns, S));
    a->inputs_routed = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(m->turns, S));
    a->lengths = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(m->turns, d->B));
    a->encoder_x = swt_take_act(w, SWT_COUNT(S, d->C));
    a->memory = swt_take_act(w, SWT_COUNT(S, d->C));
    if (m->training)
        a->dmemory = swt_take_act(w, SWT_COUNT(S, d->C));
}

/* A stack's biases by distance, and their gradients. */
static void take_biases(swt_memory_walk *w) {
    swt_model *m = w->m;
    const int64_t count = SWT_COUNT(m->dims.H, SWT_BIAS_DISTANCES);
    for (int stack = 0; stack < SWT_STACKS; stack++) {
        if (swt_stack_blocks(&m->dims, (swt_stack)stack) == 0)
            continue;
        m->acts.bias[stack] = swt_take(w, SWT_ARENA_ACT, SWT_F32, count);
        if (m->training)
            m->acts.dbias[stack] = swt_take(w, SWT_ARENA_ACT, SWT_F32, count);
    }
}

static void take_acts(swt_memory_walk *w) {
    swt_model *m = w->m;
    const swt_dims *d = &m->dims;
    swt_shared_acts *a = &m->acts;
    const int64_t N = SWT_COUNT(d->B, d->T), most = SWT_COUNT(d->B, swt_most_positions(d));
    a->tokens = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(m->turns, N));
    a->targets = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(m->turns, N));
    a->routed = swt_take(w, SWT_ARENA_ACT, SWT_I32, SWT_COUNT(m->turns, N));
    a->x = swt_take_act(w, SWT_COUNT(N, d->C));
    a->norm = swt_take_act(w, SWT_COUNT(most, d->C));
    a->norm_mean = swt_take(w, SWT_ARENA_ACT, SWT_F32, most);
    a->norm_rstd = swt_take(w, SWT_ARENA_ACT, SWT_F32, most);
    a->logits = swt_take_act(w, SWT_COUNT(N, d->V));
    a->stats = swt_take(w, SWT_ARENA_ACT, SWT_F64, SWT_COUNT(m->turns, swt_stats_count(d)));
    m->ctx.state = swt_take(w, SWT_ARENA_ACT, SWT_U8, sizeof *m->ctx.state);
    if (m->training) {
        a->dstream = a->doutput = swt_take_act(w, SWT_COUNT(most, d->C));
        if (d->dropout > 0.0)
            a->doutput = swt_take_act(w, SWT_COUNT(most, d->C));
        a->dnorm = swt_take_act(w, SWT_COUNT(most, d->C));
    }
    if (d->encoder_L > 0)
        take_encoder(w);
    if (d->positions == SWT_POSITIONS_RELATIVE)
        take_biases(w);
    swt_need_scratch(w, swt_norm_backward_scratch_bytes(most, d->C));
    swt_need_scratch(w, swt_cross_entropy_scratch_bytes(N));
}

static void take_scratch(swt_memory_walk *w) {
    swt_model *m = w->m;
    /* First in its arena, so aligned as the device's own allocations are (256 bytes on a GPU). */
    if (m->ctx.ops->workspace_bytes > 0)
        m->ctx.workspace = swt_take(w, SWT_ARENA_SCRATCH, SWT_U8, m->ctx.ops->workspace_bytes);
    m->acts.scratch = swt_take(w, SWT_ARENA_SCRATCH, SWT_U8, w->scratch_bytes);
}

static void take_host(swt_memory_walk *w) {
    swt_model *m = w->m;
    const int64_t batch = m->turns * m->dims.B * m->dims.T;
    m->staging = swt_take(w, SWT_ARENA_HOST, SWT_F32, m->params.largest);
    m->snapshot = swt_take(w, SWT_ARENA_HOST, SWT_F32, m->snapshot_count);
    m->host_kept_counts = swt_take(w, SWT_ARENA_HOST, SWT_I32, m->dims.E);
    m->host_tokens = swt_take(w, SWT_ARENA_HOST, SWT_I32, batch);
    m->host_targets = swt_take(w, SWT_ARENA_HOST, SWT_I32, batch);
    m->host_routed = swt_take(w, SWT_ARENA_HOST, SWT_I32, batch);
    if (m->dims.encoder_L == 0)
        return;
    const int64_t inputs = m->turns * m->dims.B * m->dims.encoder_T;
    m->host_inputs = swt_take(w, SWT_ARENA_HOST, SWT_I32, inputs);
    m->host_inputs_routed = swt_take(w, SWT_ARENA_HOST, SWT_I32, inputs);
    m->host_lengths = swt_take(w, SWT_ARENA_HOST, SWT_I32, m->turns * m->dims.B);
}

swt_status swt_memory_take_all(swt_model *m) {
    swt_memory_walk w = {.m = m, .status = SWT_OK};
    take_params(&w);
    take_acts(&w);
    take_sublayers(&w);
    take_scratch(&w);
    take_host(&w);
    return w.status;
}
