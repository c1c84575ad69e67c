/* What operations refuse that is particular about them: groups, sums and rounds of the switch
 * layer, the rows of attention. All other refusals: test_cases.c. */
#include "judge/oracle.h"
#include "support/judge.h"

enum { POINTERS = 16, BYTES = 8192, SIZE = 4, HD = SIZE * SIZE, FLOATS = 2048 };

/* An operation by its pointers. kinds has a letter for each: o an output, i an input, s scratch. */
typedef struct operation {
    const char *name;
    const char *kinds;
} operation;

static swt_moe_dims expert_dims(void) {
    swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    dims.P = dims.F = SIZE;
    return dims;
}

static swt_status experts_backward_weight(const swt_ctx *c, void *const *p,
                                          const swt_expert_sums *sums) {
    return swt_experts_backward_weight(c, &(swt_experts_backward_weight_args){.dwi = p[0],
                                                                              .dbi = p[1],
                                                                              .dwo = p[2],
                                                                              .dbo = p[3],
                                                                              .x = p[4],
                                                                              .hidden = p[5],
                                                                              .dhidden = p[6],
                                                                              .dy = p[7],
                                                                              .counts = p[8],
                                                                              .dims = expert_dims(),
                                                                              .exact = true,
                                                                              .sums = *sums});
}

static swt_status experts_backward_weight_sums(const swt_ctx *c, void *const *p) {
    const swt_expert_sums sums = {p[9], p[10], p[11], p[12], 0x1p62, true, true};
    return experts_backward_weight(c, p, &sums);
}

/* Valid pointers where all dimensions are SIZE: every tensor is large enough. Numbers are zeros,
 * which are valid tokens and experts. */
typedef struct arguments {
    void *p[POINTERS];
} arguments;

static arguments valid(swt_bed *bed, const operation *op, const char *what) {
    swt_bed_begin(bed, "%s, %s", op->name, what);
    bed->tensors[0].kind = SWT_BED_OUT; /* the state is an output of some */
    arguments a = {{NULL}};
    for (int i = 0; op->kinds[i] != '\0'; i++)
        a.p[i] = op->kinds[i] == 's'   ? swt_bed_scratch(bed, BYTES)
                 : op->kinds[i] == 'o' ? swt_bed_out(bed, BYTES, SWT_U8)
                                       : swt_bed_in(bed, BYTES, SWT_U8);
    return a;
}

/* What has no place in the table: dims that are missing, groups that do not divide the tokens. */
static void test_missing_dims(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const operation none = {.name = "dims", .kinds = "oooiis"};
    const arguments a = valid(&bed, &none, "missing or not dividing");
    SWT_BED_REFUSE(&bed, SHAPE, swt_attention_forward(&bed.ctx, NULL));
    swt_router_assign_args args = {.slot = a.p[0],
                                   .kept = a.p[1],
                                   .counts = a.p[2],
                                   .expert = a.p[3],
                                   .gate = a.p[4],
                                   .scratch = a.p[5]};
    SWT_BED_REFUSE(&bed, SHAPE, swt_router_assign(&bed.ctx, &args));
    args.dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    for (int64_t G = -1; G <= SIZE; G++) {
        args.dims.G = G;
        if (G == 1 || G == 2 || G == 4)
            SWT_BED_RUN(&bed, swt_router_assign(&bed.ctx, &args));
        else
            SWT_BED_REFUSE(&bed, SHAPE, swt_router_assign(&bed.ctx, &args));
    }
    swt_bed_close(&bed);
}

/* Sums that share memory with a gradient or with one another; some or all of them missing. */
static void test_expert_sums(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const operation op = {.name = "experts_backward_weight with sums", .kinds = "ooooiiiiioooo"};
    for (int sum = 9; sum < 13; sum++)
        for (int other = 0; other < 13; other++) {
            if (other == sum)
                continue;
            arguments a = valid(&bed, &op, "an overlap");
            a.p[sum] = a.p[other];
            SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight_sums(&bed.ctx, a.p));
        }
    arguments a = valid(&bed, &op, "without biases");
    a.p[1] = a.p[3] = a.p[10] = a.p[12] = NULL;
    SWT_BED_RUN(&bed, experts_backward_weight_sums(&bed.ctx, a.p));
    a = valid(&bed, &op, "without sums");
    a.p[9] = a.p[10] = a.p[11] = a.p[12] = NULL;
    if (bed.ctx.ops->expert_sums)
        SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight_sums(&bed.ctx, a.p));
    else
        SWT_BED_RUN(&bed, experts_backward_weight_sums(&bed.ctx, a.p));
    for (int missing = 9; missing < 13; missing++) {
        a = valid(&bed, &op, "one of the sums missing");
        a.p[missing] = NULL;
        SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight_sums(&bed.ctx, a.p));
    }
    for (int calls = 0; calls < 3; calls++) {
        const swt_expert_sums none = {.limit = 1, .first = calls == 1, .last = calls == 2};
        a = valid(&bed, &op, "without sums that other calls need");
        SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight(&bed.ctx, a.p, &none));
    }
    swt_bed_close(&bed);
}

/* A negative round; the residual in place in a later round. */
static void test_rounds(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const operation none = {.name = "rounds", .kinds = "ooiiiiii"};
    const arguments a = valid(&bed, &none, "first_slot");
    void *const *p = a.p;
    const swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    swt_dispatch_forward_args dispatch = {.send = p[0],
                                          .send_counts = p[1],
                                          .h = p[2],
                                          .expert = p[3],
                                          .slot = p[4],
                                          .kept = p[5],
                                          .dims = dims,
                                          .first_slot = SIZE};
    SWT_BED_RUN(&bed, swt_dispatch_forward(&bed.ctx, &dispatch));
    dispatch.first_slot = -1;
    SWT_BED_REFUSE(&bed, SHAPE, swt_dispatch_forward(&bed.ctx, &dispatch));
    const swt_combine_forward_args good = {.y = p[0],
                                           .residual = p[2],
                                           .recv = p[3],
                                           .h = p[4],
                                           .expert = p[5],
                                           .gate = p[6],
                                           .slot = p[7],
                                           .dims = dims,
                                           .first_slot = SIZE};
    swt_combine_forward_args negative = good, in_place = good;
    negative.first_slot = -1;
    in_place.residual = p[0];
    SWT_BED_RUN(&bed, swt_combine_forward(&bed.ctx, &good));
    SWT_BED_REFUSE(&bed, SHAPE, swt_combine_forward(&bed.ctx, &negative));
    SWT_BED_REFUSE(&bed, SHAPE, swt_combine_forward(&bed.ctx, &in_place));
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
        cmocka_unit_test(test_missing_dims),
        cmocka_unit_test(test_expert_sums),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_rows_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
