#include "io/safetensors_header.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "io/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define DTYPE_WORD(name, bytes) " " #name
#define KNOWN_DTYPES            SWT_DTYPE_LIST(DTYPE_WORD)

/* The largest integer up to which a double, cJSON's number, holds every integer. */
static const double largest_exact = 9007199254740992.0;

/* A JSON number as a count; false for anything but an integer from 0 to 2^53. */
static bool to_count(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item))
        return false;
    const double value = item->valuedouble;
    if (!(value >= 0.0 && value <= largest_exact))
        return false;
    *out = (int64_t)value;
    return (double)*out == value;
}

static swt_status parse_name(const swt_tensor_file *f, swt_tensor_entry *e, const cJSON *item) {
    const size_t length = strlen(item->string);
    if (!swt_utf8_printable(item->string))
        return SWT_FAIL_TENSORS(f, "tensor %lld has a name that is not printable UTF-8; rename it",
                                (long long)f->count);
    if (length == 0 || length >= SWT_TENSOR_NAME_BYTES)
        return SWT_FAIL_TENSORS(f, "tensor %.80s: its name has %zu bytes; 1 to %d are possible",
                                item->string, length, SWT_TENSOR_NAME_BYTES - 1);
    memcpy(e->name, item->string, length + 1);
    return SWT_OK;
}

static swt_status parse_dtype(const swt_tensor_file *f, swt_tensor_entry *e, const cJSON *item) {
    const char *name = cJSON_GetStringValue(item);
    if (name == NULL)
        return SWT_FAIL_TENSORS(f, "tensor %s: dtype is no string; one of%s is needed", e->name,
                                KNOWN_DTYPES);
    for (int d = 0; d < SWT_DTYPE_COUNT; d++) {
        e->dtype = (swt_dtype)d;
        if (strcmp(name, swt_dtype_name(e->dtype)) == 0)
            return SWT_OK;
    }
    return SWT_FAIL_TENSORS(f, "tensor %s: dtype %.16s is not supported; one of%s is needed",
                            e->name, swt_utf8_printable(name) ? name : "?", KNOWN_DTYPES);
}

/* Fills dims, shape and bytes. */
static swt_status parse_shape(const swt_tensor_file *f, swt_tensor_entry *e, const cJSON *item) {
    if (!cJSON_IsArray(item))
        return SWT_FAIL_TENSORS(f, "tensor %s: shape is no array; a list of sizes is needed",
                                e->name);
    e->dims = cJSON_GetArraySize(item);
    if (e->dims > SWT_TENSOR_DIMS)
        return SWT_FAIL_TENSORS(f, "tensor %s: has %d dimensions; at most %d are supported",
                                e->name, e->dims, SWT_TENSOR_DIMS);
    e->bytes = (int64_t)swt_dtype_bytes(e->dtype);
    int i = 0;
    const cJSON *size = NULL;
    cJSON_ArrayForEach(size, item) {
        if (!to_count(size, &e->shape[i]))
            return SWT_FAIL_TENSORS(
                f,
                "tensor %s: size %d of its shape is no count; an integer from 0 is "
                "needed",
                e->name, i);
        if (!swt_checked_mul(e->bytes, e->shape[i], &e->bytes))
            return SWT_FAIL_TENSORS(
                f, "tensor %s: its shape has more than 2^63 bytes; write it again", e->name);
        i++;
    }
    return SWT_OK;
}

static swt_status parse_offsets(const swt_tensor_file *f, swt_tensor_entry *e, const cJSON *item,
                                int64_t data_bytes) {
    int64_t end = 0;
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 ||
        !to_count(item->child, &e->offset_bytes) || !to_count(item->child->next, &end))
        return SWT_FAIL_TENSORS(
            f, "tensor %s: data_offsets is no pair of counts; [begin, end] is needed", e->name);
    if (end > data_bytes)
        return SWT_FAIL_TENSORS(
            f,
            "tensor %s: its data end at byte %lld of %lld; the file is cut off or "
            "broken",
            e->name, (long long)end, (long long)data_bytes);
    if (end < e->offset_bytes || end - e->offset_bytes != e->bytes)
        return SWT_FAIL_TENSORS(f, "tensor %s: has %lld bytes of data; its shape needs %lld",
                                e->name, (long long)(end - e->offset_bytes), (long long)e->bytes);
    return SWT_OK;
}

