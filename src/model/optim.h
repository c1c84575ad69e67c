/* What an optimiser keeps of each parameter from step to step, where it is, and what it is called
 * for: memory, the update, a plan and checkpoints all ask here. */
#ifndef SWT_MODEL_OPTIM_H
#define SWT_MODEL_OPTIM_H

#include "model/params.h"

typedef enum swt_optim_keeps {
    SWT_KEEPS_NOTHING, /* sgd */
    SWT_KEEPS_MOMENTS, /* adam: two arrays in the layout of the parameters */
    SWT_KEEPS_FACTORS  /* adafactor: of a matrix its rows' and columns', of a vector each element's
                        */
} swt_optim_keeps;

/* The tensors of a checkpoint for one parameter: its weights, and what the optimiser keeps. */
typedef enum swt_saved_tensor {
    SWT_SAVED_WEIGHT,
    SWT_SAVED_M,
    SWT_SAVED_V,
    SWT_SAVED_ROW,
    SWT_SAVED_COL,
    SWT_SAVED_TENSORS
} swt_saved_tensor;

/* The dimensions of that tensor of a parameter; 0: it has none such, and shape is (0, 0). */
int swt_saved_shape(const swt_param *p, swt_optim_keeps keeps, swt_saved_tensor which,
                    int64_t shape[2]);

/* Its elements, 0 where there is none; those of all that the optimiser keeps of a parameter. */
int64_t swt_saved_count(const swt_param *p, swt_optim_keeps keeps, swt_saved_tensor which);
int64_t swt_optim_count(const swt_param *p, swt_optim_keeps keeps);

/* Tensors of one shape side by side in a rank's flat array: one call of swt_adafactor. Offsets
 * count elements. */
typedef struct swt_factor_group {
    int64_t n, rows, cols; /* of a vector one row */
    int64_t offset;        /* in the flat array of parameters */
    int64_t row, col;      /* in that of factors, (n, rows) and (n, cols); row -1 of vectors */
} swt_factor_group;

/* A rank's factors. */
typedef struct swt_factors {
    int64_t *row, *col; /* (params.count) where a parameter's are, -1 where it has none or another
                           rank holds it; col of a vector: its second moment. Owned */
    swt_factor_group *groups; /* (n_groups), owned */
    int64_t n_groups;
    int64_t end; /* elements of the array, padding included */
} swt_factors;

/* Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_factors_init(swt_factors *out, const swt_params *params);
void swt_factors_fini(swt_factors *f);

#endif
