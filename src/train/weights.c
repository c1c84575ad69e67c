#include "train/weights.h"
#include "train/files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

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

/* Rank 0: the small files, and the weights file's header. */
static swt_status begin_files(swt_session *s, const char *dir, swt_tensor_writer *w) {
    const swt_params *params = &s->model.params;
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, sizeof path, dir, "config.yaml"));
    SWT_TRY(swt_options_write_file(s->options, path));
    SWT_TRY(swt_path_join(path, sizeof path, dir, "tokenizer.json"));
    SWT_TRY(swt_tokenizer_write(&s->tokenizer, path));
    for (int64_t i = 0; i < params->count; i++) {
        const swt_param *p = &params->table[i];
        SWT_TRY(swt_tensor_writer_declare(w, p->name, SWT_F32, p->dims, p->shape));
    }
    SWT_TRY(swt_path_join(path, sizeof path, dir, "weights.safetensors"));
    return swt_tensor_writer_begin(w, path);
}

/* Weights that are not finite are no checkpoint: nothing can start from them. */
static swt_status check_finite(const float *values, const swt_param *p) {
    for (int64_t i = 0; i < p->count; i++)
        if (!isfinite(values[i]))
            return SWT_FAIL(NUMBERS,
                            "%s: a weight is not finite; lower optim.lr or clip with "
                            "optim.clip_norm",
                            p->name);
    return SWT_OK;
}

/* Every rank fetches every tensor, also after rank 0 met a full disk: it tells the others at the
 * end. *hash is that of all weights in the order of the table: equal training has equal hashes. */
static swt_status write_tensors(swt_session *s, swt_tensor_writer *w, uint64_t *hash) {
    XXH3_state_t *digest = XXH3_createState();
    swt_status io = SWT_OK, status = SWT_OK;
    if (digest == NULL || XXH3_64bits_reset(digest) != XXH_OK)
        io = SWT_FAIL(MEMORY, "memory: no room for a checksum");
    for (int64_t i = 0; i < s->model.params.count && status == SWT_OK; i++) {
        status = swt_weights_fetch(&s->model, s->model.param, i);
        if (status != SWT_OK || s->world->rank != 0 || io != SWT_OK)
            continue;
        io = check_finite(s->model.staging, &s->model.params.table[i]);
        if (io == SWT_OK)
            io = swt_tensor_writer_data(w, s->model.staging);
        const size_t bytes = (size_t)s->model.params.table[i].count * sizeof(float);
        if (io == SWT_OK && XXH3_64bits_update(digest, s->model.staging, bytes) != XXH_OK)
            io = SWT_FAIL(INTERNAL, "checksum: XXH3 failed");
    }
    if (digest != NULL)
        *hash = XXH3_64bits_digest(digest);
    XXH3_freeState(digest);
    return status != SWT_OK ? status : io;
}

/* Rank 0, once all data are there. */
static swt_status publish(swt_session *s, swt_run *run, swt_tensor_writer *w, int64_t step,
                          uint64_t hash) {
    SWT_TRY(swt_tensor_writer_end(w));
    SWT_TRY(swt_run_checkpoint_publish(run, step, s->options->train_keep_checkpoints));
    swt_run_say(run, "step %6lld  checkpoint written, weights' hash %016llx", (long long)step,
                (unsigned long long)hash);
    return SWT_OK;
}

swt_status swt_checkpoint_write(swt_session *s, swt_run *run, int64_t step) {
    const bool first = s->world->rank == 0;
    char dir[SWT_PATH_BYTES];
    uint64_t hash = 0;
    swt_tensor_writer w = {0};
    swt_status status = SWT_OK;
    if (first) {
        status = swt_run_checkpoint_begin(run, step, dir, sizeof dir);
        if (status == SWT_OK)
            status = begin_files(s, dir, &w);
    }
    SWT_TRY_TO(status, done, swt_comm_agree(s->world, status));
    status = write_tensors(s, &w, &hash);
    if (first && status == SWT_OK)
        status = publish(s, run, &w, step, hash);
    status = swt_comm_agree(s->world, status);
done:
    swt_tensor_writer_fini(&w);
    return status;
}
