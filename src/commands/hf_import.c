/* checkpoint import: a model of Hugging Face's switch_transformers as a checkpoint of weights
 * alone. Rank 0 alone works. */
#include "base/words.h"
#include "commands/commands.h"
#include "io/checkpoint_dir.h"
#include "model/shards.h"
#include "options/hf_config.h"
#include "state/copy.h"
#include "state/hf.h"
#include "state/manifest_add.h"

#include <stdlib.h>
#include <string.h>

typedef struct incoming {
    swt_options *options; /* the model's, owned */
    swt_dims dims;
    swt_source source;
    swt_dist dist;
    swt_params params; /* of one rank, which holds all */
    swt_shards shards; /* the order in which it writes them */
    swt_copied *tensors;
    int64_t count;
} incoming;

/* ---- reading: all of it is judged before anything is written */

static swt_status read_folder(incoming *m, const char *folder, swt_warnings *warnings) {
    char path[SWT_PATH_BYTES];
    m->options = calloc(1, sizeof *m->options);
    if (m->options == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for its options", folder);
    SWT_TRY(swt_path_join(path, folder, SWT_HF_CONFIG_FILE));
    SWT_TRY(swt_hf_config_read(m->options, path, warnings));
    SWT_TRY(swt_dims_from_options(&m->dims, m->options, 0));
    SWT_TRY(swt_hf_open(&m->source, folder));
    return swt_hf_check(&m->source, &m->dims);
}

/* As a run of one rank would write them: the files of both are the same. */
static swt_status list_tensors(incoming *m) {
    SWT_TRY(swt_dist_from_options(&m->dist, m->options, &m->dims, 1, 0));
    SWT_TRY(swt_params_init(&m->params, &m->dims, &m->dist));
    SWT_TRY(swt_shards_init(&m->shards, &m->params, SWT_KEEPS_NOTHING, &m->dist));
    m->tensors = calloc((size_t)m->params.count, sizeof *m->tensors);
    if (m->tensors == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its tensors", m->source.path);
    for (; m->count < m->shards.own_count; m->count++) {
        const char *name = m->params.table[m->shards.own[m->count]].name;
        m->tensors[m->count].from = swt_hf_find(&m->source, name);
        snprintf(m->tensors[m->count].name, SWT_TENSOR_NAME_BYTES, "%s", name);
    }
    return SWT_OK;
}

/* ---- writing */

static swt_status fill_manifest(const incoming *m, swt_manifest *out, const swt_tensor_writer *w,
                                const char *folder) {
    out->files = calloc(2, sizeof *out->files);
    out->tensors = calloc((size_t)m->count, sizeof *out->tensors);
    if (out->files == NULL || out->tensors == NULL)
        return SWT_FAIL(MEMORY, "checkpoint: no memory for its manifest");
    SWT_TRY(swt_manifest_add_file(out, folder, SWT_WEIGHTS_FILE));
    SWT_TRY(swt_manifest_add_file(out, folder, SWT_CONFIG_FILE));
    for (; out->tensor_count < m->count; out->tensor_count++) {
        swt_tensor_entry *e = &out->tensors[out->tensor_count];
        *e = w->entries[out->tensor_count];
        e->offset_bytes += w->header_bytes;
    }
    return swt_manifest_add_options(out, m->options);
}

static swt_status write_files(const incoming *m, swt_tensor_writer *w, swt_manifest *manifest,
                              const char *folder) {
    const swt_tensor_entry *altered = NULL; /* nobody has said what they should be */
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, folder, SWT_WEIGHTS_FILE));
    SWT_TRY(swt_copy_tensors(w, path, &m->source, m->tensors, m->count, &altered));
    SWT_TRY(swt_path_join(path, folder, SWT_CONFIG_FILE));
    SWT_TRY(swt_options_write_file(m->options, path));
    SWT_TRY(fill_manifest(m, manifest, w, folder));
    SWT_TRY(swt_path_join(path, folder, SWT_MANIFEST_FILE));
    return swt_manifest_write(manifest, path);
}

static swt_status write_folder(const incoming *m, const char *path) {
    swt_new_folder folder;
    swt_tensor_writer w = {0};
    swt_manifest manifest = {0};
    SWT_TRY(swt_new_folder_begin(&folder, path));
    swt_status status = write_files(m, &w, &manifest, folder.hidden);
    swt_tensor_writer_fini(&w);
    swt_manifest_fini(&manifest);
    if (status == SWT_OK)
        status = swt_new_folder_publish(&folder);
    if (status != SWT_OK)
        swt_new_folder_discard(&folder);
    return status;
}

static swt_status run(swt_session *s, incoming *m) {
    const swt_options *o = s->options;
    swt_status status = read_folder(m, o->hf_path, &s->warnings);
    if (status == SWT_FILE) /* it is a checkpoint, too */
        status = swt_last_error()->status = SWT_CHECKPOINT;
    SWT_TRY(status);
    SWT_TRY(list_tensors(m));
    SWT_TRY(write_folder(m, o->run_out));
    fprintf(s->out,
            "%s: %lld tensors, %lld parameters, a vocabulary of %lld tokens known by number\n",
            o->run_out, (long long)m->count, (long long)m->params.total, (long long)m->dims.V);
    return SWT_OK;
}

swt_status swt_command_checkpoint_import(swt_session *s) {
    incoming m = {.source = {.all = {.fd = -1}}};
    const swt_status status = s->world->rank == 0 ? run(s, &m) : SWT_OK;
    free(m.tensors);
    swt_shards_fini(&m.shards);
    swt_params_fini(&m.params);
    swt_dist_fini(&m.dist);
    swt_source_close(&m.source);
    free(m.options);
    return swt_comm_agree(s->world, status);
}
