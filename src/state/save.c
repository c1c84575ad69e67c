#include "state/save.h"

#include "base/checked.h"
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "state/digest.h"
#include "state/manifest_add.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t *tensor_facts(const swt_save *v, int which, int64_t i) {
    return v->facts + 2 * (which * v->what.model->params.count + i);
}

static int64_t *file_facts(const swt_save *v, int kind, int rank) {
    const int64_t file = (int64_t)kind * v->what.model->shards.size + rank;
    return v->facts + 2 * (SWT_SAVED_TENSORS * v->what.model->params.count + file);
}

static int kinds_of(const swt_save *v) {
    return v->what.model->keeps != SWT_KEEPS_NOTHING ? SWT_SHARD_KINDS : 1;
}

static swt_status init(swt_save *v, const swt_saving *s) {
    const swt_model *m = s->model;
    *v = (swt_save){.what = *s, .world = m->dist->host};
    v->fact_count =
        2 * (SWT_SAVED_TENSORS * m->params.count + (int64_t)kinds_of(v) * m->shards.size);
    v->facts = calloc((size_t)v->fact_count, sizeof *v->facts);
    if (v->facts == NULL)
        return SWT_FAIL(MEMORY, "checkpoint: no memory for the hashes of %lld tensors",
                        (long long)m->params.count);
    return SWT_OK;
}

/* ---- this rank's files */

/* Copy the tensors of one kind that this rank writes to *to, which goes on behind them. Tensors
 * that stand side by side, as all experts do, are one copy: a long one is faster than its parts. */
static swt_status copy_own(swt_model *m, float **to, swt_saved_tensor which) {
    const swt_shards *s = &m->shards;
    const float *from = NULL;
    int64_t count = 0;
    for (int64_t k = 0; k <= s->own_count; k++) {
        const float *next = k < s->own_count ? swt_model_saved(m, s->own[k], which) : NULL;
        if (next == NULL && k < s->own_count)
            continue;
        if (count > 0 && next != from + count) {
            SWT_TRY(swt_model_read(m, *to, from, (size_t)count * sizeof **to));
            *to += count;
            count = 0;
        }
        if (next == NULL)
            break;
        if (count == 0)
            from = next;
        count += swt_saved_count(&m->params.table[s->own[k]], m->keeps, which);
    }
    return SWT_OK;
}

/* Copy all that this rank writes to the host, in the order in which it is written. */
static swt_status take_snapshot(const swt_save *v) {
    swt_model *m = v->what.model;
    float *to = m->snapshot;
    for (int which = 0; which < SWT_SAVED_TENSORS; which++)
        SWT_TRY(copy_own(m, &to, (swt_saved_tensor)which));
    return SWT_OK;
}

/* In integers and without a way out of the loop, which the compiler makes vectors of. An exponent
 * of ones alone, infinity's and that of no number, carries into the sign. */
static bool are_finite(const float *values, int64_t count) {
    static const uint32_t exponent = UINT32_C(0x7f800000), lowest = UINT32_C(0x00800000);
    enum { BLOCK = 1024 };
    uint32_t carry = 0, bits[BLOCK] = {0};
    for (int64_t i = 0; i < count; i += BLOCK) {
        memcpy(bits, values + i, (size_t)swt_min(BLOCK, count - i) * sizeof *values);
        for (int k = 0; k < BLOCK; k++)
            carry |= (bits[k] & exponent) + lowest;
    }
    return carry >> 31 == 0;
}

/* Weights that are not finite are no checkpoint: nothing can start from them. */
static swt_status check_finite(const float *values, const swt_param *p) {
    if (!are_finite(values, p->count))
        return SWT_FAIL(NUMBERS,
                        "%s: a weight is not finite; lower optim.lr or clip with optim.clip_norm",
                        p->name);
    return SWT_OK;
}

static swt_status write_tensor(swt_save *v, swt_tensor_writer *w, int which, int64_t i) {
    const int64_t number = w->written;
    if (atomic_load(&v->given_up))
        return SWT_FAIL(INTERRUPTED, "checkpoint: given up");
    if (which == SWT_SAVED_WEIGHT)
        SWT_TRY(check_finite(v->at, &v->what.model->params.table[i]));
    SWT_TRY(swt_tensor_writer_data(w, v->at));
    v->at += swt_saved_count(&v->what.model->params.table[i], v->what.model->keeps,
                             (swt_saved_tensor)which);
    int64_t *fact = tensor_facts(v, which, i);
    fact[0] = w->header_bytes + w->entries[number].offset_bytes;
    fact[1] = (int64_t)w->entries[number].hash;
    return SWT_OK;
}

