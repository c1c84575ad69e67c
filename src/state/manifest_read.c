/* The reader of manifests: it believes nothing. */
#include "state/manifest.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "io/checkpoint_dir.h"
#include "io/json.h"
#include "state/manifest_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* As much as a safetensors header may have, for about as many tensors. */
enum { MOST_BYTES = 100000000, MOST_TREE_MIB = 1024 };

#define FAIL(path, fmt, ...)                                                                       \
    SWT_FAIL(CHECKPOINT, "%s: " fmt "; use another checkpoint", swt_path_tail(path), __VA_ARGS__)

/* The members of an object, each of which must be there, and no others. */
static swt_status want_members(const json_t *object, const char *const *names, size_t count,
                               const char *path, const char *what) {
    if (!json_is_object(object))
        return FAIL(path, "%s is no object", what);
    for (size_t i = 0; i < count; i++)
        if (json_object_get(object, names[i]) == NULL)
            return FAIL(path, "%s has no %s", what, names[i]);
    if (json_object_size(object) != count)
        return FAIL(path, "%s has members that are not known", what);
    return SWT_OK;
}

#define WANT_MEMBERS(object, path, what, ...)                                                      \
    want_members(object, (const char *const[]){__VA_ARGS__},                                       \
                 sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *), path, what)

/* A count; -1 is none. */
static int64_t count_of(const json_t *object, const char *name) {
    const json_t *item = json_object_get(object, name);
    return json_is_integer(item) && json_integer_value(item) >= 0 ? json_integer_value(item) : -1;
}

