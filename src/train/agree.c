#include "train/agree.h"

#include <xxhash.h>

static swt_status files_differ(swt_status code, const char *what, const char *path) {
    return SWT_FAIL_AS(code, "%s: is %s than that of rank 0; every rank must read the same file",
                       path, what);
}

swt_status swt_agree_on_bytes(swt_comm *world, const void *data, size_t bytes, const char *path) {
    const uint64_t own = XXH3_64bits(data, bytes);
    int differs = -1;
    SWT_TRY(swt_comm_differ(world, &own, 1, &differs));
    return swt_comm_agree(world,
                          differs < 0 ? SWT_OK : files_differ(SWT_FILE, "another one", path));
}

swt_status swt_agree_on_text(swt_session *s, const char *checkpoint) {
    const swt_tokenizer *t = &s->tokenizer;
    const swt_data *d = &s->data;
    const size_t points = t->kind == SWT_TOKENIZER_CHAR ? (size_t)t->vocab : 0;
    const int64_t valid = d->count - d->train_count;
    s->train_hash = XXH3_64bits(d->ids, (size_t)d->train_count * sizeof *d->ids);
    s->valid_hash =
        valid > 0 ? XXH3_64bits(d->ids + d->train_count, (size_t)valid * sizeof *d->ids) : 0;
    uint64_t own[] = {
        s->train_hash,
        s->valid_hash,
        XXH3_64bits_withSeed(t->code_points, points * sizeof *t->code_points, (uint64_t)t->vocab),
    };
    int first = -1;
    SWT_TRY(swt_comm_differ(s->world, own, sizeof own / sizeof own[0], &first));
    swt_status status = SWT_OK;
    if (first >= 0 && checkpoint != NULL && first == 2)
        status = files_differ(SWT_CHECKPOINT, "a checkpoint with another tokenizer", checkpoint);
    else if (first >= 0)
        status = files_differ(SWT_FILE, "another text", s->data_path);
    return swt_comm_agree(s->world, status);
}

swt_status swt_agree_on_weights(swt_session *s, const char *path, swt_status code) {
    const swt_params *params = &s->model.params;
    uint64_t own = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const swt_param *p = &params->table[i];
        const size_t bytes = (size_t)p->count * sizeof(float);
        if (p->expert >= 0)
            continue;
        SWT_TRY(swt_model_read(&s->model, s->model.staging, s->model.param + p->offset, bytes));
        own = XXH3_64bits_withSeed(s->model.staging, bytes, own);
    }
    int differs = -1;
    SWT_TRY(swt_comm_differ(s->world, &own, 1, &differs));
    swt_status status = SWT_OK;
    if (differs >= 0 && path != NULL)
        status = files_differ(code, "of other weights", path);
    else if (differs >= 0)
        status = SWT_FAIL_AS(
            code, "weights: drawn from train.seed, but not those of rank 0; use the same "
                  "program and libraries on every machine");
    return swt_comm_agree(s->world, status);
}