/* Whether a parameter has such a tensor, on whichever rank. */
static bool has(const swt_model *m, int which, int64_t i) {
    return swt_saved_count(&m->params.table[i], m->keeps, (swt_saved_tensor)which) > 0;
}

/* Call `visit` for every tensor of this kind that this rank writes, in the order of its data. */
static swt_status each_own(swt_save *v, swt_tensor_writer *w, int kind,
                           swt_status (*visit)(swt_save *v, swt_tensor_writer *w, int which,
                                               int64_t i)) {
    const swt_shards *shards = &v->what.model->shards;
    for (int which = 0; which < SWT_SAVED_TENSORS; which++) {
        if ((int)swt_saved_kind((swt_saved_tensor)which) != kind)
            continue;
        for (int64_t k = 0; k < shards->own_count; k++)
            if (has(v->what.model, which, shards->own[k]))
                SWT_TRY(visit(v, w, which, shards->own[k]));
    }
    return SWT_OK;
}

static swt_status declare(swt_save *v, swt_tensor_writer *w, int which, int64_t i) {
    const swt_param *p = &v->what.model->params.table[i];
    char name[SWT_TENSOR_NAME_BYTES];
    int64_t shape[2];
    const int dims = swt_saved_shape(p, v->what.model->keeps, (swt_saved_tensor)which, shape);
    swt_saved_name(name, (swt_saved_tensor)which, p->name);
    return swt_tensor_writer_declare(w, name, SWT_F32, dims, shape);
}

static swt_status write_shard(swt_save *v, swt_tensor_writer *w, int kind) {
    const int rank = v->world->rank;
    char name[SWT_FILE_NAME_BYTES], path[SWT_PATH_BYTES];
    swt_shard_name(name, &v->what.model->shards, (swt_shard_kind)kind, rank);
    SWT_TRY(swt_path_join(path, v->folder, name));
    SWT_TRY(each_own(v, w, kind, declare));
    SWT_TRY(swt_tensor_writer_begin(w, path));
    SWT_TRY(each_own(v, w, kind, write_tensor));
    SWT_TRY(swt_tensor_writer_end(w));
    SWT_TRY(swt_hash_check(path, w->hash)); /* it may replace an older one */
    int64_t *fact = file_facts(v, kind, rank);
    fact[0] = w->header_bytes + w->data_bytes;
    fact[1] = (int64_t)w->hash;
    return SWT_OK;
}

static swt_status write_shards(swt_save *v) {
    swt_status status = SWT_OK;
    const bool writes = v->what.model->shards.elements[v->world->rank] > 0;
    for (int kind = 0; kind < kinds_of(v) && writes && status == SWT_OK; kind++) {
        swt_tensor_writer w = {0};
        status = write_shard(v, &w, kind);
        swt_tensor_writer_fini(&w);
    }
    return status;
}

/* ---- rank 0: the other files */

static swt_status write_small(const swt_save *v) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, v->folder, SWT_CONFIG_FILE));
    SWT_TRY(swt_options_write_file(v->what.options, path));
    SWT_TRY(swt_path_join(path, v->folder, SWT_TOKENIZER_FILE));
    return swt_tokenizer_write(v->what.tokenizer, path);
}

/* Every file of tensors, and where[kind * size + rank] is its number. */
static void list_shards(const swt_save *v, swt_manifest *m, int *where) {
    for (int kind = 0; kind < kinds_of(v); kind++) {
        for (int rank = 0; rank < v->what.model->shards.size; rank++) {
            if (v->what.model->shards.elements[rank] == 0)
                continue;
            const int64_t *fact = file_facts(v, kind, rank);
            where[kind * v->what.model->shards.size + rank] = (int)m->file_count;
            swt_manifest_file *f = &m->files[m->file_count++];
            *f = (swt_manifest_file){.bytes = fact[0], .hash = (uint64_t)fact[1]};
            swt_shard_name(f->name, &v->what.model->shards, (swt_shard_kind)kind, rank);
        }
    }
}

