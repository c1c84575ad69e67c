/* Safetensors files: an 8-byte little-endian header length, a JSON header, raw little-endian data.
 * Host only. Reading checks everything: a file from anywhere cannot make the program read or
 * allocate out of bounds. */
#ifndef SWT_IO_SAFETENSORS_H
#define SWT_IO_SAFETENSORS_H

#include "base/dtype.h"
#include "base/status.h"
#include "io/files.h"

#include <stdbool.h>
#include <stdint.h>

enum { SWT_TENSOR_NAME_BYTES = 96, SWT_TENSOR_DIMS = 4 };

typedef struct swt_tensor_entry {
    char name[SWT_TENSOR_NAME_BYTES];
    swt_dtype dtype;
    int dims; /* 0 to SWT_TENSOR_DIMS */
    int64_t shape[SWT_TENSOR_DIMS];
    int64_t offset_bytes; /* from the start of the data */
    int64_t bytes;
    bool known;    /* a mark for the reader, false at first */
    int file;      /* where several files are read as one: which */
    uint64_t hash; /* XXH3 of the data; by a writer, and of a manifest */
} swt_tensor_entry;

/* A file open for reading. */
typedef struct swt_tensor_file {
    int fd; /* -1: closed */
    char path[SWT_PATH_BYTES];
    swt_status status; /* code of this file's errors: FILE or CHECKPOINT */
    int64_t data_start_bytes;
    int64_t count;
    swt_tensor_entry *entries; /* (count), sorted by name, owned */
} swt_tensor_file;

/* Open and check a file: header length and JSON, known dtypes, sizes that equal shape times dtype,
 * data that tile the file from 0 to its end without gap or overlap, distinct names. */
SWT_MUST_CHECK swt_status swt_tensor_file_open(swt_tensor_file *out, const char *path,
                                               swt_status status);
void swt_tensor_file_close(swt_tensor_file *f);

/* The entry of that name, NULL if there is none. */
const swt_tensor_entry *swt_tensor_file_find(const swt_tensor_file *f, const char *name);

/* A tensor of that name must be there, with this dtype and shape. Errors: the file's status, naming
 * file, tensor, what it has and what is needed. */
SWT_MUST_CHECK swt_status swt_tensor_file_check(const swt_tensor_file *f, const char *name,
                                                swt_dtype dtype, int dims, const int64_t *shape);

/* Read a tensor that must have this dtype and shape. Errors: the file's status, naming file,
 * tensor, what it has and what is needed. */
SWT_MUST_CHECK swt_status swt_tensor_file_read(const swt_tensor_file *f, const char *name,
                                               swt_dtype dtype, int dims, const int64_t *shape,
                                               void *out);

/* A file being written: declare every tensor in the order of its data, then write their data in the
 * same order. The caller names a hidden temporary path and renames it when done. */
typedef struct swt_tensor_writer {
    const char *format; /* in the metadata, "pt" for readers that ask for it; NULL: no metadata */
    int fd;             /* of a file begun and not ended */
    bool begun;
    char path[SWT_PATH_BYTES];
    int64_t count, capacity, written;
    swt_tensor_entry *entries;
    int64_t data_bytes;
    struct XXH3_state_s *state; /* of all that was written; owned */
    int64_t header_bytes;       /* before the data */
    uint64_t hash;              /* of the whole file, once it is ended */
} swt_tensor_writer;

SWT_MUST_CHECK swt_status swt_tensor_writer_declare(swt_tensor_writer *w, const char *name,
                                                    swt_dtype dtype, int dims,
                                                    const int64_t *shape);
/* Create the file, which must not be there, and write the header. Errors: SHAPE where a reader
 * would refuse that (a name twice, too many tensors); FILE, as all below. */
SWT_MUST_CHECK swt_status swt_tensor_writer_begin(swt_tensor_writer *w, const char *path);
/* The next declared tensor's data; its entry gets their hash. */
SWT_MUST_CHECK swt_status swt_tensor_writer_data(swt_tensor_writer *w, const void *data);
/* All data must be there: flush, fsync, close; w->hash is that of the whole file. Errors: FILE
 * (disk full, ...). */
SWT_MUST_CHECK swt_status swt_tensor_writer_end(swt_tensor_writer *w);
/* Give everything back, also of an unfinished file, which is removed. Safe on a zeroed or ended
 * one. */
void swt_tensor_writer_fini(swt_tensor_writer *w);

#endif
