/* model.safetensors.index.json of Hugging Face: which tensor is in which file of the folder.
 *   {"metadata": {...}, "weight_map": {"shared.weight": "model-00001-of-00006.safetensors", ...}}
 * Untrusted input: names lead nowhere but to the index's own folder. Host only. */
#ifndef SWT_IO_HF_INDEX_H
#define SWT_IO_HF_INDEX_H

#include "io/files.h"
#include "io/safetensors.h"

#include <stdint.h>

typedef struct swt_hf_place {
    char name[SWT_TENSOR_NAME_BYTES];
    char file[SWT_FILE_NAME_BYTES];
} swt_hf_place;

typedef struct swt_hf_index {
    int64_t count, file_count;
    swt_hf_place *tensors;              /* (count), sorted by name, owned */
    char (*files)[SWT_FILE_NAME_BYTES]; /* (file_count), each once, sorted; owned */
} swt_hf_index;

/* Read and check an index; the files are not looked at. Errors: `status`, naming the file and what
 * of it is wrong. */
SWT_MUST_CHECK swt_status swt_hf_index_read(swt_hf_index *out, const char *path, swt_status status);
void swt_hf_index_fini(swt_hf_index *x);

/* The tensor of that name, NULL where there is none. */
const swt_hf_place *swt_hf_index_find(const swt_hf_index *x, const char *name);

/* Write it as Hugging Face does: the tensors sorted by name; `parameters` and `bytes` are those of
 * all tensors. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_hf_index_write(swt_hf_index *x, const char *path, int64_t parameters,
                                             int64_t bytes);

#endif
