/* What operations refuse that is particular about them: groups, sums and rounds of the switch
 * layer, the rows of attention. All other refusals: test_cases.c. */
#include "judge/oracle.h"
#include "support/trial.h"

/* All dimensions are SIZE. */
enum { SIZE = 4, HD = SIZE * SIZE, FLOATS = 2048 };

/* Runs, or is refused. */
static void expect(swt_trial *t, bool good, int op, const swt_any_args *args) {
    swt_test_call(t, op, args, good ? SWT_OK : SWT_SHAPE);
}

/* What has no place in the table: arguments that are missing, groups that do not divide the tokens.
 */
static void test_missing_dims(void **state) {
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "dims missing or not dividing");
    assert_int_equal(swt_attention_forward(&t->ctx, NULL), SWT_SHAPE);
    swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    dims.G = SIZE; /* room for the most groups */
    swt_any_args args = {.router_assign = SWT_FILLED(t, router_assign, .dims = dims)};
    for (int64_t G = -1; G <= SIZE; G++) {
        args.router_assign.dims.G = G;
        expect(t, G == 1 || G == 2 || G == 4, SWT_OP_router_assign, &args);
    }
    args.router_assign.dims = (swt_moe_dims){0};
    expect(t, false, SWT_OP_router_assign, &args);
}

/* Exact, in one call, with all sums. */
static swt_any_args with_sums(swt_trial *t, const char *what) {
    enum { N = SIZE * SIZE * SIZE };
    swt_trial_begin(t, "experts_backward_weight %s", what);
    swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    dims.P = dims.F = SIZE;
    int64_t *sums[4];
    for (int i = 0; i < 4; i++)
        sums[i] = swt_trial_out(t, N, SWT_I64);
    return (swt_any_args){.experts_backward_weight = SWT_FILLED(
                              t, experts_backward_weight, .dbi = swt_trial_out(t, N, SWT_F32),
                              .dbo = swt_trial_out(t, N, SWT_F32), .dims = dims,
                              .sums = {.wi = sums[0],
                                       .bi = sums[1],
                                       .wo = sums[2],
                                       .bo = sums[3],
                                       .exact = true,
                                       .limit = 0x1p62,
                                       .first = true,
                                       .last = true})};
}

/* Sums that share memory with a gradient, an input or with one another; some or all of them
 * missing.
 */
static void test_expert_sums(void **state) {
    enum { POINTERS = 13, SUMS = 4 };
    swt_trial *t = swt_test_trial(state);
    swt_any_args args;
    swt_experts_backward_weight_args *a = &args.experts_backward_weight;
    swt_expert_sums *s = &a->sums;
    int64_t **const sums[SUMS] = {&s->wi, &s->bi, &s->wo, &s->bo};
    for (int sum = 0; sum < SUMS; sum++) {
        for (int other = 0; other < POINTERS; other++) {
            args = with_sums(t, "with sums that overlap");
            const void *const pointers[POINTERS] = {
                s->wi,  s->bi, s->wo,     s->bo,   a->dwi, a->dbi,        a->dwo,
                a->dbo, a->x,  a->hidden, a->dpre, a->dy,  a->slot_counts};
            *sums[sum] = (int64_t *)(uintptr_t)pointers[other];
            expect(t, other == sum, SWT_OP_experts_backward_weight, &args);
        }
        args = with_sums(t, "with one of the sums missing");
        *sums[sum] = NULL;
        expect(t, false, SWT_OP_experts_backward_weight, &args);
    }
    args = with_sums(t, "without biases");
    a->dbi = a->dbo = NULL;
    s->bi = s->bo = NULL;
    expect(t, true, SWT_OP_experts_backward_weight, &args);
    args = with_sums(t, "without sums");
    *s = (swt_expert_sums){.exact = true, .limit = 0x1p62, .first = true, .last = true};
    expect(t, !t->ctx.ops->expert_sums, SWT_OP_experts_backward_weight, &args);
    for (int calls = 0; calls < 3; calls++) {
        args = with_sums(t, "without sums that other calls need");
        *s = (swt_expert_sums){.exact = true, .limit = 1, .first = calls == 1, .last = calls == 2};
        expect(t, false, SWT_OP_experts_backward_weight, &args);
    }
}

/* A negative round; the residual in place in a later round. */
static void test_rounds(void **state) {
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "first_slot");
    const swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    swt_any_args args = {.dispatch_forward =
                             SWT_FILLED(t, dispatch_forward, .dims = dims, .first_slot = SIZE)};
    expect(t, true, SWT_OP_dispatch_forward, &args);
    args.dispatch_forward.first_slot = -1;
    expect(t, false, SWT_OP_dispatch_forward, &args);
    const swt_any_args good = {
        .combine_forward = SWT_FILLED(t, combine_forward, .dims = dims, .first_slot = SIZE)};
    expect(t, true, SWT_OP_combine_forward, &good);
    args = good;
    args.combine_forward.first_slot = -1;
    expect(t, false, SWT_OP_combine_forward, &args);
    args = good;
    args.combine_forward.residual = good.combine_forward.y;
    expect(t, false, SWT_OP_combine_forward, &args);
}

/* Rows too wide for their stride; gradients whose rows lie between one another's, and across. */
static void test_rows_apart(void **state) {
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
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swt_trial_begin(t, "rows apart, case %d", (int)i);
        const int64_t k = cases[i].k, v = cases[i].v;
        const float *q = swt_trial_in(t, FLOATS, SWT_F32);
        float *dq = swt_trial_out(t, FLOATS, SWT_F32);
        const swt_any_args args = {.attention_backward = {.dq = dq,
                                                          .dk = dq + k,
                                                          .dv = dq + v,
                                                          .dy = swt_trial_in(t, FLOATS, SWT_F32),
                                                          .q = q,
                                                          .k = q + k,
                                                          .v = q + v,
                                                          .y = swt_trial_in(t, FLOATS, SWT_F32),
                                                          .lse = swt_trial_in(t, FLOATS, SWT_F32),
                                                          .dims = {.B = SIZE,
                                                                   .H = SIZE,
                                                                   .D = SIZE,
                                                                   .Tq = SIZE,
                                                                   .Tk = SIZE,
                                                                   .q_stride = cases[i].q_stride,
                                                                   .kv_stride = cases[i].kv_stride,
                                                                   .scale = 1}}};
        expect(t, cases[i].good, SWT_OP_attention_backward, &args);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_dims),
        cmocka_unit_test(test_expert_sums),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_rows_apart),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
