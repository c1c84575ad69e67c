#include "kernels/check.h"

#include "base/checked.h"

#include <string.h>

enum { ALIGN_BYTES = 64 };

swt_dtype swt_arg_dtype(const swt_ctx *c, const swt_arg *arg) {
    return arg->dtype == SWT_ACT ? c->dtype : (swt_dtype)arg->dtype;
}

/* The fields have pointer types of their own: the bytes of a pointer are what they share. */
void *swt_arg_tensor(const swt_arg *arg) {
    void *tensor = NULL;
    memcpy(&tensor, arg->place, sizeof tensor);
    return tensor;
}

static uintptr_t address_of(const swt_arg *arg) {
    return (uintptr_t)swt_arg_tensor(arg);
}

/* 0 for an optional argument that is not given. */
static uintptr_t bytes_of(const swt_ctx *c, const swt_arg *arg) {
    return address_of(arg) == 0 ? 0
                                : (uintptr_t)arg->count * swt_dtype_bytes(swt_arg_dtype(c, arg));
}

static swt_status check_arg(const swt_ctx *c, const char *op, const swt_arg *arg) {
    if (arg->count < 0)
        return SWT_FAIL(SHAPE,
                        "%s: a dimension of %s is negative or they are too large; "
                        "dimensions must be >= 0 and their product must fit 63 bits",
                        op, arg->name);
    if (arg->count == 0)
        return SWT_OK;
    if (address_of(arg) == 0)
        return arg->role & SWT_ARG_OPTIONAL
                   ? SWT_OK
                   : SWT_FAIL(SHAPE, "%s: %s is NULL; it must be given", op, arg->name);
    const swt_dtype dtype = swt_arg_dtype(c, arg);
    const bool scalars = dtype == SWT_I32 || swt_dtype_bytes(dtype) == 8;
    const uintptr_t align = scalars || arg->stride != 0 ? swt_dtype_bytes(dtype) : ALIGN_BYTES;
    if (address_of(arg) % align != 0)
        return SWT_FAIL(SHAPE, "%s: %s is not aligned; it must start at a multiple of %d bytes", op,
                        arg->name, (int)align);
    return SWT_OK;
}

swt_arg swt_arg_rows(swt_arg arg, int64_t row, int64_t stride) {
    if (arg.count > 0) {
        const int64_t rows = arg.count / row;
        const int64_t whole = SWT_COUNT(rows, stride);
        arg.count = whole < 0 ? -1 : whole - stride + row;
    }
    arg.row = row;
    arg.stride = stride;
    return arg;
}

/* Both have rows apart, and those of one lie in the gaps between the other's. */
static bool lie_between(const swt_ctx *c, const swt_arg *a, const swt_arg *b) {
    const uintptr_t size = swt_dtype_bytes(swt_arg_dtype(c, a));
    const uintptr_t stride = (uintptr_t)a->stride * size;
    const uintptr_t a_row = (uintptr_t)a->row * size, b_row = (uintptr_t)b->row * size;
    if (a->stride == 0 || a->stride != b->stride || size != swt_dtype_bytes(swt_arg_dtype(c, b)))
        return false;
    const uintptr_t a_at = address_of(a), b_at = address_of(b);
    const uintptr_t behind =
        b_at >= a_at ? (b_at - a_at) % stride : (stride - (a_at - b_at) % stride) % stride;
    return behind >= a_row && behind + b_row <= stride;
}

/* a comes before b in the list. */
static swt_status check_overlap(const swt_arg_list *list, int a, int b) {
    const swt_ctx *c = list->c;
    const swt_arg *args = list->args;
    const uintptr_t a_at = address_of(&args[a]), b_at = address_of(&args[b]);
    const uintptr_t a_bytes = bytes_of(c, &args[a]), b_bytes = bytes_of(c, &args[b]);
    if (!((args[a].role | args[b].role) & SWT_ARG_OUT) || a_bytes == 0 || b_bytes == 0 ||
        a_at + a_bytes <= b_at || b_at + b_bytes <= a_at)
        return SWT_OK;
    if (a == 0 && (args[b].role & SWT_ARG_IN_PLACE) && a_at == b_at)
        return SWT_OK;
    if (lie_between(c, &args[a], &args[b]))
        return SWT_OK;
    return SWT_FAIL(SHAPE, "%s: %s overlaps %s; they must not share memory", list->op, args[b].name,
                    args[a].name);
}

swt_status swt_list_add(swt_arg_list *out, const swt_arg *args, int n) {
    if (out->n + n > SWT_ARGS_MAX)
        return SWT_FAIL(INTERNAL, "%s: more than %d tensors", out->op, SWT_ARGS_MAX);
    memcpy(&out->args[out->n], args, (size_t)n * sizeof *args);
    out->n += n;
    return SWT_OK;
}

swt_status swt_check_list(const swt_arg_list *list) {
    const swt_ctx *c = list->c;
    const char *op = list->op;
    if (c == NULL || c->ops == NULL || c->device == NULL)
        return SWT_FAIL(SHAPE, "%s: no context; it needs operations and a device", op);
    if (c->dtype != SWT_F32 && !(c->dtype == SWT_BF16 && c->ops->bf16))
        return SWT_FAIL(SHAPE, "%s: activations of type %s; on this backend they must be F32%s", op,
                        swt_dtype_name(c->dtype), c->ops->bf16 ? " or BF16" : "");
    for (int i = 0; i < list->n; i++)
        SWT_TRY(check_arg(c, op, &list->args[i]));
    for (int b = 1; b < list->n; b++)
        for (int a = 0; a < b; a++)
            SWT_TRY(check_overlap(list, a, b));
    return list->state ? swt_check_given(c->state, op, "the step's state") : SWT_OK;
}

swt_status swt_check_given(const void *structure, const char *op, const char *name) {
    if (structure == NULL)
        return SWT_FAIL(SHAPE, "%s: %s is NULL; it must be given", op, name);
    return SWT_OK;
}
