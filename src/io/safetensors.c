#include "io/safetensors.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "base/words.h"
#include "io/files.h"
#include "io/json.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data are little-endian");

/* The format's own bound on the header. */
enum { LENGTH_BYTES = 8, LARGEST_HEADER_BYTES = 100000000, HEADER_ALIGN_BYTES = 8 };

/* Some 900,000 tensors, as many as a header of that size describes. */
enum { LARGEST_TREE_MIB = 1024 };

enum { FIRST_CAPACITY = 64, SHAPE_TEXT_BYTES = 128 };

static const char *const metadata_name = "__metadata__";

/* "FILE: WHAT" with the status of the file being read. */
#define FAIL_FILE(f, fmt, ...) SWT_FAIL_AS((f)->status, "%s: " fmt, (f)->path, __VA_ARGS__)

/* "FILE: tensor NAME: WHAT"; the name is the first of what fmt's own values follow. */
#define FAIL_TENSOR(f, fmt, ...) FAIL_FILE(f, "tensor %s: " fmt, __VA_ARGS__)

/* Entries, or a name and an entry: an entry begins with its name. */
static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

_Static_assert(offsetof(swt_tensor_entry, name) == 0, "an entry that begins otherwise");

/* ---- a tensor in the header: "name":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]} */

/* "[3,4]", or "[3, 4]" */
static void print_shape(char out[SHAPE_TEXT_BYTES], int dims, const int64_t *shape,
                        const char *between) {
    snprintf(out, SHAPE_TEXT_BYTES, "[");
    for (int i = 0; i < dims; i++)
        swt_append(out, SHAPE_TEXT_BYTES, "%s%lld", i > 0 ? between : "", (long long)shape[i]);
    swt_append(out, SHAPE_TEXT_BYTES, "]");
}

static void print_tensor(FILE *out, const swt_tensor_entry *e) {
    char shape[SHAPE_TEXT_BYTES];
    const int64_t end_bytes = e->offset_bytes + e->bytes;
    print_shape(shape, e->dims, e->shape, ",");
    swt_json_print_string(out, e->name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%lld,%lld]}",
            swt_dtype_name(e->dtype), shape, (long long)e->offset_bytes, (long long)end_bytes);
}

/* Fills bytes; false where the shape is none, or has too many of them. */
static bool count_bytes(swt_tensor_entry *e) {
    e->bytes = (int64_t)swt_dtype_bytes(e->dtype);
    for (int i = 0; i < e->dims; i++)
        if (e->shape[i] < 0 || !swt_checked_mul(e->bytes, e->shape[i], &e->bytes))
            return false;
    return true;
}

static bool to_count(const json_t *item, int64_t *out) {
    *out = json_integer_value(item);
    return json_is_integer(item) && *out >= 0;
}

static swt_status parse_name(const swt_tensor_file *f, swt_tensor_entry *e, const char *name) {
    const size_t length = strlen(name);
    if (!swt_utf8_printable(name))
        return FAIL_FILE(f, "tensor %lld has a name that is not printable UTF-8; rename it",
                         (long long)f->count);
    if (length == 0 || length >= SWT_TENSOR_NAME_BYTES)
        return FAIL_FILE(f, "tensor %.80s: its name has %zu bytes; 1 to %d are possible", name,
                         length, SWT_TENSOR_NAME_BYTES - 1);
    memcpy(e->name, name, length + 1);
    return SWT_OK;
}

#define DTYPE_WORD(name, bytes) " " #name
#define KNOWN_DTYPES            SWT_DTYPE_LIST(DTYPE_WORD)

