/* The checks that every public operation makes of its arguments before it dispatches (ops_*.c). */
#ifndef SWT_CHECK_H
#define SWT_CHECK_H

#include "kernels/swt_ops.h"

/* One tensor argument: {"x", x, SWT_ARG_IN, SWT_ACT, SWT_COUNT(N, C)}. */
typedef struct swt_arg {
    const char *name;
    const void *at;
    unsigned role; /* of the flags below */
    int dtype;     /* swt_dtype, or SWT_ACT for the context's */
    int64_t count; /* of elements; -1 where they cannot be counted; with 0 `at` may be anything */
} swt_arg;

enum {
    SWT_ARG_IN = 0,
    SWT_ARG_OUT = 1,      /* overlaps no other argument */
    SWT_ARG_OPTIONAL = 2, /* may be NULL */
    SWT_ARG_IN_PLACE = 4  /* may be the first argument itself */
};

enum { SWT_ACT = SWT_DTYPE_COUNT };

/* The product of the dimensions; -1 if one is negative or the product's bytes overflow. */
#define SWT_COUNT(...)                                                                             \
    swt_arg_count((const int64_t[]){__VA_ARGS__},                                                  \
                  (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
int64_t swt_arg_count(const int64_t *dims, int n);

/* The context is whole, every size legal, every pointer there and aligned (64 bytes; the natural
 * alignment is enough for 8-byte types and indices, which no vector code reads), and no output
 * overlaps anything. Errors: SHAPE. */
SWT_MUST_CHECK swt_status swt_check_args(const swt_ctx *c, const char *op, const swt_arg *args,
                                         int n);

/* Check the array `args` of a public function, in which `c` is the context. */
#define SWT_CHECK(op, args)                                                                        \
    SWT_TRY(swt_check_args(c, op, args, (int)(sizeof(args) / sizeof(args)[0])))

/* For operations that read or write the step's state. */
SWT_MUST_CHECK swt_status swt_check_state(const swt_ctx *c, const char *op);

/* A structure that an operation takes by pointer. */
SWT_MUST_CHECK swt_status swt_check_given(const void *structure, const char *op, const char *name);

#endif