static void list_tensors(const swt_save *v, swt_manifest *m, const int *where) {
    const swt_params *params = &v->what.model->params;
    for (int which = 0; which < SWT_SAVED_TENSORS; which++) {
        for (int64_t i = 0; i < params->count; i++) {
            if (!has(v->what.model, which, i))
                continue;
            const swt_param *p = &params->table[i];
            const int64_t *fact = tensor_facts(v, which, i);
            const int kind = (int)swt_saved_kind((swt_saved_tensor)which);
            swt_tensor_entry *e = &m->tensors[m->tensor_count++];
            *e = (swt_tensor_entry){
                .dtype = SWT_F32,
                .offset_bytes = fact[0],
                .hash = (uint64_t)fact[1],
                .file = where[kind * v->what.model->shards.size + v->what.model->shards.owner[i]]};
            e->dims = swt_saved_shape(p, v->what.model->keeps, (swt_saved_tensor)which, e->shape);
            swt_saved_name(e->name, (swt_saved_tensor)which, p->name);
        }
    }
}

/* All of the manifest, from what all ranks have said. */
static swt_status fill_manifest(const swt_save *v, swt_manifest *m, int *where) {
    const swt_saving *s = &v->what;
    const swt_dims *d = &s->model->dims;
    *m = (swt_manifest){.step = s->step,
                        .skipped = s->skipped,
                        .evaluated = s->evaluated,
                        .valid_loss = s->valid_loss,
                        .ledger = s->ledger,
                        .train_hash = s->train_hash,
                        .valid_hash = s->valid_hash,
                        .position_tokens = s->step * d->M * d->B * d->T};
    m->files = calloc(2 + (size_t)kinds_of(v) * (size_t)s->model->shards.size, sizeof *m->files);
    m->tensors = calloc((size_t)(SWT_SAVED_TENSORS * s->model->params.count), sizeof *m->tensors);
    if (m->files == NULL || m->tensors == NULL)
        return SWT_FAIL(MEMORY, "checkpoint: no memory for its manifest");
    SWT_TRY(swt_manifest_add_file(m, v->folder, SWT_CONFIG_FILE));
    SWT_TRY(swt_manifest_add_file(m, v->folder, SWT_TOKENIZER_FILE));
    list_shards(v, m, where);
    list_tensors(v, m, where);
    return swt_manifest_add_options(m, s->options);
}

static swt_status write_manifest(const swt_save *v) {
    char path[SWT_PATH_BYTES];
    swt_manifest m = {0};
    swt_status status = swt_path_join(path, v->folder, SWT_MANIFEST_FILE);
    int *where =
        calloc((size_t)SWT_SHARD_KINDS * (size_t)v->what.model->shards.size, sizeof *where);
    if (status == SWT_OK && where == NULL)
        status = SWT_FAIL(MEMORY, "checkpoint: no memory for its manifest");
    if (status == SWT_OK)
        status = fill_manifest(v, &m, where);
    if (status == SWT_OK)
        status = swt_manifest_write(&m, path);
    /* Ranks whose folder is another one than rank 0's have written elsewhere. */
    if (status == SWT_OK)
        status = swt_manifest_check_files(&m, v->folder);
    if (status == SWT_CHECKPOINT)
        status = swt_last_error()->status = SWT_FILE;
    swt_manifest_fini(&m);
    free(where);
    return status;
}

/* ---- all of it */

static uint64_t hash_of_weights(const swt_save *v) {
    uint64_t hash = 0;
    for (int64_t i = 0; i < v->what.model->params.count; i++)
        hash = swt_digest_add(hash, (uint64_t)tensor_facts(v, SWT_SAVED_WEIGHT, i)[1]);
    return hash;
}

/* All files of this rank but the manifest. Makes no call to other ranks. */
static void *write_own(void *save) {
    swt_save *v = save;
    memset(v->facts, 0, (size_t)v->fact_count * sizeof *v->facts);
    v->at = v->what.model->snapshot;
    v->status = v->world->rank == 0 ? write_small(v) : SWT_OK;
    if (v->status == SWT_OK)
        v->status = write_shards(v);
    v->error = *swt_last_error();
    atomic_store(&v->done, true);
    return NULL;
}