static swt_status parse_dtype(const swt_tensor_file *f, swt_tensor_entry *e, const json_t *item) {
    const char *name = json_string_value(item);
    if (name == NULL)
        return FAIL_TENSOR(f, "dtype is no string; one of%s is needed", e->name, KNOWN_DTYPES);
    for (int d = 0; d < SWT_DTYPE_COUNT; d++) {
        e->dtype = (swt_dtype)d;
        if (strcmp(name, swt_dtype_name(e->dtype)) == 0)
            return SWT_OK;
    }
    return FAIL_TENSOR(f, "dtype %.16s is not supported; one of%s is needed", e->name,
                       swt_utf8_printable(name) ? name : "?", KNOWN_DTYPES);
}

/* Fills dims, shape and bytes. */
static swt_status parse_shape(const swt_tensor_file *f, swt_tensor_entry *e, const json_t *item) {
    if (!json_is_array(item))
        return FAIL_TENSOR(f, "shape is no array; a list of sizes is needed", e->name);
    const size_t dims = json_array_size(item);
    if (dims > SWT_TENSOR_DIMS)
        return FAIL_TENSOR(f, "has %zu dimensions; at most %d are supported", e->name, dims,
                           SWT_TENSOR_DIMS);
    e->dims = (int)dims;
    for (int i = 0; i < e->dims; i++)
        if (!to_count(json_array_get(item, (size_t)i), &e->shape[i]))
            return FAIL_TENSOR(f, "size %d of its shape is no count; an integer from 0 is needed",
                               e->name, i);
    if (!count_bytes(e))
        return FAIL_TENSOR(f, "its shape has more than 2^63 bytes; write it again", e->name);
    return SWT_OK;
}

static swt_status parse_offsets(const swt_tensor_file *f, swt_tensor_entry *e, const json_t *item,
                                int64_t data_bytes) {
    int64_t end = 0;
    if (json_array_size(item) != 2 || !to_count(json_array_get(item, 0), &e->offset_bytes) ||
        !to_count(json_array_get(item, 1), &end))
        return FAIL_TENSOR(f, "data_offsets is no pair of counts; [begin, end] is needed", e->name);
    if (end > data_bytes)
        return FAIL_TENSOR(f, "its data end at byte %lld of %lld; the file is cut off or broken",
                           e->name, (long long)end, (long long)data_bytes);
    if (end < e->offset_bytes || end - e->offset_bytes != e->bytes)
        return FAIL_TENSOR(f, "has %lld bytes of data; its shape needs %lld", e->name,
                           (long long)(end - e->offset_bytes), (long long)e->bytes);
    return SWT_OK;
}

static swt_status parse_tensor(const swt_tensor_file *f, swt_tensor_entry *e, const char *name,
                               const json_t *item, int64_t data_bytes) {
    SWT_TRY(parse_name(f, e, name));
    const json_t *dtype = json_object_get(item, "dtype"), *shape = json_object_get(item, "shape"),
                 *offsets = json_object_get(item, "data_offsets");
    /* Three found and three there: no field is unknown. */
    if (json_object_size(item) != 3 || dtype == NULL || shape == NULL || offsets == NULL)
        return FAIL_TENSOR(
            f, "is not described; an object of dtype, shape and data_offsets is needed", e->name);
    SWT_TRY(parse_dtype(f, e, dtype));
    SWT_TRY(parse_shape(f, e, shape));
    return parse_offsets(f, e, offsets, data_bytes);
}

/* ---- the header: an object of them, and free-form metadata that is skipped */

/* The text, which the caller frees; false without memory. Spaces make the data begin at a multiple
 * of 8 bytes, as readers that map the file expect. */
static bool print_header(const swt_tensor_writer *w, swt_memory_stream *m) {
    FILE *out = swt_memory_stream_open(m);
    if (out == NULL)
        return false;
    fputc('{', out);
    if (w->format != NULL)
        fprintf(out, "\"%s\":{\"format\":\"%s\"}", metadata_name, w->format);
    for (int64_t i = 0; i < w->count; i++) {
        if (i > 0 || w->format != NULL)
            fputc(',', out);
        print_tensor(out, &w->entries[i]);
    }
    fputc('}', out);
    fflush(out);
    const size_t over_bytes = m->bytes % HEADER_ALIGN_BYTES;
    fprintf(out, "%*s", over_bytes > 0 ? HEADER_ALIGN_BYTES - (int)over_bytes : 0, "");
    return swt_memory_stream_close(m);
}

