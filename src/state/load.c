#include "state/load.h"

#include "base/checked.h"
#include "io/checkpoint_dir.h"

#include <stdio.h>
#include <string.h>

swt_status swt_checkpoint_open(swt_checkpoint *out, const char *folder) {
    char path[SWT_PATH_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    *out = (swt_checkpoint){.listed = false};
    snprintf(out->folder, sizeof out->folder, "%s", folder);
    swt_status status = swt_path_join(path, folder, SWT_MANIFEST_FILE);
    if (status == SWT_OK)
        status = swt_path_look(&kind, path, true);
    if (status == SWT_FILE) /* it is of a checkpoint */
        status = swt_last_error()->status = SWT_CHECKPOINT;
    SWT_TRY(status);
    out->listed = kind != SWT_PATH_NONE;
    return out->listed ? swt_manifest_read(&out->manifest, path) : SWT_OK;
}

void swt_checkpoint_close(swt_checkpoint *c) {
    swt_manifest_fini(&c->manifest);
    c->listed = false;
}

static swt_status open_source(swt_source *out, const swt_checkpoint *c, swt_shard_kind kind) {
    return swt_source_open(out, c->folder, c->listed ? &c->manifest : NULL, kind);
}

swt_status swt_checkpoint_check(const swt_checkpoint *c, const swt_dims *d) {
    swt_source source;
    SWT_TRY(open_source(&source, c, SWT_SHARD_WEIGHTS));
    const swt_status status = swt_weights_check(&source, d);
    swt_source_close(&source);
    return status;
}

/* The first tensor of any rank that is not as the manifest says; -1: none. Collective. */
static swt_status agree_on_altered(swt_model *m, int64_t *altered) {
    const int64_t n = m->params.count;
    int64_t most = 0;
    SWT_TRY(swt_comm_max(m->dist->host, *altered >= 0 ? n - *altered : 0, &most));
    *altered = most > 0 ? n - most : -1;
    return SWT_OK;
}

static swt_status load(const swt_checkpoint *c, swt_model *m, swt_shard_kind kind,
                       int64_t *altered) {
    swt_source source;
    *altered = -1;
    swt_status status = open_source(&source, c, kind);
    if (status == SWT_OK) {
        status = kind == SWT_SHARD_WEIGHTS ? swt_weights_load(m, &source, altered)
                                           : swt_kept_load(m, &source, altered);
        swt_source_close(&source);
    }
    SWT_TRY(swt_comm_agree(m->dist->host, status));
    return agree_on_altered(m, altered);
}

/* The small files; of those of tensors each tensor is looked at where it is read. A file that
 * cannot be read is the error of whoever needs it. */
static void warn_of_files(const swt_checkpoint *c, swt_warnings *warnings) {
    static const char *const names[] = {SWT_CONFIG_FILE, SWT_TOKENIZER_FILE};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const swt_manifest_file *f = swt_manifest_file_of(&c->manifest, names[i]);
        char path[SWT_PATH_BYTES];
        int64_t bytes = 0;
        uint64_t hash = 0;
        if (f == NULL || swt_path_join(path, c->folder, names[i]) != SWT_OK ||
            swt_hash_file(path, &bytes, &hash, SWT_CHECKPOINT) != SWT_OK || hash == f->hash)
            continue;
        swt_warn(warnings, "%s: is not as its checkpoint's manifest says: it was changed", path);
    }
}

swt_status swt_checkpoint_load_weights(const swt_checkpoint *c, swt_model *m,
                                       swt_warnings *warnings) {
    int64_t altered = -1;
    SWT_TRY(load(c, m, SWT_SHARD_WEIGHTS, &altered));
    if (m->dist->rank != 0 || !c->listed)
        return SWT_OK;
    warn_of_files(c, warnings);
    if (altered < 0)
        return SWT_OK;
    const char *name = m->params.table[altered].name;
    const swt_tensor_entry *e = swt_manifest_tensor(&c->manifest, name);
    swt_warn(warnings, "%s/%s: tensor %s is not as its checkpoint's manifest says: it was changed",
             c->folder, e != NULL ? c->manifest.files[e->file].name : SWT_MANIFEST_FILE, name);
    return SWT_OK;
}

static swt_status restore(const swt_checkpoint *c, swt_model *m, swt_shard_kind kind) {
    int64_t altered = -1;
    SWT_TRY(load(c, m, kind, &altered));
    if (altered < 0)
        return SWT_OK;
    return swt_comm_agree(
        m->dist->host,
        SWT_FAIL(CHECKPOINT,
                 "%s: %s of tensor %s changed since it was verified; see that nobody writes there",
                 c->folder, kind == SWT_SHARD_WEIGHTS ? "the weights" : "what the optimiser keeps",
                 m->params.table[altered].name));
}

swt_status swt_checkpoint_restore(const swt_checkpoint *c, swt_model *m, uint64_t seed) {
    SWT_TRY(restore(c, m, SWT_SHARD_WEIGHTS));
    SWT_TRY(restore(c, m, SWT_SHARD_OPTIM));
    return swt_comm_agree(m->dist->host, swt_model_set_step(m, seed, c->manifest.step));
}