/* 16 hexadecimal digits in lower case. */
static bool read_hash(const json_t *object, const char *name, uint64_t *out) {
    const char *text = json_string_value(json_object_get(object, name));
    *out = 0;
    if (text == NULL || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static swt_status read_files(swt_manifest *m, const json_t *files, const char *path) {
    const char *name = NULL;
    json_t *item = NULL;
    if (!json_is_object(files))
        return FAIL(path, "%s", "files is no object");
    m->files = calloc(json_object_size(files) + 1, sizeof *m->files);
    if (m->files == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its files", path);
    json_object_foreach((json_t *)files, name, item) {
        swt_manifest_file *f = &m->files[m->file_count];
        if (!swt_is_file_name(name) || strcmp(name, SWT_MANIFEST_FILE) == 0)
            return FAIL(path, "file %lld has a name that no checkpoint's file has",
                        (long long)m->file_count);
        memcpy(f->name, name, strlen(name) + 1);
        SWT_TRY(WANT_MEMBERS(item, path, f->name, "bytes", "hash"));
        f->bytes = count_of(item, "bytes");
        if (f->bytes < 0 || !read_hash(item, "hash", &f->hash))
            return FAIL(path, "file %s has no bytes, or no hash of 16 digits", f->name);
        m->file_count++;
    }
    qsort(m->files, (size_t)m->file_count, sizeof *m->files, by_name);
    return SWT_OK;
}

static bool read_dtype(swt_tensor_entry *e, const char *name) {
    for (int d = 0; d < SWT_DTYPE_COUNT && name != NULL; d++) {
        e->dtype = (swt_dtype)d;
        if (strcmp(name, swt_dtype_name(e->dtype)) == 0)
            return true;
    }
    return false;
}

/* Fills dims, shape and bytes. */
static bool read_shape(swt_tensor_entry *e, const json_t *shape) {
    if (!json_is_array(shape) || json_array_size(shape) > SWT_TENSOR_DIMS)
        return false;
    e->dims = (int)json_array_size(shape);
    e->bytes = (int64_t)swt_dtype_bytes(e->dtype);
    for (int i = 0; i < e->dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        e->shape[i] = json_integer_value(size);
        if (!json_is_integer(size) || e->shape[i] < 0 ||
            !swt_checked_mul(e->bytes, e->shape[i], &e->bytes))
            return false;
    }
    return true;
}

static swt_status read_tensor(swt_manifest *m, swt_tensor_entry *e, const char *name,
                              const json_t *item, const char *path) {
    const size_t length = strlen(name);
    if (length == 0 || length >= SWT_TENSOR_NAME_BYTES || !swt_utf8_printable(name))
        return FAIL(path, "tensor %lld has a name that no tensor has", (long long)m->tensor_count);
    memcpy(e->name, name, length + 1);
    SWT_TRY(WANT_MEMBERS(item, path, e->name, "file", "offset", "shape", "dtype", "hash"));
    const char *file = json_string_value(json_object_get(item, "file"));
    const swt_manifest_file *f = file != NULL ? swt_manifest_file_of(m, file) : NULL;
    if (f == NULL)
        return FAIL(path, "tensor %s is in a file that it does not list", name);
    int64_t end_bytes = 0;
    e->file = (int)(f - m->files);
    e->offset_bytes = count_of(item, "offset");
    if (!read_dtype(e, json_string_value(json_object_get(item, "dtype"))) ||
        !read_shape(e, json_object_get(item, "shape")) || !read_hash(item, "hash", &e->hash) ||
        e->offset_bytes < 0)
        return FAIL(path, "tensor %s has a dtype, a shape, a place or a hash that is none", name);
    if (!swt_checked_add(e->offset_bytes, e->bytes, &end_bytes) || end_bytes > f->bytes)
        return FAIL(path, "tensor %s does not fit into its file", name);
    return SWT_OK;
}

static swt_status read_tensors(swt_manifest *m, const json_t *tensors, const char *path) {
    const char *name = NULL;
    json_t *item = NULL;
    if (!json_is_object(tensors))
        return FAIL(path, "%s", "tensors is no object");
    m->tensors = calloc(json_object_size(tensors) + 1, sizeof *m->tensors);
    if (m->tensors == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its tensors", path);
    json_object_foreach((json_t *)tensors, name, item) {
        SWT_TRY(read_tensor(m, &m->tensors[m->tensor_count], name, item, path));
        m->tensor_count++;
    }
    qsort(m->tensors, (size_t)m->tensor_count, sizeof *m->tensors, by_name);
    return SWT_OK;
}

static swt_status read_config(swt_manifest *m, const json_t *config, const char *path) {
    const char *key = NULL;
    json_t *item = NULL;
    if (!json_is_object(config))
        return FAIL(path, "%s", "config is no object");
    m->keys = calloc(json_object_size(config) + 1, sizeof *m->keys);
    if (m->keys == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for its configuration", path);
    json_object_foreach((json_t *)config, key, item) {
        const char *value = json_string_value(item);
        if (value == NULL || !swt_utf8_printable(key))
            return FAIL(path, "key %lld of config is no key, or no text", (long long)m->key_count);
        m->keys[m->key_count++] = (swt_manifest_key){.key = key, .value = value};
    }
    return SWT_OK;
}

static swt_status read_data(swt_manifest *m, const json_t *data, const char *path) {
    SWT_TRY(WANT_MEMBERS(data, path, "data", "path", "train_hash", "valid_hash", "position"));
    m->data_path = json_string_value(json_object_get(data, "path"));
    m->position_tokens = count_of(data, "position");
    if (m->data_path == NULL || m->position_tokens < 0 ||
        !read_hash(data, "train_hash", &m->train_hash) ||
        !read_hash(data, "valid_hash", &m->valid_hash))
        return FAIL(path, "%s", "data has no path, no position, or hashes not of 16 digits");
    return SWT_OK;
}

static swt_status read_root(swt_manifest *m, const json_t *root, const char *path) {
    /* The format first: another one may have other members. */
    const int64_t format = count_of(root, "format");
    if (format != SWT_MANIFEST_FORMAT)
        return FAIL(path, "its format is %lld, and this program reads %d", (long long)format,
                    SWT_MANIFEST_FORMAT);
    SWT_TRY(WANT_MEMBERS(root, path, "it", "format", "step", "skipped", "valid_loss", "data",
                         "ledger", "config", "files", "tensors", "hash"));
    const json_t *loss = json_object_get(root, "valid_loss");
    m->step = count_of(root, "step");
    m->skipped = count_of(root, "skipped");
    m->evaluated = !json_is_null(loss);
    m->valid_loss = json_number_value(loss);
    if (m->step < 0 || (m->evaluated && (!json_is_number(loss) || !isfinite(m->valid_loss))))
        return FAIL(path, "%s", "its step or valid_loss is none");
    if (m->skipped < 0 || m->skipped > m->step)
        return FAIL(path, "%s", "it has skipped no number of steps, or more than it has done");
    if (!read_hash(root, "ledger", &m->ledger))
        return FAIL(path, "%s", "its ledger is no hash of 16 digits");
    SWT_TRY(read_data(m, json_object_get(root, "data"), path));
    SWT_TRY(read_config(m, json_object_get(root, "config"), path));
    SWT_TRY(read_files(m, json_object_get(root, "files"), path));
    return read_tensors(m, json_object_get(root, "tensors"), path);
}

/* The last two lines are those that belong to the lines before them. */
static bool own_hash_fits(const char *text, size_t bytes) {
    char end[SWT_MANIFEST_END_BYTES];
    swt_manifest_print_end(end, "", 0);
    const size_t end_bytes = strlen(end);
    if (bytes < end_bytes)
        return false;
    swt_manifest_print_end(end, text, bytes - end_bytes);
    return memcmp(text + bytes - end_bytes, end, end_bytes) == 0;
}

static swt_status parse(swt_manifest *m, const char *text, size_t bytes, const char *path) {
    json_error_t why;
    bool no_memory = false;
    if (!own_hash_fits(text, bytes))
        return FAIL(path, "%s", "its own hash, in its last line, is not that of its text");
    if (swt_json_tree_bytes(text, bytes) > (size_t)MOST_TREE_MIB << 20)
        return FAIL(path, "%s", "holds more than a manifest has");
    m->tree = swt_json_parse(text, bytes, &why, &no_memory);
    if (no_memory)
        return SWT_FAIL(MEMORY, "%s: no memory to read it; use a machine with more", path);
    if (m->tree == NULL)
        return FAIL(path, "is no JSON (%s)", swt_utf8_printable(why.text) ? why.text : "?");
    return read_root(m, m->tree, path);
}

swt_status swt_manifest_read(swt_manifest *out, const char *path) {
    *out = (swt_manifest){0};
    char *text = NULL;
    size_t bytes = 0;
    SWT_TRY(swt_file_load(&text, &bytes, path, MOST_BYTES, SWT_CHECKPOINT));
    const swt_status status = parse(out, text, bytes, path);
    free(text);
    if (status != SWT_OK)
        swt_manifest_fini(out);
    return status;
}
