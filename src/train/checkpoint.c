#include "train/checkpoint.h"

#include "base/checked.h"
#include "base/words.h"
#include "io/files.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <xxhash.h>

/* ---- reading */

/* Marks the entry of a tensor that the model has. */
static swt_status find_tensor(void *context, const swt_param *p) {
    const swt_tensor_file *f = context;
    SWT_TRY(swt_tensor_file_check(f, p->name, SWT_F32, p->dims, p->shape));
    f->entries[swt_tensor_file_find(f, p->name) - f->entries].known = true;
    return SWT_OK;
}

/* The file holds the model's tensors, each with its shape, and no others. What the dimensions claim
 * costs nothing: the first tensor that the file has not ends it. */
static swt_status check_file(swt_tensor_file *f, const swt_dims *d) {
    SWT_TRY(swt_params_visit(d, find_tensor, f));
    for (int64_t i = 0; i < f->count; i++)
        if (!f->entries[i].known)
            return SWT_FAIL_AS(f->status,
                               "%s: has a tensor %s, which this model has not; use the "
                               "configuration the weights were made with",
                               f->path, f->entries[i].name);
    return SWT_OK;
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
        result = SWT_FAIL_AS(
            status, "%s: has no tensor embed.weight of two dimensions; give the model's weights",
            path);
    else
        *vocab = e->shape[0];
    swt_tensor_file_close(&f);
    return result;
}

/* ---- writing */

swt_status swt_weights_fetch(swt_model *m, const float *flat, int64_t i) {
    const swt_param *p = &m->params.table[i];
    const int owner = p->expert >= 0 ? swt_dist_owner(m->dist, p->expert) : 0;
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

/* Rank 0: the small files, and the weights file's header. */
static swt_status begin_files(swt_session *s, const char *dir, swt_tensor_writer *w) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, dir, SWT_CONFIG_FILE));
    SWT_TRY(swt_options_write_file(s->options, path));
    SWT_TRY(swt_path_join(path, dir, SWT_TOKENIZER_FILE));
    SWT_TRY(swt_tokenizer_write(&s->tokenizer, path));
    SWT_TRY(swt_weights_declare(w, "", &s->model.params));
    SWT_TRY(swt_path_join(path, dir, SWT_WEIGHTS_FILE));
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

/* Tidying up is told once, and ends nothing. */
static void say_untidy(swt_run *run) {
    if (run->checkpoints.untidy.status != SWT_OK && !run->untidy_said)
        swt_run_say(run, "warning: %s", run->checkpoints.untidy.message);
    run->untidy_said = run->checkpoints.untidy.status != SWT_OK;
}

/* Rank 0, once all data are there. */
static swt_status publish(swt_session *s, swt_run *run, swt_tensor_writer *w, int64_t step,
                          uint64_t hash) {
    SWT_TRY(swt_tensor_writer_end(w));
    SWT_TRY(swt_checkpoints_publish(&run->checkpoints, step, s->options->train_keep_checkpoints));
    say_untidy(run);
    swt_run_say(run, "step %6lld  checkpoint written, weights' hash %016llx", (long long)step,
                (unsigned long long)hash);
    return SWT_OK;
}