/* A thread of its own, where the system gives one: signals are the main thread's, but for those
 * that a thread's own instructions raise. */
static void start(swt_save *v) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP};
    enum { STACK_BYTES = 1 << 20 };
    sigset_t others, before;
    pthread_attr_t attributes;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&others, own[i]);
    if (pthread_attr_init(&attributes) == 0) {
        pthread_sigmask(SIG_SETMASK, &others, &before);
        v->running = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
                     pthread_create(&v->thread, &attributes, write_own, v) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (!v->running)
        write_own(v);
}

swt_status swt_save_begin(swt_save *v, const swt_saving *what, const char *folder, bool beside) {
    swt_status status = init(v, what);
    if (v->world->rank == 0)
        snprintf(v->folder, sizeof v->folder, "%s", folder);
    if (status == SWT_OK)
        status = take_snapshot(v);
    SWT_TRY(swt_comm_agree(v->world, status));
    SWT_TRY(swt_comm_broadcast(v->world, v->folder, sizeof v->folder, 0, NULL));
    if (beside)
        start(v);
    else
        write_own(v);
    return SWT_OK;
}

void swt_save_again(swt_save *v) {
    write_own(v);
}

swt_status swt_save_look(swt_save *v, bool *done) {
    int64_t writing = 0;
    SWT_TRY(swt_comm_max(v->world, !atomic_load(&v->done), &writing));
    *done = writing == 0;
    return SWT_OK;
}

static void join(swt_save *v) {
    if (v->running)
        pthread_join(v->thread, NULL);
    v->running = false;
}

static swt_status end(swt_save *v, bool *disk_full) {
    join(v);
    swt_status status = v->status;
    if (status != SWT_OK)
        *swt_last_error() = v->error;
    *disk_full = status == SWT_FILE && v->error.disk_full;
    SWT_TRY(swt_comm_agree(v->world, status));
    SWT_TRY(swt_comm_all_reduce_i64(v->world, v->facts, v->fact_count, NULL));
    status = v->world->rank == 0 ? write_manifest(v) : SWT_OK;
    *disk_full = status == SWT_FILE && swt_last_error()->disk_full;
    return swt_comm_agree(v->world, status);
}

swt_status swt_save_end(swt_save *v, uint64_t *weights_hash, bool *disk_full) {
    swt_status status = end(v, disk_full);
    if (status == SWT_OK)
        *weights_hash = hash_of_weights(v);
    if (status != SWT_FILE)
        return status;
    const swt_error why = *swt_last_error();
    int64_t full = 0;
    SWT_TRY(swt_comm_max(v->world, *disk_full, &full));
    *disk_full = full != 0;
    *swt_last_error() = why;
    return why.status;
}

void swt_save_fini(swt_save *v) {
    atomic_store(&v->given_up, true);
    join(v);
    free(v->facts);
    v->facts = NULL;
}

void swt_save_bytes(const swt_saving *s, int64_t *all, int64_t *largest) {
    /* The configuration, twice; of a tensor in a header and in the manifest all but its name; of a
     * file in the manifest; of a character at most. */
    enum { CONFIG_BYTES = 8192, ENTRY_BYTES = 230, FILE_BYTES = 100, TOKEN_BYTES = 9 };
    const swt_params *p = &s->model->params;
    const swt_shards *shards = &s->model->shards;
    int64_t most = 0;
    *all = CONFIG_BYTES + TOKEN_BYTES * s->tokenizer->vocab +
           (int64_t)FILE_BYTES * 2 * shards->writers;
    for (int which = 0; which < SWT_SAVED_TENSORS; which++)
        for (int64_t i = 0; i < p->count; i++)
            if (has(s->model, which, i))
                *all += ENTRY_BYTES + 2 * (int64_t)strlen(p->table[i].name);
    for (int rank = 0; rank < shards->size; rank++) {
        *all += (shards->elements[rank] + shards->kept[rank]) * (int64_t)sizeof(float);
        most = swt_max(most, swt_max(shards->elements[rank], shards->kept[rank]));
    }
    *largest = most * (int64_t)sizeof(float);
}
