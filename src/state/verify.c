/* Whether a folder is what its manifest says, to the last byte. */
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "state/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { PIECE_BYTES = 1 << 20 };

/* A verification under way. */
typedef struct verifier {
    const char *folder;
    const swt_manifest *m;
    swt_defect_said said;
    void *context;
    swt_error first; /* the first defect; its status is OK where there is none */
    unsigned char *piece;
    XXH3_state_t *whole, *part;
} verifier;

/* Notes the defect that was just recorded. What is no defect of the checkpoint is passed on. */
static swt_status note(verifier *v, swt_status status) {
    if (status != SWT_CHECKPOINT)
        return status;
    if (v->first.status == SWT_OK)
        v->first = *swt_last_error();
    if (v->said == NULL)
        return status;
    v->said(v->context, swt_last_error()->message);
    return SWT_OK;
}

#define DEFECT(v, fmt, ...)                                                                        \
    note(v, SWT_FAIL(CHECKPOINT, "%s/" fmt "; use another checkpoint", swt_path_tail((v)->folder), \
                     __VA_ARGS__))

/* ---- which files there are */

static swt_status look_at_name(void *context, const char *folder, const char *name) {
    (void)folder;
    verifier *v = context;
    if (strcmp(name, SWT_MANIFEST_FILE) == 0 || swt_manifest_file_of(v->m, name) != NULL)
        return SWT_OK;
    return DEFECT(v, "%s: is not in its manifest", name);
}

/* Open a listed file; *fd stays -1 where it cannot be. */
static swt_status open_listed(verifier *v, const swt_manifest_file *f, char path[SWT_PATH_BYTES],
                              int *fd, int64_t *bytes) {
    *fd = -1;
    SWT_TRY(swt_path_join(path, v->folder, f->name));
    return note(v, swt_file_open(fd, bytes, path, SWT_CHECKPOINT));
}

static swt_status check_size(verifier *v, const swt_manifest_file *f, int64_t bytes) {
    return bytes == f->bytes ? SWT_OK
                             : DEFECT(v, "%s: has %lld bytes, and %lld in the manifest", f->name,
                                      (long long)bytes, (long long)f->bytes);
}

swt_status swt_manifest_check_files(const swt_manifest *m, const char *folder) {
    verifier v = {.folder = folder, .m = m};
    for (int64_t i = 0; i < m->file_count; i++) {
        char path[SWT_PATH_BYTES];
        int fd = -1;
        int64_t bytes = 0;
        SWT_TRY(open_listed(&v, &m->files[i], path, &fd, &bytes));
        close(fd);
        SWT_TRY(check_size(&v, &m->files[i], bytes));
    }
    return SWT_OK;
}

/* ---- their contents */

/* Read bytes [from, to) of a file into the hash of all of it and, where there is one, that of a
 * part. */
static swt_status hash_range(verifier *v, int fd, const char *path, int64_t from, int64_t to,
                             XXH3_state_t *part) {
    while (from < to) {
        const int64_t rest = to - from;
        const size_t bytes = rest < PIECE_BYTES ? (size_t)rest : PIECE_BYTES;
        SWT_TRY(swt_file_read(fd, v->piece, bytes, from, path, SWT_CHECKPOINT));
        if (XXH3_64bits_update(v->whole, v->piece, bytes) != XXH_OK ||
            (part != NULL && XXH3_64bits_update(part, v->piece, bytes) != XXH_OK))
            return SWT_FAIL(INTERNAL, "%s: its checksum failed", path);
        from += (int64_t)bytes;
    }
    return SWT_OK;
}

/* The header says of a tensor what the manifest says. */
static swt_status check_entry(const swt_tensor_file *header, const swt_tensor_entry *e) {
    SWT_TRY(swt_tensor_file_check(header, e->name, e->dtype, e->dims, e->shape));
    const int64_t at =
        header->data_start_bytes + swt_tensor_file_find(header, e->name)->offset_bytes;
    if (at == e->offset_bytes)
        return SWT_OK;
    return SWT_FAIL(CHECKPOINT,
                    "%s: tensor %s is at byte %lld, and at %lld in the manifest; use another "
                    "checkpoint",
                    swt_path_tail(header->path), e->name, (long long)at,
                    (long long)e->offset_bytes);
}

/* The header of a file of tensors and the manifest say the same of each, and of no others. */
static swt_status check_header(const swt_manifest *m, int file, const char *path) {
    swt_tensor_file header;
    int64_t listed = 0;
    SWT_TRY(swt_tensor_file_open(&header, path, SWT_CHECKPOINT));
    swt_status status = SWT_OK;
    for (int64_t i = 0; i < m->tensor_count && status == SWT_OK; i++) {
        if (m->tensors[i].file != file)
            continue;
        listed++;
        status = check_entry(&header, &m->tensors[i]);
    }
    if (status == SWT_OK && listed != header.count)
        status = SWT_FAIL(CHECKPOINT,
                          "%s: holds %lld tensors, and %lld in the manifest; use another "
                          "checkpoint",
                          swt_path_tail(path), (long long)header.count, (long long)listed);
    swt_tensor_file_close(&header);
    return status;
}

