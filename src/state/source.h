/* Tensors to read: one safetensors file, or the files of one kind of a checkpoint, whichever number
 * of ranks wrote them, as if they were one. Local. */
#ifndef SWT_STATE_SOURCE_H
#define SWT_STATE_SOURCE_H

#include "state/manifest.h"
#include "state/shards.h"

typedef struct swt_source {
    char path[SWT_PATH_BYTES]; /* the file, or the checkpoint's folder */
    bool folder;               /* which of the two */
    swt_tensor_file all;       /* the entries of all files; offsets from the start of entry.file */
    const swt_manifest *manifest; /* NULL: hashes are not known */
    int64_t file_count;
    char (*names)[SWT_FILE_NAME_BYTES]; /* (file_count) in the folder, owned */
} swt_source;

/* A file. Errors: `status`, as all below. */
SWT_MUST_CHECK swt_status swt_source_open_file(swt_source *out, const char *path,
                                               swt_status status);

/* A checkpoint's files of one kind: those of its manifest, which must outlive *out, or, where there
 * is none (NULL), weights.safetensors alone. Errors: CHECKPOINT. */
SWT_MUST_CHECK swt_status swt_source_open(swt_source *out, const char *folder,
                                          const swt_manifest *manifest, swt_shard_kind kind);

/* Any files of a folder. Errors: `status`. */
SWT_MUST_CHECK swt_status swt_source_open_files(swt_source *out, const char *folder,
                                                const char (*names)[SWT_FILE_NAME_BYTES],
                                                int64_t count, swt_status status);
void swt_source_close(swt_source *s);

/* The tensor is there in this shape, as F32, BF16 or F16. */
SWT_MUST_CHECK swt_status swt_source_check(const swt_source *s, const char *name, int dims,
                                           const int64_t *shape);

/* Reading goes file by file. */
typedef struct swt_source_file {
    const swt_source *s;
    int file, fd;
    char path[SWT_PATH_BYTES];
} swt_source_file;
SWT_MUST_CHECK swt_status swt_source_file_open(swt_source_file *out, const swt_source *s, int file);
void swt_source_file_close(swt_source_file *f);

/* The bytes of a tensor of this file as they are. *altered = their hash is not the manifest's. */
SWT_MUST_CHECK swt_status swt_source_copy(const swt_source_file *f, const swt_tensor_entry *e,
                                          void *out, bool *altered);

/* A checked tensor of this file as F32 numbers. *altered = its hash is not the manifest's. */
SWT_MUST_CHECK swt_status swt_source_read(const swt_source_file *f, const swt_tensor_entry *e,
                                          float *out, bool *altered);

#endif
