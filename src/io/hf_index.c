#include "io/hf_index.h"

#include "base/utf8.h"
#include "io/json.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(offsetof(swt_hf_place, name) == 0, "a place that begins otherwise");

/* As much as a safetensors header may have, for about as many tensors. */
enum { MOST_BYTES = 100000000, MOST_TREE_MIB = 1024 };

#define FAIL(status, path, fmt, ...)                                                               \
    SWT_FAIL_AS(status, "%s: " fmt "; fetch the model again", swt_path_tail(path), __VA_ARGS__)

static int by_text(const void *a, const void *b) {
    return strcmp(a, b);
}

const swt_hf_place *swt_hf_index_find(const swt_hf_index *x, const char *name) {
    if (x->count == 0)
        return NULL;
    return bsearch(name, x->tensors, (size_t)x->count, sizeof *x->tensors, by_text);
}

void swt_hf_index_fini(swt_hf_index *x) {
    free(x->tensors);
    free(x->files);
    *x = (swt_hf_index){0};
}

/* ---- reading */

static swt_status read_place(swt_hf_place *out, const char *name, const json_t *item,
                             const char *path, swt_status status) {
    const size_t length = strlen(name);
    const char *file = json_string_value(item);
    if (length == 0 || length >= SWT_TENSOR_NAME_BYTES || !swt_utf8_printable(name))
        return FAIL(status, path, "%s", "has a name that no tensor has");
    if (file == NULL || !swt_is_file_name(file))
        return FAIL(status, path, "tensor %s is in no file of its folder", name);
    memcpy(out->name, name, length + 1);
    memcpy(out->file, file, strlen(file) + 1);
    return SWT_OK;
}

/* Each file once. */
static void list_files(swt_hf_index *x) {
    for (int64_t i = 0; i < x->count; i++)
        memcpy(x->files[i], x->tensors[i].file, sizeof x->files[i]);
    qsort(x->files, (size_t)x->count, sizeof *x->files, by_text);
    for (int64_t i = 0; i < x->count; i++)
        if (i == 0 || strcmp(x->files[i], x->files[x->file_count - 1]) != 0)
            memmove(x->files[x->file_count++], x->files[i], sizeof *x->files);
}

static swt_status read_map(swt_hf_index *x, const json_t *map, const char *path,
                           swt_status status) {
    const char *name = NULL;
    json_t *item = NULL;
    if (json_object_size(map) == 0)
        return FAIL(status, path, "%s", "has no object weight_map with a tensor");
    const size_t count = json_object_size(map);
    x->tensors = calloc(count, sizeof *x->tensors);
    x->files = calloc(count, sizeof *x->files);
    if (x->tensors == NULL || x->files == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for %zu tensors", path, count);
    json_object_foreach((json_t *)map, name, item) {
        SWT_TRY(read_place(&x->tensors[x->count], name, item, path, status));
        x->count++;
    }
    qsort(x->tensors, count, sizeof *x->tensors, by_text);
    list_files(x);
    return SWT_OK;
}

static swt_status parse(swt_hf_index *x, const char *text, size_t bytes, const char *path,
                        swt_status status) {
    json_error_t why;
    bool no_memory = false;
    if (swt_json_tree_bytes(text, bytes) >> 20 >= MOST_TREE_MIB)
        return FAIL(status, path, "%s", "holds more than an index has");
    json_t *root = swt_json_parse(text, bytes, &why, &no_memory);
    swt_status result = SWT_OK;
    if (no_memory)
        result = SWT_FAIL(MEMORY, "%s: no memory to read it; use a machine with more", path);
    else if (root == NULL)
        result =
            FAIL(status, path, "is no JSON (%s)", swt_utf8_printable(why.text) ? why.text : "?");
    else
        result = read_map(x, json_object_get(root, "weight_map"), path, status);
    json_decref(root);
    return result;
}

swt_status swt_hf_index_read(swt_hf_index *out, const char *path, swt_status status) {
    *out = (swt_hf_index){0};
    char *text = NULL;
    size_t bytes = 0;
    SWT_TRY(swt_file_load(&text, &bytes, path, MOST_BYTES, status));
    const swt_status result = parse(out, text, bytes, path, status);
    free(text);
    if (result != SWT_OK)
        swt_hf_index_fini(out);
    return result;
}

/* ---- writing */

typedef struct printed {
    const swt_hf_index *x;
    int64_t parameters, bytes;
} printed;

static void print(FILE *out, const void *thing) {
    const printed *p = thing;
    fprintf(out,
            "{\n  \"metadata\": {\n    \"total_parameters\": %" PRId64
            ",\n    \"total_size\": %" PRId64 "\n  },\n  \"weight_map\": {",
            p->parameters, p->bytes);
    for (int64_t i = 0; i < p->x->count; i++) {
        fprintf(out, "%s\n    ", i > 0 ? "," : "");
        swt_json_print_string(out, p->x->tensors[i].name);
        fputs(": ", out);
        swt_json_print_string(out, p->x->tensors[i].file);
    }
    fputs("\n  }\n}\n", out);
}

swt_status swt_hf_index_write(swt_hf_index *x, const char *path, int64_t parameters,
                              int64_t bytes) {
    qsort(x->tensors, (size_t)x->count, sizeof *x->tensors, by_text);
    return swt_file_print(path, "it", print, &(printed){x, parameters, bytes});
}