static int by_offset(const void *a, const void *b) {
    const swt_tensor_entry *x = *(const swt_tensor_entry *const *)a,
                           *y = *(const swt_tensor_entry *const *)b;
    if (x->offset_bytes != y->offset_bytes)
        return x->offset_bytes < y->offset_bytes ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The file's tensors in the order of their data, which the caller frees; NULL without memory. */
static const swt_tensor_entry **tensors_of(const swt_manifest *m, int file, int64_t *count) {
    const swt_tensor_entry **found = calloc((size_t)m->tensor_count + 1, sizeof *found);
    *count = 0;
    for (int64_t i = 0; i < m->tensor_count && found != NULL; i++)
        if (m->tensors[i].file == file)
            found[(*count)++] = &m->tensors[i];
    if (found != NULL)
        qsort(found, (size_t)*count, sizeof *found, by_offset);
    return found;
}

/* The hash of the file and of each of its tensors, in one pass. */
static swt_status hash_contents(verifier *v, const swt_manifest_file *f, int fd, const char *path) {
    int64_t count = 0, at = 0, wrong = 0;
    swt_status status = SWT_OK;
    const swt_tensor_entry **tensors = tensors_of(v->m, (int)(f - v->m->files), &count);
    if (tensors == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its tensors", path);
    for (int64_t i = 0; i < count && status == SWT_OK; i++) {
        const swt_tensor_entry *e = tensors[i];
        if (e->offset_bytes < at) /* they overlap: the header has said so */
            continue;
        (void)XXH3_64bits_reset(v->part);
        SWT_TRY_TO(status, done, hash_range(v, fd, path, at, e->offset_bytes, NULL));
        at = e->offset_bytes + e->bytes;
        SWT_TRY_TO(status, done, hash_range(v, fd, path, e->offset_bytes, at, v->part));
        if (XXH3_64bits_digest(v->part) == e->hash)
            continue;
        wrong++;
        status =
            DEFECT(v, "%s: tensor %s: its data are not those of the manifest", f->name, e->name);
    }
    if (status == SWT_OK)
        status = hash_range(v, fd, path, at, f->bytes, NULL);
    if (status == SWT_OK && wrong == 0 && XXH3_64bits_digest(v->whole) != f->hash)
        status = DEFECT(v, "%s: its contents are not those of the manifest%s", f->name,
                        count > 0 ? ", outside of its tensors" : "");
done:
    free(tensors);
    return status;
}

static bool holds_tensors(const swt_manifest_file *f) {
    static const char end[] = ".safetensors";
    const size_t n = strlen(f->name);
    return n >= sizeof end - 1 && strcmp(f->name + n - (sizeof end - 1), end) == 0;
}

static swt_status verify_file(verifier *v, const swt_manifest_file *f) {
    char path[SWT_PATH_BYTES];
    int fd = -1;
    int64_t bytes = 0;
    SWT_TRY(open_listed(v, f, path, &fd, &bytes));
    if (fd < 0)
        return SWT_OK;
    (void)XXH3_64bits_reset(v->whole);
    swt_status status = check_size(v, f, bytes);
    if (bytes == f->bytes)
        status = note(v, hash_contents(v, f, fd, path));
    close(fd);
    if (status == SWT_OK && holds_tensors(f))
        status = note(v, check_header(v->m, (int)(f - v->m->files), path));
    return status;
}

static swt_status verify_all(verifier *v) {
    v->piece = malloc(PIECE_BYTES);
    v->whole = XXH3_createState();
    v->part = XXH3_createState();
    if (v->piece == NULL || v->whole == NULL || v->part == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory to verify it", v->folder);
    for (int64_t i = 0; i < v->m->file_count; i++)
        SWT_TRY(verify_file(v, &v->m->files[i]));
    return swt_folder_walk(v->folder, look_at_name, v);
}

swt_status swt_manifest_verify(swt_manifest *out, const char *folder, swt_defect_said said,
                               void *context) {
    verifier v = {.folder = folder, .m = out, .said = said, .context = context};
    char path[SWT_PATH_BYTES];
    *out = (swt_manifest){0};
    SWT_TRY(swt_path_join(path, folder, SWT_MANIFEST_FILE));
    swt_status status = swt_manifest_read(out, path);
    if (status != SWT_OK) {
        if (status == SWT_CHECKPOINT && said != NULL)
            said(context, swt_last_error()->message);
        return status;
    }
    status = verify_all(&v);
    if (status == SWT_FILE) /* the folder cannot be read */
        status = swt_last_error()->status = SWT_CHECKPOINT;
    XXH3_freeState(v.part);
    XXH3_freeState(v.whole);
    free(v.piece);
    if (status != SWT_OK || v.first.status == SWT_OK)
        return status;
    *swt_last_error() = v.first;
    return v.first.status;
}

swt_status swt_hash_file(const char *path, int64_t *bytes, uint64_t *hash, swt_status status) {
    int fd = -1;
    verifier v = {.piece = malloc(PIECE_BYTES), .whole = XXH3_createState()};
    swt_status result = SWT_OK;
    if (v.piece == NULL || v.whole == NULL || XXH3_64bits_reset(v.whole) != XXH_OK)
        SWT_TRY_TO(result, done, SWT_FAIL(MEMORY, "%s: no memory for its checksum", path));
    SWT_TRY_TO(result, done, swt_file_open(&fd, bytes, path, status));
    swt_file_forget(fd);
    result = hash_range(&v, fd, path, 0, *bytes, NULL);
    *hash = XXH3_64bits_digest(v.whole);
    close(fd);
done:
    XXH3_freeState(v.whole);
    free(v.piece);
    if (result == SWT_CHECKPOINT) /* what a verification would call a defect */
        result = swt_last_error()->status = status;
    return result;
}

swt_status swt_hash_check(const char *path, uint64_t hash) {
    int64_t bytes = 0;
    uint64_t found = 0;
    SWT_TRY(swt_hash_file(path, &bytes, &found, SWT_FILE));
    return found == hash ? SWT_OK : swt_file_altered(path);
}
