#include "state/weights.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

/* ---- reading */

/* Marks the entry of a tensor that the model has under this name. */
static swt_status mark(const swt_source *s, const char *name, int dims, const int64_t *shape) {
    SWT_TRY(swt_source_check(s, name, dims, shape));
    s->all.entries[swt_tensor_file_find(&s->all, name) - s->all.entries].known = true;
    return SWT_OK;
}

static swt_status find_tensor(void *context, const swt_param *p) {
    return mark(context, p->name, p->dims, p->shape);
}

static swt_status no_others(const swt_source *s) {
    for (int64_t i = 0; i < s->all.count; i++)
        if (!s->all.entries[i].known)
            return SWT_FAIL_AS(s->all.status,
                               "%s: has a tensor %s, which this model has not; use the "
                               "configuration the weights were made with",
                               s->all.path, s->all.entries[i].name);
    return SWT_OK;
}

/* What the dimensions claim costs nothing: the first tensor that is not there ends it. */
swt_status swt_weights_check(swt_source *s, const swt_dims *d) {
    SWT_TRY(swt_params_visit(d, find_tensor, s));
    return no_others(s);
}

/* A source's tensors of one kind, on their way into a flat array. */
typedef struct loader {
    swt_model *m;
    swt_source *s;
    swt_saved_tensor which;
    int64_t *altered;
} loader;

/* Every rank judges the whole source, so that all say the same of it; each reads its own part. */
static swt_status check_tensors(const loader *l) {
    for (int64_t i = 0; i < l->m->params.count; i++) {
        const swt_param *p = &l->m->params.table[i];
        char name[SWT_TENSOR_NAME_BYTES];
        int64_t shape[2];
        const int dims = swt_saved_shape(p, l->m->keeps, l->which, shape);
        if (dims == 0)
            continue;
        swt_saved_name(name, l->which, p->name);
        SWT_TRY(mark(l->s, name, dims, shape));
    }
    return SWT_OK;
}

static swt_status load_tensor(const loader *l, const swt_source_file *f, int64_t i) {
    swt_model *m = l->m;
    const swt_param *p = &m->params.table[i];
    char name[SWT_TENSOR_NAME_BYTES];
    bool altered = false;
    float *to = swt_model_saved(m, i, l->which);
    if (to == NULL)
        return SWT_OK;
    swt_saved_name(name, l->which, p->name);
    const swt_tensor_entry *e = swt_tensor_file_find(&l->s->all, name);
    if (e->file != f->file)
        return SWT_OK;
    SWT_TRY(swt_source_read(f, e, m->staging, &altered));
    if (altered && (*l->altered < 0 || i < *l->altered))
        *l->altered = i;
    const size_t bytes = (size_t)swt_saved_count(p, m->keeps, l->which) * sizeof(float);
    SWT_TRY(swt_device_copy(m->ctx.device, m->ctx.stream, SWT_TO_DEVICE, to, m->staging, bytes));
    return swt_stream_sync(m->ctx.device, m->ctx.stream);
}

static swt_status load_tensors(const loader *l) {
    swt_status status = SWT_OK;
    for (int file = 0; file < (int)l->s->file_count && status == SWT_OK; file++) {
        swt_source_file f;
        status = swt_source_file_open(&f, l->s, file);
        for (int64_t i = 0; i < l->m->params.count && status == SWT_OK; i++)
            status = load_tensor(l, &f, i);
        swt_source_file_close(&f);
    }
    return status;
}

swt_status swt_weights_load(swt_model *m, swt_source *s, int64_t *altered) {
    const loader l = {m, s, SWT_SAVED_WEIGHT, altered};
    *altered = -1;
    SWT_TRY(check_tensors(&l));
    SWT_TRY(no_others(s));
    SWT_TRY(load_tensors(&l));
    return swt_model_round_weights(m);
}

swt_status swt_kept_load(swt_model *m, swt_source *s, int64_t *altered) {
    enum { FIRST = SWT_SAVED_WEIGHT + 1 };
    *altered = -1;
    for (int which = FIRST; which < SWT_SAVED_TENSORS; which++)
        SWT_TRY(check_tensors(&(loader){m, s, (swt_saved_tensor)which, altered}));
    SWT_TRY(no_others(s));
    for (int which = FIRST; which < SWT_SAVED_TENSORS; which++)
        SWT_TRY(load_tensors(&(loader){m, s, (swt_saved_tensor)which, altered}));
    return SWT_OK;
}

swt_status swt_weights_vocab(const swt_source *s, int64_t *vocab) {
    const swt_tensor_entry *e = swt_tensor_file_find(&s->all, "embed.weight");
    if (e == NULL || e->dims != 2)
        return SWT_FAIL_AS(
            s->all.status,
            "%s: has no tensor embed.weight of two dimensions; give the model's weights",
            s->all.path);
    *vocab = e->shape[0];
    return SWT_OK;
}

/* ---- writing */

swt_status swt_weights_fetch(swt_model *m, const float *flat, int64_t i) {
    const swt_param *p = &m->params.table[i];
    const int owner = swt_param_holder(p, m->dist);
    const size_t bytes = (size_t)p->count * sizeof(float);
    if (m->dist->rank == owner)
        SWT_TRY(swt_model_read(m, m->staging, flat + p->offset, bytes));
    return swt_comm_broadcast(m->dist->host, m->staging, bytes, owner, NULL);
}

swt_status swt_weights_declare(swt_tensor_writer *w, const char *prefix, const swt_params *params) {
    char name[SWT_TENSOR_NAME_BYTES];
    for (int64_t i = 0; i < params->count; i++) {
        const swt_param *p = &params->table[i];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        SWT_TRY(swt_tensor_writer_declare(w, name, SWT_F32, p->dims, p->shape));
    }
    return SWT_OK;
}
