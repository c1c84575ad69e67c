#include "base/checked.h"
#include "base/utf8.h"
#include "io/files.h"
#include "io/safetensors.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data are little-endian");

enum { FIRST_CAPACITY = 64, HEADER_ALIGN_BYTES = 8, NUMBERS_TEXT_BYTES = 128 };

static swt_status grow(swt_tensor_writer *w) {
    const int64_t capacity = w->capacity > 0 ? 2 * w->capacity : FIRST_CAPACITY;
    swt_tensor_entry *entries = realloc(w->entries, (size_t)capacity * sizeof *entries);
    if (entries == NULL)
        return SWT_FAIL(MEMORY, "safetensors: no memory for %lld tensors", (long long)capacity);
    w->entries = entries;
    w->capacity = capacity;
    return SWT_OK;
}

swt_status swt_tensor_writer_declare(swt_tensor_writer *w, const char *name, swt_dtype dtype,
                                     int dims, const int64_t *shape) {
    const size_t length = strlen(name);
    if (length == 0 || length >= SWT_TENSOR_NAME_BYTES || !swt_utf8_printable(name) ||
        strcmp(name, "__metadata__") == 0)
        return SWT_FAIL(SHAPE,
                        "safetensors: `%.80s` is no name of a tensor; 1 to %d printable "
                        "bytes are needed",
                        name, SWT_TENSOR_NAME_BYTES - 1);
    if (w->begun || dims < 0 || dims > SWT_TENSOR_DIMS)
        return SWT_FAIL(SHAPE, "safetensors: tensor %s cannot be declared: %s", name,
                        w->begun ? "the header is written" : "wrong number of dimensions");
    swt_tensor_entry e = {.dtype = dtype, .dims = dims, .offset_bytes = w->data_bytes};
    memcpy(e.name, name, length + 1);
    e.bytes = (int64_t)swt_dtype_bytes(dtype);
    bool fits = true;
    for (int i = 0; i < dims; i++) {
        e.shape[i] = shape[i];
        fits = fits && shape[i] >= 0 && swt_checked_mul(e.bytes, shape[i], &e.bytes);
    }
    int64_t data_bytes = 0;
    if (!fits || !swt_checked_add(w->data_bytes, e.bytes, &data_bytes))
        return SWT_FAIL(SHAPE, "safetensors: tensor %s has a negative or too large size", name);
    if (w->count == w->capacity)
        SWT_TRY(grow(w));
    w->entries[w->count++] = e;
    w->data_bytes = data_bytes;
    return SWT_OK;
}

static int by_name(const void *a, const void *b) {
    const swt_tensor_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static swt_status check_distinct(const swt_tensor_writer *w) {
    if (w->count == 0)
        return SWT_OK;
    const swt_tensor_entry **sorted = malloc((size_t)w->count * sizeof *sorted);
    if (sorted == NULL)
        return SWT_FAIL(MEMORY, "safetensors: no memory for %lld names", (long long)w->count);
    for (int64_t i = 0; i < w->count; i++)
        sorted[i] = &w->entries[i];
    qsort(sorted, (size_t)w->count, sizeof *sorted, by_name);
    swt_status status = SWT_OK;
    for (int64_t i = 1; i < w->count && status == SWT_OK; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            status = SWT_FAIL(SHAPE, "safetensors: tensor %s is declared twice", sorted[i]->name);
    free(sorted);
    return status;
}

/* "[3,4]". Written here because cJSON prints large integers with an exponent. */
static void numbers_text(char out[NUMBERS_TEXT_BYTES], const int64_t *numbers, int count) {
    int at = snprintf(out, NUMBERS_TEXT_BYTES, "[");
    for (int i = 0; i < count; i++)
        at += snprintf(out + at, (size_t)(NUMBERS_TEXT_BYTES - at), "%s%lld", i > 0 ? "," : "",
                       (long long)numbers[i]);
    snprintf(out + at, (size_t)(NUMBERS_TEXT_BYTES - at), "]");
}

static bool add_tensor(cJSON *root, const swt_tensor_entry *e) {
    const int64_t offsets[2] = {e->offset_bytes, e->offset_bytes + e->bytes};
    char shape_text[NUMBERS_TEXT_BYTES], offsets_text[NUMBERS_TEXT_BYTES];
    numbers_text(shape_text, e->shape, e->dims);
    numbers_text(offsets_text, offsets, 2);
    cJSON *item = cJSON_AddObjectToObject(root, e->name);
    return cJSON_AddStringToObject(item, "dtype", swt_dtype_name(e->dtype)) != NULL &&
           cJSON_AddRawToObject(item, "shape", shape_text) != NULL &&
           cJSON_AddRawToObject(item, "data_offsets", offsets_text) != NULL;
}

/* The header's text, which the caller frees with cJSON_free; NULL without memory. */
static char *header_text(const swt_tensor_writer *w) {
    cJSON *root = cJSON_CreateObject();
    bool complete = root != NULL;
    for (int64_t i = 0; complete && i < w->count; i++)
        complete = add_tensor(root, &w->entries[i]);
    char *text = complete ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

swt_status swt_tensor_writer_begin(swt_tensor_writer *w, const char *path) {
    const size_t length = strlen(path);
    if (length >= sizeof w->path)
        return SWT_FAIL(FILE, "%.80s...: the path is too long; at most %zu bytes are possible",
                        path, sizeof w->path - 1);
    memcpy(w->path, path, length + 1);
    SWT_TRY(check_distinct(w));
    char *text = header_text(w);
    if (text == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for the header", path);
    swt_status status = SWT_OK;
    SWT_TRY_TO(status, done, swt_file_create(&w->fd, path));
    w->begun = true;
    /* Spaces make the data begin at a multiple of 8 bytes, as readers that map the file expect. */
    static const char spaces[HEADER_ALIGN_BYTES] = "       ";
    const size_t text_bytes = strlen(text);
    const size_t pad_bytes =
        (HEADER_ALIGN_BYTES - text_bytes % HEADER_ALIGN_BYTES) % HEADER_ALIGN_BYTES;
    const uint64_t header_bytes = text_bytes + pad_bytes;
    SWT_TRY_TO(status, done, swt_file_write(w->fd, &header_bytes, sizeof header_bytes, path));
    SWT_TRY_TO(status, done, swt_file_write(w->fd, text, text_bytes, path));
    SWT_TRY_TO(status, done, swt_file_write(w->fd, spaces, pad_bytes, path));
done:
    cJSON_free(text);
    return status;
}

swt_status swt_tensor_writer_data(swt_tensor_writer *w, const void *data) {
    if (!w->begun || w->written == w->count)
        return SWT_FAIL(INTERNAL, "safetensors: more data than the %lld declared tensors",
                        (long long)w->count);
    SWT_TRY(swt_file_write(w->fd, data, (size_t)w->entries[w->written].bytes, w->path));
    w->written++;
    return SWT_OK;
}

swt_status swt_tensor_writer_end(swt_tensor_writer *w) {
    if (!w->begun || w->written != w->count)
        return SWT_FAIL(INTERNAL, "safetensors: data of %lld of %lld declared tensors",
                        (long long)w->written, (long long)w->count);
    const swt_status status = swt_file_finish(&w->fd, w->path);
    w->begun = false;
    if (status != SWT_OK)
        unlink(w->path);
    return status;
}

void swt_tensor_writer_fini(swt_tensor_writer *w) {
    if (w->begun) {
        close(w->fd);
        unlink(w->path);
    }
    free(w->entries);
    *w = (swt_tensor_writer){0};
}
