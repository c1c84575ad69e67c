/* Operations of the CPU that are wrong in one number: for every slot a table in which that slot
 * alone is broken. What the self-test must find. */
#ifndef SWT_TESTS_JUDGE_BROKEN_H
#define SWT_TESTS_JUDGE_BROKEN_H

#include "kernels/swt_op_table.h"

typedef struct swt_broken {
    const char *slot;
    swt_ops ops;
} swt_broken;

/* By the operations' numbers. */
const swt_broken *swt_broken_tables(void);

#endif
