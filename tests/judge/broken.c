#include "judge/broken.h"
#include "kernels/swt_backend.h"

#include <math.h>

static swt_fault *planted;

static void change(void *tensor, int64_t i, swt_dtype dtype) {
    float *f32 = tensor;
    double *f64 = tensor;
    if (dtype == SWT_F32)
        f32[i] = planted->by == 0 ? nextafterf(f32[i], INFINITY) : f32[i] + planted->by;
    else if (dtype == SWT_F64)
        f64[i] = f64[i] == 0 ? planted->part : f64[i] * (1 + planted->part);
    else if (dtype == SWT_I32)
        ((int32_t *)tensor)[i]++;
    else
        ((int64_t *)tensor)[i]++;
}

static void damage(const swt_ctx *c, const void *args) {
    swt_arg_list list;
    planted->outputs = 0;
    if (swt_op_list(&swt_op_table[planted->op], c, args, &list) != SWT_OK)
        return;
    for (int i = 0; i < list.n; i++) {
        const swt_arg *arg = &list.args[i];
        if (!(arg->role & SWT_ARG_OUT) || (arg->role & SWT_ARG_SCRATCH) ||
            planted->outputs++ != planted->output)
            continue;
        if (swt_arg_tensor(arg) != NULL && arg->count > 0)
            change(swt_arg_tensor(arg), planted->last ? arg->count - 1 : 0, swt_arg_dtype(c, arg));
    }
    if (planted->outputs == 0) {
        c->state->correction2 += 1e-12;
        c->state->clip *= 1 + 1e-9;
    }
}

#define BROKEN(op)                                                                                 \
    static swt_status broken_##op(const swt_ctx *c, const swt_##op##_args *a) {                    \
        SWT_TRY(swt_cpu_backend.ops->op(c, a));                                                    \
        damage(c, a);                                                                              \
        return SWT_OK;                                                                             \
    }
SWT_OPS(BROKEN)

const swt_ops *swt_plant(swt_fault *fault) {
    static swt_ops ops;
    planted = fault;
    ops = *swt_cpu_backend.ops;
#define BREAK(slot)                                                                                \
    if (fault->op == SWT_OP_##slot)                                                                \
        ops.slot = broken_##slot;
    SWT_OPS(BREAK)
    return &ops;
}
