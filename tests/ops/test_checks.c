/* What operations of the switch layer refuse that is particular about them: groups, sums, rounds.
 * All other refusals: test_cases.c. */
#include "selftest/oracle.h"
#include "support/judge.h"

enum { POINTERS = 16, DIMS = 5, BYTES = 8192, SIZE = 4 };

/* An operation by its pointers. kinds has a letter for each: o an output, i an input, s scratch. */
typedef struct operation {
    const char *name;
    const char *kinds;
} operation;

static swt_moe_dims expert_dims(const int64_t *d) {
    swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    dims.C = d[3];
    dims.El = d[0];
    dims.P = d[1];
    dims.K = d[2];
    dims.F = d[4];
    return dims;
}

static swt_status experts_backward_weight(const swt_ctx *c, void **p, const swt_moe_dims *dims,
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
                                                                              .dims = *dims,
                                                                              .exact = true,
                                                                              .sums = *sums});
}

static swt_status experts_backward_weight_sums(const swt_ctx *c, void **p, const int64_t *d) {
    const swt_moe_dims dims = expert_dims(d);
    const swt_expert_sums sums = {p[9], p[10], p[11], p[12], 0x1p62, true, true};
    return experts_backward_weight(c, p, &dims, &sums);
}

/* Valid arguments: every tensor is large enough, all dimensions are SIZE. Numbers are zeros, which
 * are valid tokens and experts. */
typedef struct arguments {
    void *p[POINTERS];
    int64_t d[DIMS];
} arguments;

static arguments valid(swt_bed *bed, const operation *op, const char *what) {
    swt_bed_begin(bed, "%s, %s", op->name, what);
    bed->tensors[0].kind = SWT_BED_OUT; /* the state is an output of some */
    arguments a = {.d = {SIZE, SIZE, SIZE, SIZE, SIZE}};
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
    void *const *p = a.p;
    SWT_BED_REFUSE(&bed, SHAPE, swt_attention_forward(&bed.ctx, NULL));
    SWT_BED_REFUSE(&bed, SHAPE,
                   swt_router_assign(&bed.ctx, &(swt_router_assign_args){.slot = p[0],
                                                                         .kept = p[1],
                                                                         .counts = p[2],
                                                                         .expert = p[3],
                                                                         .gate = p[4],
                                                                         .scratch = p[5]}));
    for (int64_t G = -1; G <= SIZE; G++) {
        swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
        dims.G = G;
        if (G == 1 || G == 2 || G == 4)
            SWT_BED_RUN(&bed, swt_router_assign(&bed.ctx, &(swt_router_assign_args){.slot = p[0],
                                                                                    .kept = p[1],
                                                                                    .counts = p[2],
                                                                                    .expert = p[3],
                                                                                    .gate = p[4],
                                                                                    .scratch = p[5],
                                                                                    .dims = dims}));
        else
            SWT_BED_REFUSE(&bed, SHAPE,
                           swt_router_assign(&bed.ctx, &(swt_router_assign_args){.slot = p[0],
                                                                                 .kept = p[1],
                                                                                 .counts = p[2],
                                                                                 .expert = p[3],
                                                                                 .gate = p[4],
                                                                                 .scratch = p[5],
                                                                                 .dims = dims}));
    }
    swt_bed_close(&bed);
}

/* Sums that share memory with a gradient or with one another; some or all of them missing. */
static void test_expert_sums(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const operation op = {.name = "experts_backward_weight with sums", .kinds = "ooooiiiiioooo"};
    const int64_t d[DIMS] = {SIZE, SIZE, SIZE, SIZE, SIZE};
    for (int sum = 9; sum < 13; sum++)
        for (int other = 0; other < 13; other++) {
            if (other == sum)
                continue;
            arguments a = valid(&bed, &op, "an overlap");
            a.p[sum] = a.p[other];
            SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight_sums(&bed.ctx, a.p, d));
        }
    arguments a = valid(&bed, &op, "without biases");
    a.p[1] = a.p[3] = a.p[10] = a.p[12] = NULL;
    SWT_BED_RUN(&bed, experts_backward_weight_sums(&bed.ctx, a.p, d));
    a = valid(&bed, &op, "without sums");
    a.p[9] = a.p[10] = a.p[11] = a.p[12] = NULL;
    if (bed.ctx.ops->expert_sums)
        SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight_sums(&bed.ctx, a.p, d));
    else
        SWT_BED_RUN(&bed, experts_backward_weight_sums(&bed.ctx, a.p, d));
    for (int missing = 9; missing < 13; missing++) {
        a = valid(&bed, &op, "one of the sums missing");
        a.p[missing] = NULL;
        SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight_sums(&bed.ctx, a.p, d));
    }
    for (int calls = 0; calls < 3; calls++) {
        const swt_moe_dims dims = expert_dims(d);
        const swt_expert_sums none = {.limit = 1, .first = calls == 1, .last = calls == 2};
        a = valid(&bed, &op, "without sums that other calls need");
        SWT_BED_REFUSE(&bed, SHAPE, experts_backward_weight(&bed.ctx, a.p, &dims, &none));
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
    SWT_BED_RUN(&bed,
                swt_dispatch_forward(&bed.ctx, &(swt_dispatch_forward_args){.send = p[0],
                                                                            .send_counts = p[1],
                                                                            .h = p[2],
                                                                            .expert = p[3],
                                                                            .slot = p[4],
                                                                            .kept = p[5],
                                                                            .dims = dims,
                                                                            .first_slot = SIZE}));
    SWT_BED_REFUSE(&bed, SHAPE,
                   swt_dispatch_forward(&bed.ctx, &(swt_dispatch_forward_args){.send = p[0],
                                                                               .send_counts = p[1],
                                                                               .h = p[2],
                                                                               .expert = p[3],
                                                                               .slot = p[4],
                                                                               .kept = p[5],
                                                                               .dims = dims,
                                                                               .first_slot = -1}));
    SWT_BED_RUN(&bed,
                swt_combine_forward(&bed.ctx, &(swt_combine_forward_args){.y = p[0],
                                                                          .residual = p[2],
                                                                          .recv = p[3],
                                                                          .h = p[4],
                                                                          .expert = p[5],
                                                                          .gate = p[6],
                                                                          .slot = p[7],
                                                                          .dims = dims,
                                                                          .first_slot = SIZE}));
    for (int bad = 0; bad < 2; bad++) /* a negative round; in place */
        SWT_BED_REFUSE(&bed, SHAPE,
                       swt_combine_forward(&bed.ctx, &(swt_combine_forward_args){
                                                         .y = p[0],
                                                         .residual = p[bad == 0 ? 2 : 0],
                                                         .recv = p[3],
                                                         .h = p[4],
                                                         .expert = p[5],
                                                         .gate = p[6],
                                                         .slot = p[7],
                                                         .dims = dims,
                                                         .first_slot = bad == 0 ? -1 : SIZE}));
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_dims),
        cmocka_unit_test(test_expert_sums),
        cmocka_unit_test(test_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
