/* The judge's cases: for each operation how many, and its two functions of judge/case.h. */
#ifndef SWT_JUDGE_CASES_H
#define SWT_JUDGE_CASES_H

#include "judge/case.h"

/* X(operation, cases) */
#define SWT_CASE_LIST(X)                                                                           \
    X(linear_forward, 16)                                                                          \
    X(linear_backward_input, 16)                                                                   \
    X(linear_backward_weight, 16)                                                                  \
    X(embedding_forward, 16)                                                                       \
    X(embedding_backward, 16)                                                                      \
    X(norm_forward, 16)                                                                            \
    X(norm_backward, 16)                                                                           \
    X(attention_forward, 12)                                                                       \
    X(attention_backward, 12)                                                                      \
    X(cross_entropy, 12)                                                                           \
    X(router_forward, 16)                                                                          \
    X(router_assign, 24)                                                                           \
    X(router_losses, 16)                                                                           \
    X(router_backward, 16)                                                                         \
    X(dispatch_forward, 16)                                                                        \
    X(dispatch_backward, 16)                                                                       \
    X(experts_forward, 12)                                                                         \
    X(experts_backward_input, 12)                                                                  \
    X(experts_backward_weight, 16)                                                                 \
    X(combine_forward, 16)                                                                         \
    X(combine_backward, 16)                                                                        \
    X(state_advance, 12)                                                                           \
    X(count_targets, 12)                                                                           \
    X(grad_add, 15)                                                                                \
    X(grad_finish, 12)                                                                             \
    X(grad_squares, 12)                                                                            \
    X(state_clip, 12)                                                                              \
    X(adam, 12)                                                                                    \
    X(sgd, 12)                                                                                     \
    X(cast, 12)

#define SWT_CASE_FUNCTIONS(op, cases)                                                              \
    void swt_draw_##op(swt_case *k, void *args);                                                   \
    void swt_judge_##op(swt_case *k, const void *args);
SWT_CASE_LIST(SWT_CASE_FUNCTIONS)
#undef SWT_CASE_FUNCTIONS

/* By the operation's number. */
extern const swt_case_row swt_case_table[SWT_OP_COUNT];

#endif
