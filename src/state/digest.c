#include "state/digest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

swt_status swt_digest_init(swt_digest *out, const swt_model *m) {
    *out = (swt_digest){.tensor_count = m->params.count, .batch_count = m->dims.M};
    const size_t count = (size_t)(2 * out->tensor_count + out->batch_count);
    out->tensors = calloc(count, sizeof *out->tensors);
    if (out->tensors == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for the hashes of %zu tensors", count);
    out->batches = out->tensors + out->tensor_count;
    out->own = out->batches + out->batch_count;
    return SWT_OK;
}

void swt_digest_fini(swt_digest *d) {
    free(d->tensors);
    *d = (swt_digest){0};
}

uint64_t swt_digest_add(uint64_t before, uint64_t hash) {
    return XXH3_64bits_withSeed(&hash, sizeof hash, before);
}

uint64_t swt_digest_of(const uint64_t *hashes, int64_t count) {
    uint64_t all = 0;
    for (int64_t i = 0; i < count; i++)
        all = swt_digest_add(all, hashes[i]);
    return all;
}

static swt_status hash_tensor(swt_model *m, const swt_param *p, uint64_t *hash) {
    const size_t bytes = (size_t)p->count * sizeof(float);
    SWT_TRY(swt_model_read(m, m->staging, m->param + p->offset, bytes));
    *hash = XXH3_64bits(m->staging, bytes);
    return SWT_OK;
}

/* The first rank that holds the tensor speaks for it. */
static bool speaks(const swt_model *m, const swt_param *p) {
    return m->dist->rank == swt_param_holder(p, m->dist);
}

static swt_status hash_own(swt_digest *d, swt_model *m) {
    for (int64_t i = 0; i < d->tensor_count; i++) {
        const swt_param *p = &m->params.table[i];
        d->own[i] = d->tensors[i] = 0;
        if (p->offset < 0)
            continue;
        SWT_TRY(hash_tensor(m, p, &d->own[i]));
        if (speaks(m, p))
            d->tensors[i] = d->own[i];
    }
    return SWT_OK;
}

static void hash_batch(swt_digest *d, const swt_model *m) {
    const size_t N = (size_t)(m->dims.B * m->dims.T), S = (size_t)(m->dims.B * m->dims.encoder_T);
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const int64_t number = swt_dist_micro_batch(m->dist, d->batch_count, turn, m->dist->rank);
        const size_t first = (size_t)turn * N;
        if (number < 0)
            continue;
        uint64_t hash = XXH3_64bits(m->host_tokens + first, N * sizeof(int32_t));
        hash = XXH3_64bits_withSeed(m->host_targets + first, N * sizeof(int32_t), hash);
        if (S > 0)
            hash =
                XXH3_64bits_withSeed(m->host_inputs + (size_t)turn * S, S * sizeof(int32_t), hash);
        d->batches[number] = hash;
    }
}

/* The tensor that this rank holds otherwise than who speaks for it. */
static swt_status compare(const swt_digest *d, const swt_model *m, int64_t step) {
    for (int64_t i = 0; i < d->tensor_count; i++) {
        const swt_param *p = &m->params.table[i];
        if (p->offset < 0 || d->own[i] == d->tensors[i])
            continue;
        return SWT_FAIL(NUMBERS,
                        "step %" PRId64 ": %s is not that of rank %d, which it must equal: memory, "
                        "a processor or the program failed; go on from an earlier checkpoint",
                        step, p->name, swt_param_holder(p, m->dist));
    }
    return SWT_OK;
}

swt_status swt_digest_take(swt_digest *d, swt_model *m, int64_t step, bool with_batch) {
    const int64_t count = d->tensor_count + d->batch_count;
    const swt_status status = hash_own(d, m);
    for (int64_t i = 0; i < d->batch_count; i++)
        d->batches[i] = 0;
    if (with_batch)
        hash_batch(d, m);
    SWT_TRY(swt_comm_agree(m->dist->host, status));
    SWT_TRY(swt_comm_all_reduce_i64(m->dist->host, (int64_t *)d->tensors, count, NULL));
    return swt_comm_agree(m->dist->host, compare(d, m, step));
}
