/* Operations of the CPU that are wrong in one number: what the self-test must find. */
#ifndef SWT_TESTS_JUDGE_BROKEN_H
#define SWT_TESTS_JUDGE_BROKEN_H

#include "kernels/swt_op_table.h"

/* The operation gives one of its outputs with another number: integers are off by one. Where it has
 * no output but the step's state, that is wrong. */
typedef struct swt_fault {
    int op;
    int output;  /* from 0 */
    bool last;   /* its last number, else its first */
    float by;    /* what an F32 is off by; 0: it is the next one above */
    double part; /* the part of it that an F64 is off by */
    int outputs; /* how many there are; set by the first call */
} swt_fault;

/* The CPU's table with this fault; one at a time. */
const swt_ops *swt_plant(swt_fault *fault);

#endif
