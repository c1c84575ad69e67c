#include "judge/case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The largest relative error of one rounding to BF16. */
#define BF16_ROUNDING 0x1p-8

/* ---- drawing */

void swt_case_dim(swt_case *k, const char *name, int64_t *dim, int64_t value) {
    *dim = swt_case_note(k, name, value);
    if (k->n_dims < SWT_CASE_DIMS)
        k->dims[k->n_dims++] = dim;
}

int64_t swt_case_note(swt_case *k, const char *name, int64_t value) {
    char *label = k->t->label;
    const size_t used = strlen(label), room = sizeof k->t->label - used;
    snprintf(label + used, room, "%s%s=%lld", used > 0 ? " " : "", name, (long long)value);
    return value;
}

/* A number of a floating-point type. */
static void put(void *tensor, int64_t i, swt_dtype dtype, float x) {
    if (dtype == SWT_BF16)
        ((uint16_t *)tensor)[i] = swt_bf16_from_float(x);
    else if (dtype == SWT_F64)
        ((double *)tensor)[i] = (double)x;
    else
        ((float *)tensor)[i] = x;
}

/* A tensor of zeros; whole numbers stay so, which are tokens, experts and counts that there are. */
static void fill(swt_case *k, void *tensor, int64_t count, swt_dtype dtype, double low,
                 double high) {
    const bool real = dtype == SWT_F32 || dtype == SWT_BF16 || dtype == SWT_F64;
    for (int64_t i = 0; real && i < count; i++)
        put(tensor, i, dtype, (float)(low + (high - low) * swt_trial_draw(k->t)));
}

void *swt_case_uniform(swt_case *k, int64_t count, swt_dtype dtype, double low, double high) {
    void *tensor = swt_trial_in(k->t, count, dtype);
    fill(k, tensor, count, dtype, low, high);
    return tensor;
}

/* rint gives the zeros below 0 a sign. */
void *swt_case_whole(swt_case *k, int64_t count, swt_dtype dtype, int low, int high) {
    void *tensor = swt_trial_in(k->t, count, dtype);
    for (int64_t i = 0; i < count; i++)
        put(tensor, i, dtype, rintf((float)(low - 0.5 + (high - low + 1) * swt_trial_draw(k->t))));
    return tensor;
}

void *swt_case_rounded(swt_case *k, const double *numbers, int64_t count, swt_dtype dtype) {
    void *tensor = swt_trial_in(k->t, count, dtype);
    for (int64_t i = 0; i < count; i++)
        put(tensor, i, dtype, (float)numbers[i]);
    return tensor;
}

void *swt_case_slots(swt_case *k, const int32_t *counts, int64_t blocks, int64_t K, int64_t width,
                     swt_dtype dtype, float least, float empty) {
    void *slots = swt_trial_in(k->t, blocks * K * width, dtype);
    for (int64_t i = 0; i < blocks * K * width; i++) {
        const int64_t row = i / width;
        const float x = (float)(2 * swt_trial_draw(k->t) - 1);
        put(slots, i, dtype, row % K < counts[row / K] ? fmaxf(x, least) : empty);
    }
    return slots;
}

/* ---- tensors by the row */

/* Of the pointer in the structure of arguments. */
static size_t offset_of(const swt_case *k, const swt_arg *arg) {
    return (size_t)((const unsigned char *)arg->place - (const unsigned char *)&k->host);
}

void swt_case_set(const swt_case *k, swt_any_args *args, const swt_arg *arg, const void *tensor) {
    memcpy((unsigned char *)args + offset_of(k, arg), &tensor, sizeof tensor);
}

/* `bits`: the choices that are left. */
static void make_tensor(swt_case *k, const swt_arg *arg, unsigned *bits) {
    swt_trial *t = k->t;
    const swt_dtype dtype = swt_arg_dtype(&t->ctx, arg);
    void *first = swt_arg_tensor(&k->list.args[0]);
    if (arg->role & SWT_ARG_OPTIONAL) {
        const bool given = *bits & 1;
        *bits >>= 1;
        if (!given)
            return;
    }
    if ((arg->role & SWT_ARG_IN_PLACE) && first != NULL) {
        const bool in_place = *bits & 1;
        *bits >>= 1;
        if (in_place) {
            fill(k, first, arg->count, dtype, -1, 1);
            swt_case_set(k, &k->host, arg, first);
            return;
        }
    }
    void *tensor = arg->role & SWT_ARG_SCRATCH
                       ? swt_trial_scratch(t, arg->count * (int64_t)swt_dtype_bytes(dtype))
                   : arg->role & SWT_ARG_OUT ? swt_trial_out(t, arg->count, dtype)
                                             : swt_trial_in(t, arg->count, dtype);
    if (!(arg->role & (SWT_ARG_OUT | SWT_ARG_SCRATCH)) || (arg->role & SWT_ARG_UPDATED))
        fill(k, tensor, arg->count, dtype, -1, 1);
    swt_case_set(k, &k->host, arg, tensor);
}

static swt_status make_tensors(swt_case *k) {
    unsigned bits = k->choices;
    SWT_TRY(swt_op_list(&swt_op_table[k->op], &k->t->ctx, &k->host, &k->list));
    for (int i = 0; i < k->list.n; i++)
        if (swt_arg_tensor(&k->list.args[i]) == NULL)
            make_tensor(k, &k->list.args[i], &bits);
    return SWT_OK;
}

swt_status swt_case_fill(swt_trial *t, int op, swt_any_args *args) {
    swt_case k = {.t = t, .op = op, .host = *args};
    SWT_TRY(make_tensors(&k));
    *args = k.host;
    return SWT_OK;
}