static int by_offset(const void *a, const void *b) {
    const swt_tensor_entry *x = a, *y = b;
    if (x->offset_bytes != y->offset_bytes)
        return x->offset_bytes < y->offset_bytes ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* an empty tensor before its neighbour */
}

/* Every byte of data belongs to exactly one tensor. */
static swt_status check_tiling(const swt_tensor_file *f, int64_t data_bytes) {
    int64_t end = 0;
    for (int64_t i = 0; i < f->count; i++) {
        const swt_tensor_entry *e = &f->entries[i];
        if (e->offset_bytes != end)
            return FAIL_TENSOR(f,
                               "its data begin at byte %lld; without gap or overlap "
                               "that is %lld",
                               e->name, (long long)e->offset_bytes, (long long)end);
        end += e->bytes;
    }
    if (end != data_bytes)
        return FAIL_FILE(f, "has %lld bytes of data; its tensors have %lld", (long long)data_bytes,
                         (long long)end);
    return SWT_OK;
}

static swt_status parse_tensors(swt_tensor_file *f, json_t *root, int64_t data_bytes) {
    const size_t members = json_object_size(root);
    f->entries = calloc(members + 1, sizeof *f->entries); /* + 1: never 0 bytes */
    if (f->entries == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for %zu tensors", f->path, members);
    const char *name = NULL;
    json_t *item = NULL;
    json_object_foreach(root, name, item) {
        if (strcmp(name, metadata_name) == 0)
            continue;
        SWT_TRY(parse_tensor(f, &f->entries[f->count], name, item, data_bytes));
        f->count++;
    }
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_offset);
    SWT_TRY(check_tiling(f, data_bytes));
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
    return SWT_OK;
}

static swt_status check_header_bytes(const swt_tensor_file *f, uint64_t bytes) {
    if (bytes <= LARGEST_HEADER_BYTES)
        return SWT_OK;
    return FAIL_FILE(f, "its header has %llu bytes; at most %d are allowed (no safetensors?)",
                     (unsigned long long)bytes, LARGEST_HEADER_BYTES);
}

static swt_status parse_header(swt_tensor_file *f, const char *text, size_t bytes,
                               int64_t data_bytes) {
    json_error_t why;
    bool no_memory = false;
    if (swt_json_tree_bytes(text, bytes) >> 20 >= LARGEST_TREE_MIB)
        return FAIL_FILE(f,
                         "its header of %zu bytes would take more than %d MiB to read; write "
                         "the tensors to several files",
                         bytes, LARGEST_TREE_MIB);
    json_t *root = swt_json_parse(text, bytes, &why, &no_memory);
    swt_status status = SWT_OK;
    if (no_memory)
        status = SWT_FAIL(MEMORY,
                          "%s: no memory to read its header of %zu bytes; use a machine with more",
                          f->path, bytes);
    else if (!json_is_object(root))
        status =
            FAIL_FILE(f, "its header of %zu bytes is no JSON object (%s); write the file again",
                      bytes, root == NULL ? why.text : "a list");
    else
        status = parse_tensors(f, root, data_bytes);
    json_decref(root);
    return status;
}