/* One attempt; nothing of it stays where it fails. */
static swt_status write_once(swt_session *s, swt_run *run, int64_t step) {
    const bool first = s->world->rank == 0;
    char dir[SWT_PATH_BYTES];
    uint64_t hash = 0;
    swt_tensor_writer w = {0};
    swt_status status = SWT_OK;
    if (first) {
        status = swt_checkpoints_begin(&run->checkpoints, step, dir);
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
    if (first && status != SWT_OK) {
        const swt_error why = *swt_last_error();
        swt_checkpoints_discard(&run->checkpoints, step);
        *swt_last_error() = why;
        say_untidy(run);
    }
    return status;
}

/* At least the bytes of a checkpoint's files, and hardly more. */
static int64_t checkpoint_bytes(const swt_session *s) {
    /* The configuration; of a tensor in the header all but its name; of a character at most. */
    enum { CONFIG_BYTES = 4096, ENTRY_BYTES = 110, TOKEN_BYTES = 9 };
    const swt_params *p = &s->model.params;
    int64_t bytes = CONFIG_BYTES + TOKEN_BYTES * s->tokenizer.vocab;
    for (int64_t i = 0; i < p->count; i++)
        bytes += ENTRY_BYTES + (int64_t)strlen(p->table[i].name) +
                 p->table[i].count * (int64_t)sizeof(float);
    return bytes;
}

/* The error of a full disk, which stands in the record already, with how much is missing. */
static void say_missing(const swt_session *s, const swt_run *run) {
    swt_error *error = swt_last_error();
    const swt_error why = *error;
    int64_t free_bytes = 0;
    const swt_status known = swt_folder_room(run->path, &free_bytes);
    *error = why;
    if (known != SWT_OK)
        return;
    const int64_t bytes = checkpoint_bytes(s);
    const double needed = swt_mib((double)bytes), room = swt_mib((double)free_bytes);
    char advice[128] =
        "raise the quota or choose another --out"; /* there is room, but not for us */
    if (bytes > free_bytes)
        snprintf(advice, sizeof advice, "free %.1f MiB more or choose another --out",
                 needed - room);
    snprintf(error->message, sizeof error->message,
             "%.*s: a checkpoint has %.1f MiB, and %.1f MiB are free; %s",
             (int)strcspn(why.message, ";"), why.message, needed, room, advice);
}

/* Rank 0, on a full disk: whether the oldest checkpoint made room, where only so many are kept. */
static bool make_room(const swt_session *s, swt_run *run) {
    const swt_error why = *swt_last_error();
    const int64_t dropped =
        swt_checkpoints_drop(&run->checkpoints, s->options->train_keep_checkpoints);
    *swt_last_error() = why;
    if (dropped >= 0)
        swt_run_say(run,
                    "warning: the disk is full, so the checkpoint of step %" PRId64
                    " was removed; free space",
                    dropped);
    say_untidy(run);
    return dropped >= 0;
}

swt_status swt_checkpoint_write(swt_session *s, swt_run *run, int64_t step) {
    const bool first = s->world->rank == 0;
    swt_progress_phase(s->world->progress, SWT_PHASE_CHECKPOINT);
    swt_status status = write_once(s, run, step);
    if (status != SWT_FILE) /* the same on all ranks, or one that ends them by force */
        return status;
    bool full = first && swt_last_error()->disk_full;
    int64_t again = full && make_room(s, run);
    SWT_TRY(swt_comm_broadcast(s->world, &again, sizeof again, 0, NULL));
    if (again) {
        status = write_once(s, run, step);
        full = first && status == SWT_FILE && swt_last_error()->disk_full;
    }
    if (full)
        say_missing(s, run);
    return status;
}

/* ---- known before step 1 */

/* Checkpoints that are there at once, at most. */
static int64_t most_checkpoints(const swt_options *o) {
    const int64_t every = o->train_checkpoint_every, keep = o->train_keep_checkpoints;
    const int64_t written = every > 0 ? swt_ceil_div(swt_max(o->train_steps, 1), every) : 1;
    return keep > 0 ? swt_min(written, keep + 1) : written; /* one is being written beside them */
}

/* Of metrics.jsonl and log.txt, about. */
static double row_bytes(const swt_options *o) {
    enum { TRAINING_BYTES = 560, EVALUATION_BYTES = 240, SAMPLE_BYTES = 80 };
    const double steps = (double)o->train_steps;
    double bytes = TRAINING_BYTES * (steps / (double)o->train_log_every + 1.0) + EVALUATION_BYTES;
    if (o->train_eval_every > 0)
        bytes += EVALUATION_BYTES * steps / (double)o->train_eval_every;
    if (o->train_sample_every > 0)
        bytes += SAMPLE_BYTES * steps / (double)o->train_sample_every;
    return bytes;
}

void swt_checkpoint_check_room(const swt_session *s, swt_run *run) {
    const swt_options *o = s->options;
    const double one = (double)checkpoint_bytes(s), rows = row_bytes(o);
    const int64_t most = most_checkpoints(o);
    const double needed = one * (double)most + rows;
    int64_t free_bytes = 0;
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (double)limit.rlim_cur < one)
        swt_run_say(
            run,
            "warning: a file may have %.1f MiB here (ulimit -f), and a checkpoint's weights "
            "have %.1f; raise the limit",
            swt_mib((double)limit.rlim_cur), swt_mib(one));
    const swt_status known = swt_folder_room(run->path, &free_bytes);
    if (known != SWT_OK)
        swt_run_say(run, "warning: %s", swt_last_error()->message);
    else if (needed > (double)free_bytes)
        swt_run_say(
            run,
            "warning: this run needs up to %.1f MiB (%lld checkpoint%s of %.1f, rows %.1f), "
            "and %s has %.1f MiB free; free space, or keep fewer checkpoints",
            swt_mib(needed), (long long)most, swt_plural(most), swt_mib(one), swt_mib(rows),
            run->path, swt_mib((double)free_bytes));
}
