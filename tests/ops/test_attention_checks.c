/* What attention refuses beside test_checks.c: of tensors with rows apart, missing pointers, what
 * lies across, strides that are too small. */
#include "kernels/swt_op_table.h"
#include "support/bed.h"

#include <string.h>

enum { SIZE = 4, HD = SIZE * SIZE, FLOATS = 2048 };

static const swt_attention_dims dims = {.B = SIZE,
                                        .H = SIZE,
                                        .D = SIZE,
                                        .Tq = SIZE,
                                        .Tk = SIZE,
                                        .q_stride = HD,
                                        .kv_stride = HD,
                                        .scale = 1};

/* The list of the operation's tensors, in `args`, each given memory of its own. */
static swt_arg_list give_all(swt_bed *bed, const swt_op *op, const void *args) {
    swt_arg_list list;
    assert_int_equal(swt_op_list(op, &bed->ctx, args, &list), SWT_OK);
    for (int i = 0; i < list.n; i++) {
        const bool output = list.args[i].role & SWT_ARG_OUT;
        void *tensor =
            output ? swt_bed_out(bed, FLOATS, SWT_F32) : swt_bed_in(bed, FLOATS, SWT_F32);
        memcpy((void *)(uintptr_t)list.args[i].place, &tensor, sizeof tensor);
    }
    return list;
}

static void set(const swt_arg *arg, void *tensor) {
    memcpy((void *)(uintptr_t)arg->place, &tensor, sizeof tensor);
}

/* Each tensor missing; each output in another tensor's place. */
static void check_pointers(swt_bed *bed, const swt_op *op, const void *args) {
    swt_bed_begin(bed, "%s", op->name);
    const swt_arg_list list = give_all(bed, op, args);
    SWT_BED_RUN(bed, op->run(&bed->ctx, args));
    for (int i = 0; i < list.n; i++) {
        void *own = swt_arg_tensor(&list.args[i]);
        set(&list.args[i], NULL);
        if (list.args[i].role & SWT_ARG_OPTIONAL)
            SWT_BED_RUN(bed, op->run(&bed->ctx, args));
        else
            SWT_BED_REFUSE(bed, SHAPE, op->run(&bed->ctx, args));
        for (int j = 0; j < list.n; j++) {
            if (j == i || !(list.args[j].role & SWT_ARG_OUT))
                continue;
            set(&list.args[i], swt_arg_tensor(&list.args[j]));
            SWT_BED_REFUSE(bed, SHAPE, op->run(&bed->ctx, args));
        }
        set(&list.args[i], own);
    }
}

static void test_pointers(void **state) {
    (void)state;
    swt_attention_forward_args forward = {.dims = dims};
    swt_attention_backward_args backward = {.dims = dims};
    swt_bed bed;
    swt_bed_open(&bed, 1);
    check_pointers(&bed, &swt_op_table[SWT_OP_attention_forward], &forward);
    check_pointers(&bed, &swt_op_table[SWT_OP_attention_backward], &backward);
    swt_bed_close(&bed);
}

/* Each dimension negative or too large. */
static void test_dimensions(void **state) {
    (void)state;
    static const int64_t wrong[] = {-1, INT64_MIN, (int64_t)1 << 62, INT64_MAX};
    swt_bed bed;
    swt_bed_open(&bed, 1);
    swt_bed_begin(&bed, "dimensions of attention");
    swt_attention_backward_args args = {.dims = dims};
    (void)give_all(&bed, &swt_op_table[SWT_OP_attention_backward], &args);
    int64_t *const places[] = {&args.dims.B,        &args.dims.H,  &args.dims.D,
                               &args.dims.Tq,       &args.dims.Tk, &args.dims.q_stride,
                               &args.dims.kv_stride};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
            const int64_t right = *places[i];
            *places[i] = wrong[w];
            SWT_BED_REFUSE(&bed, SHAPE, swt_attention_backward(&bed.ctx, &args));
            *places[i] = right;
        }
    swt_bed_close(&bed);
}

/* Rows too wide for their stride; gradients whose rows lie between one another's, and across. */
static void test_rows_apart(void **state) {
    (void)state;
    static const struct {
        int64_t q_stride, kv_stride, k, v; /* where k and v begin, in elements behind q */
        bool good;
    } cases[] = {
        {3 * HD, 3 * HD, HD, 2 * HD, true},
        {HD, 2 * HD, SIZE * HD, (SIZE + 1) * HD, false},
        {3 * HD, 3 * HD, 2 * HD, HD, true},
        {HD, 2 * HD, SIZE * SIZE * HD, (SIZE * SIZE + 1) * HD, true},
        {HD - 1, HD, SIZE * SIZE * HD, 2 * SIZE * SIZE * HD, false},
        {HD, HD - 1, SIZE * SIZE * HD, 2 * SIZE * SIZE * HD, false},
        {3 * HD, 3 * HD, HD - 1, 2 * HD, false},
        {3 * HD, 3 * HD, HD, 2 * HD + 1, false},
        {3 * HD, 3 * HD, HD, HD, false},
        {3 * HD, 4 * HD, HD, 2 * HD, false},
        {3 * HD, (int64_t)1 << 31, HD, 2 * HD, false},
    };
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swt_bed_begin(&bed, "rows apart, case %d", (int)i);
        const float *q = swt_bed_in(&bed, FLOATS, SWT_F32), *dy = swt_bed_in(&bed, FLOATS, SWT_F32),
                    *y = swt_bed_in(&bed, FLOATS, SWT_F32),
                    *lse = swt_bed_in(&bed, FLOATS, SWT_F32);
        float *dq = swt_bed_out(&bed, FLOATS, SWT_F32);
        const int64_t k = cases[i].k, v = cases[i].v;
        const swt_attention_backward_args args = {.dq = dq,
                                                  .dk = dq + k,
                                                  .dv = dq + v,
                                                  .dy = dy,
                                                  .q = q,
                                                  .k = q + k,
                                                  .v = q + v,
                                                  .y = y,
                                                  .lse = lse,
                                                  .dims = {.B = SIZE,
                                                           .H = SIZE,
                                                           .D = SIZE,
                                                           .Tq = SIZE,
                                                           .Tk = SIZE,
                                                           .q_stride = cases[i].q_stride,
                                                           .kv_stride = cases[i].kv_stride,
                                                           .scale = 1}};
        if (cases[i].good)
            SWT_BED_RUN(&bed, swt_attention_backward(&bed.ctx, &args));
        else
            SWT_BED_REFUSE(&bed, SHAPE, swt_attention_backward(&bed.ctx, &args));
    }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_dimensions),
        cmocka_unit_test(test_rows_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