/* ---- writing */

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
        strcmp(name, metadata_name) == 0)
        return SWT_FAIL(SHAPE,
                        "safetensors: `%.80s` is no name of a tensor; 1 to %d printable "
                        "bytes are needed",
                        name, SWT_TENSOR_NAME_BYTES - 1);
    if (w->begun || dims < 0 || dims > SWT_TENSOR_DIMS)
        return SWT_FAIL(SHAPE, "safetensors: tensor %s cannot be declared: %s", name,
                        w->begun ? "the header is written" : "wrong number of dimensions");
    swt_tensor_entry e = {.dtype = dtype, .dims = dims, .offset_bytes = w->data_bytes};
    memcpy(e.name, name, length + 1);
    for (int i = 0; i < dims; i++)
        e.shape[i] = shape[i];
    int64_t data_bytes = 0;
    if (!count_bytes(&e) || !swt_checked_add(w->data_bytes, e.bytes, &data_bytes))
        return SWT_FAIL(SHAPE, "safetensors: tensor %s has a negative or too large size", name);
    if (w->count == w->capacity)
        SWT_TRY(grow(w));
    w->entries[w->count++] = e;
    w->data_bytes = data_bytes;
    return SWT_OK;
}

/* What the reader below would refuse is not written: names that are there twice, too many of them.
 */
static swt_status check_header(const swt_tensor_writer *w, const char *text, size_t bytes) {
    swt_tensor_file f = {.fd = -1, .status = SWT_SHAPE};
    memcpy(f.path, w->path, sizeof f.path);
    swt_status status = check_header_bytes(&f, bytes);
    if (status == SWT_OK)
        status = parse_header(&f, text, bytes, w->data_bytes);
    swt_tensor_file_close(&f);
    return status;
}

/* A path of a file, which is kept for messages. Errors: `status`. */
static swt_status keep_path(char out[SWT_PATH_BYTES], const char *path, swt_status status) {
    const size_t length = strlen(path);
    if (length >= SWT_PATH_BYTES)
        return SWT_FAIL_AS(status, "%.80s...: the path is too long; at most %d bytes are possible",
                           path, SWT_PATH_BYTES - 1);
    memcpy(out, path, length + 1);
    return SWT_OK;
}

/* What comes next in the file. */
static swt_status put(swt_tensor_writer *w, const void *data, size_t bytes) {
    if (XXH3_64bits_update(w->state, data, bytes) != XXH_OK)
        return SWT_FAIL(INTERNAL, "%s: its checksum failed", w->path);
    return swt_file_write(w->fd, data, bytes, w->path);
}

swt_status swt_tensor_writer_begin(swt_tensor_writer *w, const char *path) {
    SWT_TRY(keep_path(w->path, path, SWT_FILE));
    swt_memory_stream header;
    swt_status status = SWT_OK;
    if (!print_header(w, &header))
        SWT_TRY_TO(status, done, SWT_FAIL(MEMORY, "%s: no memory for the header", path));
    SWT_TRY_TO(status, done, check_header(w, header.text, header.bytes));
    w->state = XXH3_createState();
    if (w->state == NULL || XXH3_64bits_reset(w->state) != XXH_OK)
        SWT_TRY_TO(status, done, SWT_FAIL(MEMORY, "%s: no memory for its checksum", path));
    SWT_TRY_TO(status, done, swt_file_create(&w->fd, path));
    w->begun = true;
    const uint64_t header_bytes = header.bytes;
    w->header_bytes = LENGTH_BYTES + (int64_t)header.bytes;
    SWT_TRY_TO(status, done, put(w, &header_bytes, LENGTH_BYTES));
    SWT_TRY_TO(status, done, put(w, header.text, header.bytes));
done:
    free(header.text);
    return status;
}

swt_status swt_tensor_writer_data(swt_tensor_writer *w, const void *data) {
    if (!w->begun || w->written == w->count)
        return SWT_FAIL(INTERNAL, "safetensors: more data than the %lld declared tensors",
                        (long long)w->count);
    swt_tensor_entry *e = &w->entries[w->written];
    e->hash = XXH3_64bits(data, (size_t)e->bytes);
    SWT_TRY(put(w, data, (size_t)e->bytes));
    w->written++;
    return SWT_OK;
}

