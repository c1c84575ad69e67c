#include "state/source.h"

#include "io/checkpoint_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static swt_status file_path(char out[SWT_PATH_BYTES], const swt_source *s, int file) {
    if (s->folder)
        return swt_path_join(out, s->path, s->names[file]);
    snprintf(out, SWT_PATH_BYTES, "%s", s->path);
    return SWT_OK;
}

/* The entries of one file behind those of the files before it. */
static swt_status add_file(swt_source *s, int file) {
    char path[SWT_PATH_BYTES];
    swt_tensor_file f;
    SWT_TRY(file_path(path, s, file));
    SWT_TRY(swt_tensor_file_open(&f, path, s->all.status));
    const size_t count = (size_t)(s->all.count + f.count) + 1;
    swt_tensor_entry *entries = realloc(s->all.entries, count * sizeof *entries);
    swt_status status = SWT_OK;
    if (entries == NULL)
        status = SWT_FAIL(MEMORY, "%s: no memory for %zu tensors", path, count);
    else
        s->all.entries = entries;
    for (int64_t i = 0; i < f.count && status == SWT_OK; i++) {
        swt_tensor_entry *e = &s->all.entries[s->all.count++];
        *e = f.entries[i];
        e->offset_bytes += f.data_start_bytes;
        e->file = file;
    }
    swt_tensor_file_close(&f);
    return status;
}

static swt_status add_files(swt_source *s) {
    for (int64_t file = 0; file < s->file_count; file++)
        SWT_TRY(add_file(s, (int)file));
    if (s->all.count > 0)
        qsort(s->all.entries, (size_t)s->all.count, sizeof *s->all.entries, by_name);
    for (int64_t i = 1; i < s->all.count; i++)
        if (strcmp(s->all.entries[i - 1].name, s->all.entries[i].name) == 0)
            return SWT_FAIL_AS(s->all.status,
                               "%s: tensor %s is in two of its files; use another checkpoint",
                               s->path, s->all.entries[i].name);
    return SWT_OK;
}

/* Messages name the file where there is one alone. */
static swt_status open_all(swt_source *s) {
    swt_status status = s->file_count == 1 ? file_path(s->all.path, s, 0) : SWT_OK;
    if (s->file_count != 1)
        snprintf(s->all.path, sizeof s->all.path, "%s", s->path);
    if (status == SWT_OK)
        status = add_files(s);
    if (status != SWT_OK)
        swt_source_close(s);
    return status;
}

static swt_status keep_path(swt_source *s, const char *path) {
    if (snprintf(s->path, sizeof s->path, "%s", path) >= (int)sizeof s->path)
        return SWT_FAIL_AS(s->all.status,
                           "%.80s...: the path is too long; at most %d bytes are possible", path,
                           SWT_PATH_BYTES - 1);
    return SWT_OK;
}

swt_status swt_source_open_file(swt_source *out, const char *path, swt_status status) {
    *out = (swt_source){.all = {.fd = -1, .status = status}, .file_count = 1};
    SWT_TRY(keep_path(out, path));
    return open_all(out);
}

swt_status swt_source_open(swt_source *out, const char *folder, const swt_manifest *manifest,
                           swt_shard_kind kind) {
    *out = (swt_source){
        .folder = true, .all = {.fd = -1, .status = SWT_CHECKPOINT}, .manifest = manifest};
    SWT_TRY(keep_path(out, folder));
    const int64_t most = manifest != NULL ? manifest->file_count : 1;
    out->names = calloc((size_t)most + 1, sizeof *out->names);
    if (out->names == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its files", folder);
    if (manifest == NULL)
        snprintf(out->names[out->file_count++], SWT_FILE_NAME_BYTES, SWT_WEIGHTS_FILE);
    for (int64_t i = 0; manifest != NULL && i < most; i++)
        if (swt_shard_is(manifest->files[i].name, kind))
            memcpy(out->names[out->file_count++], manifest->files[i].name, SWT_FILE_NAME_BYTES);
    return open_all(out);
}

swt_status swt_source_open_files(swt_source *out, const char *folder,
                                 const char (*names)[SWT_FILE_NAME_BYTES], int64_t count,
                                 swt_status status) {
    *out = (swt_source){.folder = true, .all = {.fd = -1, .status = status}, .file_count = count};
    SWT_TRY(keep_path(out, folder));
    out->names = calloc((size_t)count + 1, sizeof *out->names);
    if (out->names == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its files", folder);
    memcpy(out->names, names, (size_t)count * sizeof *out->names);
    return open_all(out);
}

void swt_source_close(swt_source *s) {
    swt_tensor_file_close(&s->all);
    free(s->names);
    s->names = NULL;
}

/* The 16-bit types of numbers that become F32. */
static bool is_half(swt_dtype dtype) {
    return dtype == SWT_BF16 || dtype == SWT_F16;
}

swt_status swt_source_check(const swt_source *s, const char *name, int dims, const int64_t *shape) {
    const swt_tensor_entry *e = swt_tensor_file_find(&s->all, name);
    return swt_tensor_file_check(&s->all, name, e != NULL && is_half(e->dtype) ? e->dtype : SWT_F32,
                                 dims, shape);
}

swt_status swt_source_file_open(swt_source_file *out, const swt_source *s, int file) {
    int64_t bytes = 0;
    *out = (swt_source_file){.s = s, .file = file, .fd = -1};
    SWT_TRY(file_path(out->path, s, file));
    return swt_file_open(&out->fd, &bytes, out->path, s->all.status);
}

void swt_source_file_close(swt_source_file *f) {
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

/* Numbers of 16 bits, which stand in the upper half of the array, widen from its beginning: each is
 * read before its place is written. */
static void widen(float *out, const unsigned char *from, int64_t count, swt_dtype dtype) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t x = 0;
        memcpy(&x, from + (size_t)i * sizeof x, sizeof x);
        out[i] = dtype == SWT_BF16 ? swt_bf16_to_float(x) : swt_f16_to_float(x);
    }
}

swt_status swt_source_copy(const swt_source_file *f, const swt_tensor_entry *e, void *out,
                           bool *altered) {
    const swt_manifest *m = f->s->manifest;
    const size_t bytes = (size_t)e->bytes;
    SWT_TRY(swt_file_read(f->fd, out, bytes, e->offset_bytes, f->path, f->s->all.status));
    const swt_tensor_entry *listed = m != NULL ? swt_manifest_tensor(m, e->name) : NULL;
    *altered = m != NULL && (listed == NULL || listed->hash != XXH3_64bits(out, bytes));
    return SWT_OK;
}

swt_status swt_source_read(const swt_source_file *f, const swt_tensor_entry *e, float *out,
                           bool *altered) {
    /* What is narrower arrives at the end of the room for F32. */
    unsigned char *const to = (unsigned char *)out + (is_half(e->dtype) ? e->bytes : 0);
    SWT_TRY(swt_source_copy(f, e, to, altered));
    if (is_half(e->dtype))
        widen(out, to, e->bytes / 2, e->dtype);
    return SWT_OK;
}