static swt_status parse_tensor(const swt_tensor_file *f, swt_tensor_entry *e, const cJSON *item,
                               int64_t data_bytes) {
    SWT_TRY(parse_name(f, e, item));
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    /* Three found and three there: no field is unknown or given twice. */
    if (!cJSON_IsObject(item) || cJSON_GetArraySize(item) != 3 || !dtype || !shape || !offsets)
        return SWT_FAIL_TENSORS(
            f, "tensor %s: is not described; an object of dtype, shape and data_offsets is needed",
            e->name);
    SWT_TRY(parse_dtype(f, e, dtype));
    SWT_TRY(parse_shape(f, e, shape));
    return parse_offsets(f, e, offsets, data_bytes);
}

static int by_offset(const void *a, const void *b) {
    const swt_tensor_entry *x = a, *y = b;
    if (x->offset_bytes != y->offset_bytes)
        return x->offset_bytes < y->offset_bytes ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* an empty tensor before its neighbour */
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const swt_tensor_entry *)a)->name, ((const swt_tensor_entry *)b)->name);
}

/* Every byte of data belongs to exactly one tensor. */
static swt_status check_tiling(const swt_tensor_file *f, int64_t data_bytes) {
    int64_t end = 0;
    for (int64_t i = 0; i < f->count; i++) {
        const swt_tensor_entry *e = &f->entries[i];
        if (e->offset_bytes != end)
            return SWT_FAIL_TENSORS(
                f,
                "tensor %s: its data begin at byte %lld; without gap or overlap "
                "that is %lld",
                e->name, (long long)e->offset_bytes, (long long)end);
        end += e->bytes;
    }
    if (end != data_bytes)
        return SWT_FAIL_TENSORS(f, "has %lld bytes of data; its tensors have %lld",
                                (long long)data_bytes, (long long)end);
    return SWT_OK;
}

static swt_status parse_root(swt_tensor_file *f, const cJSON *root, int64_t data_bytes) {
    const size_t items = (size_t)cJSON_GetArraySize(root);
    f->entries = calloc(items + 1, sizeof *f->entries); /* + 1: never 0 bytes */
    if (f->entries == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for %zu tensors", f->path, items);
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, root) {
        if (strcmp(item->string, "__metadata__") == 0)
            continue;
        SWT_TRY(parse_tensor(f, &f->entries[f->count], item, data_bytes));
        f->count++;
    }
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_offset);
    SWT_TRY(check_tiling(f, data_bytes));
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
    for (int64_t i = 1; i < f->count; i++)
        if (by_name(&f->entries[i - 1], &f->entries[i]) == 0)
            return SWT_FAIL_TENSORS(f, "tensor %s: is there twice; names must differ",
                                    f->entries[i].name);
    return SWT_OK;
}

swt_status swt_tensor_header_parse(swt_tensor_file *f, const char *json, size_t json_bytes,
                                   int64_t data_bytes) {
    const char *end = json;
    bool no_memory = false;
    /* A 0 byte would end a name early and hide the rest of it. */
    cJSON *root = memchr(json, 0, json_bytes) == NULL
                      ? swt_json_parse(json, json_bytes, &end, &no_memory)
                      : NULL;
    swt_status status = SWT_OK;
    if (no_memory)
        status = SWT_FAIL(MEMORY,
                          "%s: no memory to read its header of %zu bytes; use a machine with more",
                          f->path, json_bytes);
    else if (root == NULL || !cJSON_IsObject(root) ||
             strspn(end, " \t\r\n") != (size_t)(json + json_bytes - end))
        status = SWT_FAIL_TENSORS(
            f, "its header of %zu bytes is no JSON object; write the file again", json_bytes);
    else
        status = parse_root(f, root, data_bytes);
    cJSON_Delete(root);
    return status;
}
