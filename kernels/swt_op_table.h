/* The operations as data: for each its name, its arguments and how it is called. What goes through
 * all operations (checks, judge, bench, planted faults) reads this table. */
#ifndef SWT_OP_TABLE_H
#define SWT_OP_TABLE_H

#include "kernels/swt_ops.h"

enum {
    SWT_ARG_IN = 0,
    SWT_ARG_OUT = 1,      /* overlaps no other argument */
    SWT_ARG_OPTIONAL = 2, /* may be NULL */
    SWT_ARG_IN_PLACE = 4, /* may be the first argument itself */
    SWT_ARG_UPDATED = 8,  /* an output that is read, too: added to, or changed */
    SWT_ARG_SCRATCH = 16  /* an output that means nothing afterwards */
};

/* Of swt_arg.dtype: the context's type of activations. */
enum { SWT_ACT = SWT_DTYPE_COUNT };

/* One tensor of an operation's arguments. */
typedef struct swt_arg {
    const char *name;
    const void *place; /* where the structure of arguments holds the pointer */
    unsigned role;     /* of the flags above */
    int dtype;         /* swt_dtype, or SWT_ACT */
    int64_t count;     /* of elements; -1 where they cannot be counted; 0: may be anything */
    /* Where rows of `row` elements start `stride` elements apart, and what lies between them
     * belongs to others: count is from the first row's beginning to the last one's end. Else 0. */
    int64_t row, stride;
} swt_arg;

enum { SWT_ARGS_MAX = 16 };

typedef struct swt_arg_list {
    const swt_ctx *c;
    const char *op; /* its name */
    swt_arg args[SWT_ARGS_MAX];
    int n;
    bool state; /* the operation reads or writes the step's state */
} swt_arg_list;

typedef struct swt_op {
    const char *name;
    size_t args_bytes; /* of its structure of arguments, swt_NAME_args */
    /* Add the tensors of `args` to the list. Errors: SHAPE where its dimensions are not legal or do
     * not fit each other. */
    swt_status (*list)(const void *args, swt_arg_list *out);
    /* The public function swt_NAME. */
    swt_status (*run)(const swt_ctx *c, const void *args);
} swt_op;

/* The arguments of any operation. */
#define SWT_ANY_ARGS(op) swt_##op##_args op;
typedef union swt_any_args {
    SWT_OPS(SWT_ANY_ARGS)
} swt_any_args;
#undef SWT_ANY_ARGS

/* In the order of SWT_OPS. */
#define SWT_OP_NUMBER(op) SWT_OP_##op,
enum { SWT_OPS(SWT_OP_NUMBER) SWT_OP_COUNT };
#undef SWT_OP_NUMBER
extern const swt_op swt_op_table[SWT_OP_COUNT];

/* The tensors of an operation's arguments. Errors: SHAPE. */
SWT_MUST_CHECK swt_status swt_op_list(const swt_op *op, const swt_ctx *c, const void *args,
                                      swt_arg_list *out);

/* The tensor itself, and the type of its elements. */
void *swt_arg_tensor(const swt_arg *arg);
swt_dtype swt_arg_dtype(const swt_ctx *c, const swt_arg *arg);

#endif
