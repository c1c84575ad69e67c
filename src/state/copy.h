/* Tensors from one file into another, bytes as they are, whatever they are called on both sides. */
#ifndef SWT_STATE_COPY_H
#define SWT_STATE_COPY_H

#include "state/source.h"

typedef struct swt_copied {
    const swt_tensor_entry *from;     /* of the source */
    char name[SWT_TENSOR_NAME_BYTES]; /* in the new file */
} swt_copied;

/* Write a new file of these tensors in this order; w is zero but for its format, tells afterwards
 * where they are, and is the caller's to give back. The file is read again from the disk. *altered,
 * which is NULL before, becomes the first tensor that is not as the source's manifest says.
 * Errors: those of the source and of the writing. Local. */
SWT_MUST_CHECK swt_status swt_copy_tensors(swt_tensor_writer *w, const char *path,
                                           const swt_source *s, const swt_copied *tensors,
                                           int64_t count, const swt_tensor_entry **altered);

#endif
