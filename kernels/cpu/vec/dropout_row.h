/* What the vector code knows of a row with dropout. */
#ifndef SWT_CPU_DROPOUT_ROW_H
#define SWT_CPU_DROPOUT_ROW_H

#include <stdint.h>

/* Dropout of one row: what is drawn for it, and what is made of that (kernels/dropout.h). */
typedef struct swt_vec_dropout {
    uint32_t key[2], row, step, purpose;
    uint32_t draws; /* of a query, where the row is one of attention's */
    uint32_t limit; /* a number is kept where its word is not below this */
    float scale;    /* of what is kept */
} swt_vec_dropout;

#endif
