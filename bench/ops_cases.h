/* The operations as a step calls them: what bench_ops times. A model runs one whole step with a
 * table of operations that keeps every call's arguments and passes it on; each different shape of
 * an operation is then a case, to be called again. */
#ifndef BENCH_OPS_CASES_H
#define BENCH_OPS_CASES_H

#include "kernels/swt_op_table.h"
#include "model/model.h"
#include "train/step.h"

typedef struct op_case {
    const swt_op *op;
    swt_any_args args;
    char shape[40];
    double flops; /* 2 per multiply-add of its products; 0 where it has none */
    double bytes; /* each tensor argument once; of slots the occupied ones */
} op_case;

enum { OP_CASES = 64 };

/* Run a step of the model and list its calls in the order of SWT_OPS. *n = their number. */
SWT_MUST_CHECK swt_status op_cases(swt_model *m, const swt_update_rule *update,
                                   op_case out[OP_CASES], int *n);

#endif
