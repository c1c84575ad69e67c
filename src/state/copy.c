#include "state/copy.h"

#include "base/checked.h"

#include <stdlib.h>

/* The source's file that is open, the last one that a tensor came from. */
typedef struct reader {
    const swt_source *s;
    swt_source_file f; /* f.fd -1: none */
    void *buffer;      /* of the largest tensor */
} reader;

static swt_status read_tensor(reader *r, const swt_tensor_entry *e,
                              const swt_tensor_entry **altered) {
    bool other = false;
    if (r->f.fd < 0 || r->f.file != e->file) {
        swt_source_file_close(&r->f);
        SWT_TRY(swt_source_file_open(&r->f, r->s, e->file));
    }
    SWT_TRY(swt_source_copy(&r->f, e, r->buffer, &other));
    if (other && *altered == NULL)
        *altered = e;
    return SWT_OK;
}

static swt_status copy_all(swt_tensor_writer *w, reader *r, const swt_copied *tensors,
                           int64_t count, const swt_tensor_entry **altered) {
    for (int64_t i = 0; i < count; i++) {
        SWT_TRY(read_tensor(r, tensors[i].from, altered));
        SWT_TRY(swt_tensor_writer_data(w, r->buffer));
    }
    return swt_tensor_writer_end(w);
}

swt_status swt_copy_tensors(swt_tensor_writer *w, const char *path, const swt_source *s,
                            const swt_copied *tensors, int64_t count,
                            const swt_tensor_entry **altered) {
    int64_t largest = 1;
    for (int64_t i = 0; i < count; i++) {
        const swt_tensor_entry *e = tensors[i].from;
        largest = swt_max(largest, e->bytes);
        SWT_TRY(swt_tensor_writer_declare(w, tensors[i].name, e->dtype, e->dims, e->shape));
    }
    reader r = {.s = s, .f = {.fd = -1}, .buffer = malloc((size_t)largest)};
    swt_status status = SWT_OK;
    if (r.buffer == NULL)
        status =
            SWT_FAIL(MEMORY, "%s: no memory for a tensor of %lld bytes", path, (long long)largest);
    if (status == SWT_OK)
        status = swt_tensor_writer_begin(w, path);
    if (status == SWT_OK)
        status = copy_all(w, &r, tensors, count, altered);
    swt_source_file_close(&r.f);
    free(r.buffer);
    return status == SWT_OK ? swt_hash_check(path, w->hash) : status;
}
