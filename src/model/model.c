/* The life of a model: its plan, its memory, its values; and how the host reads it. */
#include "model/memory.h"
#include "model/sums.h"

#include "base/checked.h"
#include "base/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const swt_sublayer *swt_model_first_of(const swt_model *m, swt_stack stack,
                                       swt_sublayer_kind kind) {
    for (int64_t i = 0; i < m->n_sublayers; i++)
        if (m->sublayers[i].stack == stack && m->sublayers[i].kind == kind)
            return &m->sublayers[i];
    return NULL;
}

const swt_sublayer *swt_model_first(const swt_model *m, swt_sublayer_kind kind) {
    const swt_sublayer *encoder = swt_model_first_of(m, SWT_ENCODER, kind);
    return encoder != NULL ? encoder : swt_model_first_of(m, SWT_DECODER, kind);
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

swt_status swt_model_plan(swt_model *out, const swt_dims *d, swt_dist *dist, const swt_ops *ops,
                          bool training, swt_optim_keeps keeps) {
    *out = (swt_model){.dims = *d, .dist = dist, .training = training, .keeps = keeps};
    out->ctx.ops = ops;
    out->ctx.dtype = d->dtype;
    out->turns = swt_dist_turns(dist, d->M);
    out->message_slots = swt_sparse_layers(d) > 0 ? swt_message_slots(d) : 0;
    if (d->dtype == SWT_BF16 && !ops->bf16)
        return SWT_FAIL(USAGE, "run.dtype: bf16 needs GPUs, and the ranks work on CPUs; use "
                               "--device cuda, or run.dtype fp32");
    swt_status status = swt_params_init(&out->params, d, dist);
    if (status != SWT_OK)
        return status;
    if (training)
        status = swt_shards_init(&out->shards, &out->params, keeps, dist);
    if (status == SWT_OK && training && keeps == SWT_KEEPS_FACTORS)
        status = swt_factors_init(&out->factors, &out->params);
    if (status != SWT_OK) {
        swt_model_fini(out);
        return status;
    }
    if (training)
        out->snapshot_count = out->shards.elements[dist->rank] + out->shards.kept[dist->rank];
    out->sum_count = swt_sums_count(out);
    for (int64_t i = 0; i < out->params.count; i++)
        out->n_spans += in_norm(dist, &out->params.table[i]);
    out->n_sublayers = swt_sublayer_count(d);
    out->sublayers = calloc((size_t)out->n_sublayers, sizeof *out->sublayers);
    if (out->sublayers == NULL) {
        swt_model_fini(out);
        return SWT_FAIL(MEMORY, "memory: no room for the table of %lld layers", (long long)d->L);
    }
    for (int64_t i = 0; i < out->n_sublayers; i++) {
        out->sublayers[i] = swt_sublayer_at(d, i);
        out->sublayers[i].places = &out->params.places[i];
    }
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        swt_arena_init(&out->arenas[i], swt_arena_category_name((swt_arena_category)i),
                       i == SWT_ARENA_HOST);
    status = swt_memory_take_all(out);
    if (status != SWT_OK)
        swt_model_fini(out);
    return status;
}

swt_status swt_model_clear(swt_model *m, uint64_t seed) {
    /* Padding between tensors stays zero for ever, so that updates may run over whole arrays. */
    const size_t bytes = (size_t)m->params.end * sizeof(float);
    float *const flat[] = {m->param, m->grad, m->first_moment, m->second_moment};
    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++)
        if (flat[i] != NULL)
            SWT_TRY(swt_device_set(m->ctx.device, m->ctx.stream, flat[i], 0, bytes));
    if (m->factor != NULL)
        SWT_TRY(swt_device_set(m->ctx.device, m->ctx.stream, m->factor, 0,
                               (size_t)m->factors.end * sizeof *m->factor));
    if (m->sum != NULL)
        SWT_TRY(swt_device_set(m->ctx.device, m->ctx.stream, m->sum, 0,
                               (size_t)m->sum_count * sizeof *m->sum));
    SWT_TRY(swt_model_round_weights(m));
    return swt_model_set_step(m, seed, 0);
}