typedef struct case_row {
    void (*draw)(swt_case *k, void *args);
    void (*judge)(swt_case *k, const void *args);
} case_row;

#define ROW(op) [SWT_OP_##op] = {swt_draw_##op, swt_judge_##op},
static const case_row rows[SWT_OP_COUNT] = {SWT_OPS(ROW)};

swt_status swt_case_make(swt_trial *t, int op, int number, swt_case *out) {
    *out = (swt_case){.t = t, .op = op, .number = number, .choices = (unsigned)number};
    swt_trial_begin(t, "%s", "");
    rows[op].draw(out, &out->host);
    return make_tensors(out);
}

static swt_status run_cases(swt_trial *t, int op) {
    for (int i = 0; i < SWT_CASES; i++) {
        swt_case k;
        SWT_TRY(swt_case_make(t, op, i, &k));
        SWT_TRY(swt_trial_call(t, op, &k.host));
        rows[op].judge(&k, &k.host);
    }
    return SWT_OK;
}

swt_status swt_case_run_all(swt_trial *t, int op) {
    const swt_dtype given = t->ctx.dtype;
    swt_status status = run_cases(t, op);
    t->ctx.dtype = SWT_BF16;
    if (status == SWT_OK && t->ctx.ops->bf16)
        status = run_cases(t, op);
    t->ctx.dtype = given;
    return status;
}

/* ---- judging */

/* The argument that is this tensor. */
static const swt_arg *arg_of(const swt_case *k, const void *tensor) {
    int i = 0;
    while (i < k->list.n - 1 && swt_arg_tensor(&k->list.args[i]) != tensor)
        i++;
    return &k->list.args[i];
}

const void *swt_case_before(const swt_case *k, const void *tensor) {
    return tensor == NULL ? NULL : k->t->before + ((const unsigned char *)tensor - k->t->memory);
}

static double *widen(swt_case *k, const void *from, const swt_arg *arg) {
    double *wide = swt_trial_doubles(k->t, arg->count);
    const swt_dtype dtype = swt_arg_dtype(&k->t->ctx, arg);
    for (int64_t i = 0; i < arg->count; i++)
        wide[i] = swt_trial_element(from, i, dtype);
    return wide;
}

double *swt_case_wide(swt_case *k, const void *tensor) {
    return tensor == NULL ? NULL : widen(k, swt_case_before(k, tensor), arg_of(k, tensor));
}

double *swt_case_got(swt_case *k, const void *tensor) {
    return tensor == NULL ? NULL : widen(k, tensor, arg_of(k, tensor));
}

double *swt_case_want(swt_case *k, const void *tensor) {
    if (tensor == NULL)
        return NULL;
    const swt_arg *arg = arg_of(k, tensor);
    return arg->role & SWT_ARG_UPDATED ? swt_case_wide(k, tensor)
                                       : swt_trial_doubles(k->t, arg->count);
}

void swt_case_number(swt_case *k, const void *tensor, int64_t i, double want, double limit) {
    const swt_arg *arg = arg_of(k, tensor);
    char what[64];
    snprintf(what, sizeof what, "%s[%lld]", arg->name, (long long)i);
    swt_trial_number(k->t, what, swt_trial_element(tensor, i, swt_arg_dtype(&k->t->ctx, arg)), want,
                     limit);
}

void swt_case_near(swt_case *k, const void *tensor, int64_t i, double want, double limit) {
    const bool bf16 = swt_arg_dtype(&k->t->ctx, arg_of(k, tensor)) == SWT_BF16;
    swt_case_number(k, tensor, i, want, limit + (bf16 ? BF16_ROUNDING * (fabs(want) + limit) : 0));
}

void swt_case_close_part(swt_case *k, const void *tensor, int64_t first, int64_t n,
                         const double *want, double tolerance, double scale) {
    const swt_arg *arg = arg_of(k, tensor);
    if (swt_arg_dtype(&k->t->ctx, arg) == SWT_F32) {
        swt_trial_close(k->t, arg->name, (const float *)tensor + first, want, n, tolerance, scale);
        return;
    }
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += want[i] * want[i];
    const double size = fmax(sqrt(squares / fmax(1, (double)n)), scale);
    for (int64_t i = 0; i < n; i++)
        swt_case_near(k, tensor, first + i, want[i], 8 * tolerance * size);
}

void swt_case_close(swt_case *k, const void *tensor, const double *want, double tolerance,
                    double scale) {
    if (tensor != NULL)
        swt_case_close_part(k, tensor, 0, arg_of(k, tensor)->count, want, tolerance, scale);
}

void swt_case_empty_slots(swt_case *k, const void *tensor, const int32_t *counts, int64_t blocks,
                          int64_t K, int64_t width, bool zeros) {
    const swt_arg *arg = arg_of(k, tensor);
    const swt_dtype dtype = swt_arg_dtype(&k->t->ctx, arg);
    const size_t row_bytes = (size_t)width * swt_dtype_bytes(dtype);
    const unsigned char *got = tensor, *before = swt_case_before(k, tensor);
    for (int64_t row = 0; row < blocks * K; row++) {
        if (row % K < counts[row / K])
            continue;
        for (int64_t i = 0; zeros && i < width; i++)
            swt_case_number(k, tensor, row * width + i, 0, 0);
        if (!zeros)
            swt_trial_same(k->t, arg->name, got + (size_t)row * row_bytes,
                           before + (size_t)row * row_bytes, width, dtype);
    }
}
