/* checkpoint export: a checkpoint's weights in Hugging Face's switch_transformers layout. Rank 0
 * alone works. */
#include "base/checked.h"
#include "commands/commands.h"
#include "io/hf_index.h"
#include "options/hf_config.h"
#include "state/copy.h"
#include "state/hf.h"
#include "state/load.h"

#include <stdlib.h>
#include <string.h>

/* A tensor to write. */
typedef struct item {
    swt_copied tensor;
    swt_hf_order order;
    int64_t number; /* in our own order, which decides last */
    int file;
} item;

typedef struct outgoing {
    swt_checkpoint checkpoint;
    swt_source source;
    swt_dims dims;
    item *items;
    int64_t count, capacity;
    int files;
    const swt_tensor_entry *altered;
} outgoing;

/* ---- which tensor goes into which file */

static int compare(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

/* As transformers lists the parameters of a model. */
static int by_module(const void *a, const void *b) {
    const item *x = a, *y = b;
    const int64_t orders[][2] = {{x->order.stack, y->order.stack},
                                 {x->order.block, y->order.block},
                                 {x->order.part, y->order.part},
                                 {x->order.expert, y->order.expert},
                                 {x->number, y->number}};
    int result = 0;
    for (size_t i = 0; i < sizeof orders / sizeof *orders && result == 0; i++)
        result = compare(orders[i][0], orders[i][1]);
    return result;
}

/* As the library of safetensors writes a file: F32 before what is narrower, then by name. */
static int by_file(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    const swt_dtype p = x->tensor.from->dtype, q = y->tensor.from->dtype;
    return p != q ? (p < q ? -1 : 1) : strcmp(x->tensor.name, y->tensor.name);
}

static swt_status add_item(void *context, const swt_param *p) {
    outgoing *x = context;
    if (x->count == x->capacity) {
        x->capacity = x->capacity > 0 ? 2 * x->capacity : 256;
        item *items = realloc(x->items, (size_t)x->capacity * sizeof *items);
        if (items == NULL)
            return SWT_FAIL(MEMORY, "export: no memory for a list of its tensors");
        x->items = items;
    }
    item *i = &x->items[x->count];
    *i = (item){.number = x->count, .tensor.from = swt_tensor_file_find(&x->source.all, p->name)};
    if (!swt_hf_name(i->tensor.name, &i->order, p->name))
        return SWT_FAIL(INTERNAL, "%s: has no name in switch_transformers", p->name);
    x->count++;
    return SWT_OK;
}

/* A file is full where the next tensor, in the modules' order, is too much for it. */
static swt_status list_items(outgoing *x, int64_t most_bytes) {
    int64_t bytes = 0;
    SWT_TRY(swt_params_visit(&x->dims, add_item, x));
    qsort(x->items, (size_t)x->count, sizeof *x->items, by_module);
    for (int64_t i = 0; i < x->count; i++) {
        const int64_t next = x->items[i].tensor.from->bytes;
        if (bytes > 0 && next > most_bytes - bytes) {
            x->files++;
            bytes = 0;
        }
        x->items[i].file = x->files;
        bytes += next;
    }
    x->files++;
    qsort(x->items, (size_t)x->count, sizeof *x->items, by_file);
    return SWT_OK;
}

/* ---- writing */

static void file_name(char out[SWT_FILE_NAME_BYTES], const outgoing *x, int file) {
    if (x->files == 1)
        snprintf(out, SWT_FILE_NAME_BYTES, SWT_HF_WEIGHTS_FILE);
    else
        snprintf(out, SWT_FILE_NAME_BYTES, "model-%05d-of-%05d.safetensors", file + 1, x->files);
}

/* The tensors of one file, which begin at item `first`; *next = where they end. */
static swt_status write_file(outgoing *x, const char *folder, int64_t first, int64_t *next) {
    char name[SWT_FILE_NAME_BYTES], path[SWT_PATH_BYTES];
    swt_tensor_writer w = {.format = "pt"};
    int64_t end = first;
    while (end < x->count && x->items[end].file == x->items[first].file)
        end++;
    *next = end;
    file_name(name, x, x->items[first].file);
    SWT_TRY(swt_path_join(path, folder, name));
    swt_copied *tensors = calloc((size_t)(end - first), sizeof *tensors);
    if (tensors == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its tensors", path);
    for (int64_t i = first; i < end; i++)
        tensors[i - first] = x->items[i].tensor;
    const swt_status status =
        swt_copy_tensors(&w, path, &x->source, tensors, end - first, &x->altered);
    swt_tensor_writer_fini(&w);
    free(tensors);
    return status;
}

static swt_status write_index(const outgoing *x, const char *folder) {
    char path[SWT_PATH_BYTES];
    swt_hf_index index = {.tensors = calloc((size_t)x->count, sizeof *index.tensors)};
    int64_t parameters = 0, bytes = 0;
    swt_status status = swt_path_join(path, folder, SWT_HF_INDEX_FILE);
    if (status == SWT_OK && index.tensors == NULL)
        status = SWT_FAIL(MEMORY, "%s: no memory for a list of its tensors", path);
    for (int64_t i = 0; i < x->count && status == SWT_OK; i++) {
        const swt_tensor_entry *e = x->items[i].tensor.from;
        swt_hf_place *p = &index.tensors[index.count++];
        memcpy(p->name, x->items[i].tensor.name, sizeof p->name);
        file_name(p->file, x, x->items[i].file);
        parameters += e->bytes / (int64_t)swt_dtype_bytes(e->dtype);
        bytes += e->bytes;
    }
    if (status == SWT_OK)
        status = swt_hf_index_write(&index, path, parameters, bytes);
    swt_hf_index_fini(&index);
    return status;
}

/* What transformers calls the type of the embedding, which it makes the model's. */
static const char *dtype_of(const outgoing *x) {
    const swt_dtype dtype = swt_tensor_file_find(&x->source.all, "embed.weight")->dtype;
    return dtype == SWT_BF16 ? "bfloat16" : dtype == SWT_F16 ? "float16" : "float32";
}

static swt_status write_files(outgoing *x, const swt_options *o, const char *folder) {
    char path[SWT_PATH_BYTES];
    for (int64_t i = 0; i < x->count;)
        SWT_TRY(write_file(x, folder, i, &i));
    if (x->files > 1)
        SWT_TRY(write_index(x, folder));
    SWT_TRY(swt_path_join(path, folder, SWT_HF_CONFIG_FILE));
    return swt_hf_config_write(o, dtype_of(x), path);
}

static swt_status write_folder(outgoing *x, const swt_options *o) {
    swt_new_folder folder;
    SWT_TRY(swt_new_folder_begin(&folder, o->hf_path));
    swt_status status = write_files(x, o, folder.hidden);
    if (status == SWT_OK)
        status = swt_new_folder_publish(&folder);
    if (status != SWT_OK)
        swt_new_folder_discard(&folder);
    return status;
}

/* ---- the checkpoint */

/* transformers has one fixed capacity, of a sequence in both stacks: where ours goes by a factor,
 * what an evaluation gives the longer one. */
static void settle(swt_options *o, const swt_dims *d, swt_warnings *warnings) {
    o->dims.V = d->V;
    o->dims.D = d->D;
    o->model_encoder_layers = d->encoder_L;
    if (d->capacity > 0 || swt_sparse_layers(d) == 0)
        return;
    o->dims.capacity = swt_max(1, swt_group_capacity(d, swt_most_positions(d), false));
    swt_warn(warnings,
             "%s: moe.capacity is 0; expert_capacity became %lld, that of a sequence of %lld "
             "tokens in evaluation",
             swt_path_tail(o->folder_path), (long long)o->dims.capacity,
             (long long)swt_most_positions(d));
}

static swt_status read_checkpoint(outgoing *x, swt_options *o, swt_warnings *warnings) {
    int64_t vocab = 0;
    SWT_TRY(swt_hf_config_check(o, o->folder_path, warnings));
    SWT_TRY(swt_checkpoint_open(&x->checkpoint, o->folder_path));
    SWT_TRY(swt_source_open(&x->source, o->folder_path,
                            x->checkpoint.listed ? &x->checkpoint.manifest : NULL,
                            SWT_SHARD_WEIGHTS));
    SWT_TRY(swt_weights_vocab(&x->source, &vocab));
    SWT_TRY(swt_dims_from_options(&x->dims, o, vocab));
    SWT_TRY(swt_weights_check(&x->source, &x->dims));
    settle(o, &x->dims, warnings);
    return SWT_OK;
}

static swt_status run(swt_session *s, outgoing *x) {
    swt_options *o = s->options;
    swt_status status = read_checkpoint(x, o, &s->warnings);
    if (status == SWT_FILE) /* it is a checkpoint's */
        status = swt_last_error()->status = SWT_CHECKPOINT;
    SWT_TRY(status);
    SWT_TRY(list_items(x, o->shard_bytes));
    SWT_TRY(write_folder(x, o));
    if (x->altered != NULL)
        swt_warn(&s->warnings, "%s: tensor %s is not as its manifest says: it was changed",
                 swt_path_tail(o->folder_path), x->altered->name);
    fprintf(s->out, "%s: %lld tensors in %d file%s\n", o->hf_path, (long long)x->count, x->files,
            x->files == 1 ? "" : "s");
    return SWT_OK;
}

swt_status swt_command_checkpoint_export(swt_session *s) {
    outgoing x = {.source = {.all = {.fd = -1}}};
    const swt_status status = s->world->rank == 0 ? run(s, &x) : SWT_OK;
    free(x.items);
    swt_source_close(&x.source);
    swt_checkpoint_close(&x.checkpoint);
    return swt_comm_agree(s->world, status);
}
