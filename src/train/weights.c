#include "train/weights.h"
#include "io/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

swt_status swt_weights_fetch(swt_model *m, const float *flat, int64_t i) {
    const swt_param *p = &m->params.table[i];
    const int owner = p->expert >= 0 ? swt_dist_owner(m->dist, p->expert) : 0;
    const size_t bytes = (size_t)p->count * sizeof(float);
    if (m->dist->rank == owner)
        SWT_TRY(swt_model_read(m, m->staging, flat + p->offset, bytes));
    return swt_comm_broadcast(m->dist->host, m->staging, bytes, owner, NULL);
}

/* A file against the tensors of a model; `known` marks those of its entries that the model has. */
typedef struct comparison {
    const swt_tensor_file *f;
    bool *known; /* (f->count + 1) */
} comparison;

static swt_status compare(void *context, const swt_param *p) {
    const comparison *c = context;
    SWT_TRY(swt_tensor_file_check(c->f, p->name, SWT_F32, p->dims, p->shape));
    c->known[swt_tensor_file_find(c->f, p->name) - c->f->entries] = true;
    return SWT_OK;
}

/* The file holds the model's tensors, each with its shape, and no others. What the dimensions claim
 * costs nothing: the first tensor that the file has not ends it. */
static swt_status check_file(const swt_tensor_file *f, const swt_dims *d) {
    comparison c = {.f = f, .known = calloc((size_t)f->count + 1, sizeof *c.known)};
    if (c.known == NULL)
        return SWT_FAIL(MEMORY,
                        "%s: no memory to compare its %lld tensors; use a machine with more",
                        f->path, (long long)f->count);
    swt_status status = swt_params_visit(d, compare, &c);
    for (int64_t i = 0; i < f->count && status == SWT_OK; i++)
        if (!c.known[i])
            status =
                swt_fail(f->status, __FILE__, __LINE__,
                         "%s: has a tensor %s, which this model has not; use the configuration the "
                         "weights were made with",
                         f->path, f->entries[i].name);
    free(c.known);
    return status;
}

swt_status swt_weights_check(const char *path, const swt_dims *d, swt_status status) {
    swt_tensor_file f;
    SWT_TRY(swt_tensor_file_open(&f, path, status));
    const swt_status result = check_file(&f, d);
    swt_tensor_file_close(&f);
    return result;
}

swt_status swt_weights_load(swt_model *m, const char *path, swt_status status) {
    swt_tensor_file f;
    SWT_TRY(swt_tensor_file_open(&f, path, status));
    /* Every rank judges the whole file, so that all say the same of it; each reads its own part. */
    swt_status result = check_file(&f, &m->dims);
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
