/* The self-test's checks, in the order of its table. Every slot of swt_ops has the check of its
 * name, which gives that operation inputs of its own making, so that a wrong operation fails its
 * own check and none of another operation. Those after them are of several operations together. */
#ifndef SWT_JUDGE_CHECKS_H
#define SWT_JUDGE_CHECKS_H

#include "judge/trial.h"

/* The checks of several operations, behind one for each of SWT_OPS. X(name, ALONE or TOGETHER):
 * TOGETHER is collective over all ranks. */
#define SWT_CHECK_LIST(X)                                                                          \
    X(comm_all_to_all, TOGETHER)                                                                   \
    X(comm_all_reduce, TOGETHER)                                                                   \
    X(comm_all_gather, TOGETHER)                                                                   \
    X(comm_broadcast, TOGETHER)                                                                    \
    X(ranks_against_one, TOGETHER)                                                                 \
    X(ranks_uneven, TOGETHER)                                                                      \
    X(step_against_cpu, ALONE)

/* Each: what is wrong is noted in the trial; errors are those of the operations. */
#define SWT_CHECK_DECLARE(name, ranks) SWT_MUST_CHECK swt_status swt_check_##name(swt_trial *t);
SWT_CHECK_LIST(SWT_CHECK_DECLARE)
#undef SWT_CHECK_DECLARE

/* The first SWT_OP_COUNT rows are those of the operations, by their numbers. */
typedef struct swt_check_row {
    const char *name;
    bool together;
    swt_status (*run)(swt_trial *t); /* NULL: the cases of the operation */
} swt_check_row;

extern const swt_check_row swt_check_table[];
extern const int swt_check_count;

/* The table's row under this number, on a trial that is open: a new check. */
SWT_MUST_CHECK swt_status swt_check_run(swt_trial *t, int check);

#endif
