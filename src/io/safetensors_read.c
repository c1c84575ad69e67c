#include "io/files.h"
#include "io/safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data are little-endian");

/* The format's own bound on the header. */
enum { LENGTH_BYTES = 8, LARGEST_HEADER_BYTES = 100000000, SHAPE_TEXT_BYTES = 128 };

static swt_status read_header(swt_tensor_file *f) {
    int64_t file_bytes = 0;
    SWT_TRY(swt_file_open(&f->fd, &file_bytes, f->path, f->status));
    if (file_bytes < LENGTH_BYTES)
        return SWT_FAIL_TENSORS(f, "has %lld bytes; a safetensors file has at least 10",
                                (long long)file_bytes);
    uint64_t header_bytes = 0;
    SWT_TRY(swt_file_read(f->fd, &header_bytes, LENGTH_BYTES, 0, f->path, f->status));
    if (header_bytes > LARGEST_HEADER_BYTES)
        return SWT_FAIL_TENSORS(
            f, "its header has %llu bytes; at most %d are allowed (no safetensors?)",
            (unsigned long long)header_bytes, LARGEST_HEADER_BYTES);
    if ((int64_t)header_bytes > file_bytes - LENGTH_BYTES)
        return SWT_FAIL_TENSORS(f,
                                "its header has %llu bytes, the file %lld; it is cut off or broken",
                                (unsigned long long)header_bytes, (long long)file_bytes);
    char *json = malloc(header_bytes + 1);
    if (json == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a header of %llu bytes", f->path,
                        (unsigned long long)header_bytes);
    json[header_bytes] = '\0';
    f->data_start_bytes = LENGTH_BYTES + (int64_t)header_bytes;
    swt_status status = swt_file_read(f->fd, json, header_bytes, LENGTH_BYTES, f->path, f->status);
    if (status == SWT_OK)
        status = swt_tensor_header_parse(f, json, header_bytes, file_bytes - f->data_start_bytes);
    free(json);
    return status;
}

swt_status swt_tensor_file_open(swt_tensor_file *out, const char *path, swt_status status) {
    *out = (swt_tensor_file){.fd = -1, .status = status};
    const size_t length = strlen(path);
    if (length >= sizeof out->path)
        return swt_fail(status, __FILE__, __LINE__,
                        "%.80s...: the path is too long; at most %zu bytes are possible", path,
                        sizeof out->path - 1);
    memcpy(out->path, path, length + 1);
    const swt_status result = read_header(out);
    if (result != SWT_OK)
        swt_tensor_file_close(out);
    return result;
}

void swt_tensor_file_close(swt_tensor_file *f) {
    if (f->fd >= 0)
        close(f->fd);
    free(f->entries);
    *f = (swt_tensor_file){.fd = -1};
}

static int name_against_entry(const void *name, const void *entry) {
    return strcmp(name, ((const swt_tensor_entry *)entry)->name);
}

const swt_tensor_entry *swt_tensor_file_find(const swt_tensor_file *f, const char *name) {
    if (f->count == 0)
        return NULL;
    return bsearch(name, f->entries, (size_t)f->count, sizeof *f->entries, name_against_entry);
}

/* "F32 [3, 4]" */
static void describe(char out[SHAPE_TEXT_BYTES], swt_dtype dtype, int dims, const int64_t *shape) {
    int at = snprintf(out, SHAPE_TEXT_BYTES, "%s [", swt_dtype_name(dtype));
    for (int i = 0; i < dims; i++)
        at += snprintf(out + at, (size_t)(SHAPE_TEXT_BYTES - at), "%s%lld", i > 0 ? ", " : "",
                       (long long)shape[i]);
    snprintf(out + at, (size_t)(SHAPE_TEXT_BYTES - at), "]");
}

swt_status swt_tensor_file_check(const swt_tensor_file *f, const char *name, swt_dtype dtype,
                                 int dims, const int64_t *shape) {
    char needed[SHAPE_TEXT_BYTES];
    describe(needed, dtype, dims, shape);
    const swt_tensor_entry *e = swt_tensor_file_find(f, name);
    if (e == NULL)
        return SWT_FAIL_TENSORS(f, "tensor %s: is missing; %s is needed", name, needed);
    bool fits = e->dtype == dtype && e->dims == dims;
    for (int i = 0; fits && i < dims; i++)
        fits = e->shape[i] == shape[i];
    if (fits)
        return SWT_OK;
    char has[SHAPE_TEXT_BYTES];
    describe(has, e->dtype, e->dims, e->shape);
    return SWT_FAIL_TENSORS(f, "tensor %s: is %s; %s is needed", name, has, needed);
}

swt_status swt_tensor_file_read(const swt_tensor_file *f, const char *name, swt_dtype dtype,
                                int dims, const int64_t *shape, void *out) {
    SWT_TRY(swt_tensor_file_check(f, name, dtype, dims, shape));
    const swt_tensor_entry *e = swt_tensor_file_find(f, name);
    return swt_file_read(f->fd, out, (size_t)e->bytes, f->data_start_bytes + e->offset_bytes,
                         f->path, f->status);
}
