/* The checks that every public operation makes of its arguments before it dispatches, and the words
 * in which ops_*.c list them. */
#ifndef SWT_CHECK_H
#define SWT_CHECK_H

#include "base/checked.h"
#include "kernels/swt_op_table.h"

/* An operation's list of tensors, swt_op.list, written by hand in ops_*.c with `a` the arguments:
 *
 *     SWT_ARGS_OF(norm_forward) {
 *         return SWT_LIST(OUT(y, ACT, a->N, a->C), ..., OPTIONAL(bias, F32, a->C));
 *     }
 *
 * A tensor is its field in `a`, its type and its dimensions. Outputs come first. */
#define SWT_ARGS_OF(op)                                                                            \
    SWT_MUST_CHECK swt_status swt_list_##op(const swt_##op##_args *a, swt_arg_list *out)
#define SWT_LIST_FUNCTION(op) SWT_ARGS_OF(op);
SWT_OPS(SWT_LIST_FUNCTION)
#undef SWT_LIST_FUNCTION

#define SWT_ARG(flags, field, type, ...)                                                           \
    (swt_arg) {                                                                                    \
        .name = #field, .place = &a->field, .role = (flags), .dtype = SWT_##type,                  \
        .count = SWT_COUNT(__VA_ARGS__)                                                            \
    }
#define IN(...)           SWT_ARG(SWT_ARG_IN, __VA_ARGS__)
#define OUT(...)          SWT_ARG(SWT_ARG_OUT, __VA_ARGS__)
#define UPDATED(...)      SWT_ARG(SWT_ARG_OUT | SWT_ARG_UPDATED, __VA_ARGS__)
#define SCRATCH(...)      SWT_ARG(SWT_ARG_OUT | SWT_ARG_SCRATCH, __VA_ARGS__)
#define OPTIONAL(...)     SWT_ARG(SWT_ARG_OPTIONAL, __VA_ARGS__)
#define OPTIONAL_OUT(...) SWT_ARG(SWT_ARG_OUT | SWT_ARG_OPTIONAL, __VA_ARGS__)

/* The role of a parameter's gradient. */
static inline unsigned swt_arg_gradient(bool add) {
    return SWT_ARG_OUT | (add ? SWT_ARG_UPDATED : 0);
}

/* The same tensor with its rows of `row` elements `stride` apart, not one behind the other. */
swt_arg swt_arg_rows(swt_arg arg, int64_t row, int64_t stride);

#define SWT_LIST(...)                                                                              \
    swt_list_add(out, (const swt_arg[]){__VA_ARGS__},                                              \
                 (int)(sizeof((const swt_arg[]){__VA_ARGS__}) / sizeof(swt_arg)))
SWT_MUST_CHECK swt_status swt_list_add(swt_arg_list *out, const swt_arg *args, int n);

/* The context is whole (with a step state where it is read or written), every size legal, every
 * pointer there and aligned (64 bytes; the natural alignment is enough for 8-byte types, for
 * indices, which no vector code reads, and for rows apart), and no output overlaps anything; rows
 * may lie between others. Errors: SHAPE. */
SWT_MUST_CHECK swt_status swt_check_list(const swt_arg_list *list);

/* A structure that an operation takes by pointer. */
SWT_MUST_CHECK swt_status swt_check_given(const void *structure, const char *op, const char *name);

#endif