swt_status swt_model_set_step(swt_model *m, uint64_t seed, int64_t step) {
    const swt_step_state state = {.seed = seed, .step = step, .clip = 1.0};
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
                              m->arenas[i].name, swt_mib((double)planned[i]));
    }
    const bool on_gpu = m->ctx.device->table->queues;
    return SWT_FAIL(MEMORY,
                    "memory: rank %d plans %.1f MiB on its %s (%s%s), which has %.1f MiB of %.1f "
                    "free; use smaller batches or more ranks, swt-dist plan shows what they need",
                    m->dist->rank, swt_mib((double)sum), on_gpu ? "GPU" : "host", parts,
                    on_gpu ? "" : "; more in whole huge pages", swt_mib((double)free_bytes),
                    swt_mib((double)total_bytes));
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
    SWT_TRY(swt_memory_take_all(m));
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        SWT_TRY(swt_arena_check(&m->arenas[i]));
    SWT_TRY(swt_model_clear(m, seed));
    /* A new page is found when it is first written to: not while training waits for a checkpoint.
     */
    if (m->snapshot_count > 0)
        memset(m->snapshot, 0, (size_t)m->snapshot_count * sizeof *m->snapshot);
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
    swt_factors_fini(&m->factors);
    swt_shards_fini(&m->shards);
    swt_params_fini(&m->params);
    free(m->sublayers);
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

float *swt_model_saved(const swt_model *m, int64_t param, swt_saved_tensor which) {
    const swt_param *p = &m->params.table[param];
    const bool vector = which == SWT_SAVED_V && m->keeps == SWT_KEEPS_FACTORS;
    if (p->offset < 0 || swt_saved_count(p, m->keeps, which) == 0)
        return NULL;
    if (which == SWT_SAVED_ROW)
        return m->factor + m->factors.row[param];
    if (which == SWT_SAVED_COL || vector)
        return m->factor + m->factors.col[param];
    float *const flat[] = {[SWT_SAVED_WEIGHT] = m->param,
                           [SWT_SAVED_M] = m->first_moment,
                           [SWT_SAVED_V] = m->second_moment};
    return flat[which] + p->offset;
}

swt_status swt_model_wait(swt_model *m) {
    SWT_TRY(swt_comm_wait(m->dist->devices, m->ctx.stream));
    return swt_stream_sync(m->ctx.device, m->ctx.stream);
}

/* Copies to memory that is not page-locked wait inside the driver, where nobody asks for lost
 * peers: so all is done before they begin. */
swt_status swt_model_read(swt_model *m, void *host, const void *from, size_t bytes) {
    SWT_TRY(swt_model_wait(m));
    SWT_TRY(swt_device_copy(m->ctx.device, m->ctx.stream, SWT_TO_HOST, host, from, bytes));
    return swt_stream_sync(m->ctx.device, m->ctx.stream);
}

swt_status swt_model_round_weights(swt_model *m) {
    if (m->ctx.dtype == SWT_F32)
        return SWT_OK;
    return swt_cast(&m->ctx,
                    &(swt_cast_args){.to = m->weights, .from = m->param, .n = m->params.end});
}

/* BF16 numbers arrive in the upper half of the host's array and widen from its beginning: a number
 * is read before its place is written. */
swt_status swt_model_read_logits(swt_model *m, float *host, int64_t first, int64_t rows) {
    const int64_t V = m->dims.V, n = rows * V;
    const size_t size = swt_dtype_bytes(m->ctx.dtype), bytes = (size_t)n * size;
    unsigned char *const to = (unsigned char *)host + (size_t)n * (sizeof *host - size);
    const unsigned char *from = (const unsigned char *)m->acts.logits + (size_t)(first * V) * size;
    SWT_TRY(swt_model_read(m, to, from, bytes));
    for (int64_t i = 0; i < n && m->ctx.dtype == SWT_BF16; i++) {
        uint16_t x = 0;
        memcpy(&x, to + (size_t)i * size, sizeof x);
        host[i] = swt_bf16_to_float(x);
    }
    return SWT_OK;
}
