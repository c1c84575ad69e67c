#include "train/weights.h"
#include "train/files.h"

#include <stdio.h>
#include <string.h>

swt_status swt_weights_fetch(swt_model *m, const float *flat, int64_t i) {
    const swt_param *p = &m->params.table[i];
    const int owner = p->expert >= 0 ? swt_dist_owner(m->dist, p->expert) : 0;
    const size_t bytes = (size_t)p->count * sizeof(float);
    if (m->dist->rank == owner)
        SWT_TRY(swt_model_read(m, m->staging, flat + p->offset, bytes));
    return swt_comm_broadcast(m->dist->host, m->staging, bytes, owner, NULL);
}

static bool in_table(const swt_params *params, const char *name) {
    for (int64_t i = 0; i < params->count; i++)
        if (strcmp(params->table[i].name, name) == 0)
            return true;
    return false;
}

/* A file with more tensors than the model has is of another model. */
static swt_status refuse_unknown(const swt_params *params, const swt_tensor_file *f) {
    if (f->count == params->count)
        return SWT_OK;
    for (int64_t i = 0; i < f->count; i++)
        if (!in_table(params, f->entries[i].name))
            return swt_fail(
                f->status, __FILE__, __LINE__,
                "%s: has a tensor %s, which this model has not; use the configuration the "
                "weights were made with",
                f->path, f->entries[i].name);
    return SWT_OK;
}

swt_status swt_weights_load(swt_model *m, const char *path, swt_status status) {
    swt_tensor_file f;
    SWT_TRY(swt_tensor_file_open(&f, path, status));
    /* Every rank judges the whole file, so that all say the same of it; each reads its own part. */
    swt_status result = SWT_OK;
    for (int64_t i = 0; i < m->params.count && result == SWT_OK; i++) {
        const swt_param *p = &m->params.table[i];
        result = swt_tensor_file_check(&f, p->name, SWT_F32, p->dims, p->shape);
    }
    if (result == SWT_OK)
        result = refuse_unknown(&m->params, &f);
    for (int64_t i = 0; i < m->params.count && result == SWT_OK; i++) {
        const swt_param *p = &m->params.table[i];
        if (p->offset < 0)
            continue;
        result = swt_tensor_file_read(&f, p->name, SWT_F32, p->dims, p->shape, m->staging);
        if (result == SWT_OK)
            result =
                swt_device_copy(m->ctx.device, m->ctx.stream, SWT_TO_DEVICE, m->param + p->offset,
                                m->staging, (size_t)p->count * sizeof(float));
        if (result == SWT_OK)
            result = swt_stream_sync(m->ctx.device, m->ctx.stream);
    }
    swt_tensor_file_close(&f);
    return result == SWT_OK ? swt_model_round_weights(m) : result;
}

swt_status swt_weights_vocab(const char *path, swt_status status, int64_t *vocab) {
    swt_tensor_file f;
    SWT_TRY(swt_tensor_file_open(&f, path, status));
    const swt_tensor_entry *e = swt_tensor_file_find(&f, "embed.weight");
    swt_status result = SWT_OK;
    if (e == NULL || e->dims != 2)
        result = swt_fail(
            status, __FILE__, __LINE__,
            "%s: has no tensor embed.weight of two dimensions; give the model's weights", path);
    else
        *vocab = e->shape[0];
    swt_tensor_file_close(&f);
    return result;
}