swt_status swt_tensor_writer_end(swt_tensor_writer *w) {
    if (!w->begun || w->written != w->count)
        return SWT_FAIL(INTERNAL, "safetensors: data of %lld of %lld declared tensors",
                        (long long)w->written, (long long)w->count);
    const swt_status status = swt_file_finish(&w->fd, w->path);
    w->begun = false;
    w->hash = XXH3_64bits_digest(w->state);
    if (status != SWT_OK)
        unlink(w->path);
    return status;
}

void swt_tensor_writer_fini(swt_tensor_writer *w) {
    if (w->begun) {
        close(w->fd);
        unlink(w->path);
    }
    XXH3_freeState(w->state);
    free(w->entries);
    *w = (swt_tensor_writer){0};
}

/* ---- reading */

static swt_status read_header(swt_tensor_file *f) {
    int64_t file_bytes = 0;
    SWT_TRY(swt_file_open(&f->fd, &file_bytes, f->path, f->status));
    if (file_bytes < LENGTH_BYTES)
        return FAIL_FILE(f, "has %lld bytes; a safetensors file has at least 10",
                         (long long)file_bytes);
    uint64_t header_bytes = 0;
    SWT_TRY(swt_file_read(f->fd, &header_bytes, LENGTH_BYTES, 0, f->path, f->status));
    SWT_TRY(check_header_bytes(f, header_bytes));
    if ((int64_t)header_bytes > file_bytes - LENGTH_BYTES)
        return FAIL_FILE(f, "its header has %llu bytes, the file %lld; it is cut off or broken",
                         (unsigned long long)header_bytes, (long long)file_bytes);
    char *text = malloc(header_bytes + 1); /* + 1: never 0 bytes */
    if (text == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a header of %llu bytes", f->path,
                        (unsigned long long)header_bytes);
    f->data_start_bytes = LENGTH_BYTES + (int64_t)header_bytes;
    swt_status status = swt_file_read(f->fd, text, header_bytes, LENGTH_BYTES, f->path, f->status);
    if (status == SWT_OK)
        status = parse_header(f, text, header_bytes, file_bytes - f->data_start_bytes);
    free(text);
    return status;
}

swt_status swt_tensor_file_open(swt_tensor_file *out, const char *path, swt_status status) {
    *out = (swt_tensor_file){.fd = -1, .status = status};
    SWT_TRY(keep_path(out->path, path, status));
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

const swt_tensor_entry *swt_tensor_file_find(const swt_tensor_file *f, const char *name) {
    if (f->count == 0)
        return NULL;
    return bsearch(name, f->entries, (size_t)f->count, sizeof *f->entries, by_name);
}

swt_status swt_tensor_file_check(const swt_tensor_file *f, const char *name, swt_dtype dtype,
                                 int dims, const int64_t *shape) {
    char needed[SHAPE_TEXT_BYTES], has[SHAPE_TEXT_BYTES];
    print_shape(needed, dims, shape, ", ");
    const swt_tensor_entry *e = swt_tensor_file_find(f, name);
    if (e == NULL)
        return FAIL_TENSOR(f, "is missing; %s %s is needed", name, swt_dtype_name(dtype), needed);
    print_shape(has, e->dims, e->shape, ", ");
    if (e->dtype == dtype && strcmp(has, needed) == 0)
        return SWT_OK;
    return FAIL_TENSOR(f, "is %s %s; %s %s is needed", name, swt_dtype_name(e->dtype), has,
                       swt_dtype_name(dtype), needed);
}

swt_status swt_tensor_file_read(const swt_tensor_file *f, const char *name, swt_dtype dtype,
                                int dims, const int64_t *shape, void *out) {
    SWT_TRY(swt_tensor_file_check(f, name, dtype, dims, shape));
    const swt_tensor_entry *e = swt_tensor_file_find(f, name);
    return swt_file_read(f->fd, out, (size_t)e->bytes, f->data_start_bytes + e->offset_bytes,
                         f->path, f->status);
}
