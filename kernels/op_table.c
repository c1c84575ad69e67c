/* The table of operations, and the public function of each: check, then dispatch. All are made from
 * the list in swt_ops.h; their tensors are listed in ops_*.c. */
#include "kernels/swt_op_table.h"

#include "kernels/check.h"

swt_status swt_op_list(const swt_op *op, const swt_ctx *c, const void *args, swt_arg_list *out) {
    *out = (swt_arg_list){.c = c, .op = op->name};
    return op->list(args, out);
}

static swt_status check(const swt_op *op, const swt_ctx *c, const void *args) {
    swt_arg_list list;
    SWT_TRY(swt_check_given(args, op->name, "its structure of arguments"));
    SWT_TRY(swt_op_list(op, c, args, &list));
    return swt_check_list(&list);
}

/* The table's functions take every operation's arguments as `const void *`. */
#define TYPED(op)                                                                                  \
    static swt_status list_##op(const void *args, swt_arg_list *out) {                             \
        return swt_list_##op(args, out);                                                           \
    }                                                                                              \
    static swt_status run_##op(const swt_ctx *c, const void *args) {                               \
        return swt_##op(c, args);                                                                  \
    }
SWT_OPS(TYPED)

#define ROW(op) [SWT_OP_##op] = {#op, sizeof(swt_##op##_args), list_##op, run_##op},
const swt_op swt_op_table[SWT_OP_COUNT] = {SWT_OPS(ROW)};

#define PUBLIC(op)                                                                                 \
    swt_status swt_##op(const swt_ctx *c, const swt_##op##_args *args) {                           \
        SWT_TRY(check(&swt_op_table[SWT_OP_##op], c, args));                                       \
        return c->ops->op(c, args);                                                                \
    }
SWT_OPS(PUBLIC)
