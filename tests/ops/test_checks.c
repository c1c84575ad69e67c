/* What attention refuses, with SHAPE and before it touches anything: a missing pointer, a negative
 * or too large dimension, an output that is an input; and what is particular about operations of
 * the switch layer: groups, sums, rounds. All other refusals: test_cases.c. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <stdio.h>
#include <string.h>

enum { POINTERS = 16, DIMS = 5, BYTES = 8192, SIZE = 4 };

/* An operation with its pointers and dimensions as arrays. kinds has a letter for each pointer: o
 * an output, i an input, s scratch. */
typedef struct operation {
    const char *name;
    const char *kinds;
    int n_dims;
    swt_status (*call)(const swt_ctx *c, void **p, const int64_t *d);
} operation;

static pos_attention_dims attention_dims(const int64_t *d) {
    return (pos_attention_dims){.B = d[0], .T = d[1], .H = d[2], .D = d[3], .scale = 1};
}

static swt_status attention_forward(const swt_ctx *c, void **p, const int64_t *d) {
    const pos_attention_dims dims = attention_dims(d);
    return pos_attention_forward(c, p[0], p[1], p[2], &dims);
}

static swt_status attention_backward(const swt_ctx *c, void **p, const int64_t *d) {
    const pos_attention_dims dims = attention_dims(d);
    return pos_attention_backward(c, p[0], p[1], p[2], p[3], p[4], &dims);
}

static swt_moe_dims expert_dims(const int64_t *d) {
    swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
    dims.C = d[3];
    dims.El = d[0];
    dims.P = d[1];
    dims.K = d[2];
    dims.F = d[4];
    return dims;
}

static swt_status experts_backward_weight_sums(const swt_ctx *c, void **p, const int64_t *d) {
    const swt_moe_dims dims = expert_dims(d);
    const swt_expert_sums sums = {p[9], p[10], p[11], p[12], 0x1p62, true, true};
    return pos_experts_backward_weight(c, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8],
                                       &dims, &sums);
}

static const operation operations[] = {
    {"attention_forward", "ooi", 4, attention_forward},
    {"attention_backward", "oiiii", 4, attention_backward},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

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

static void test_valid(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int o = 0; o < OPERATIONS; o++) {
        const operation *op = &operations[o];
        arguments a = valid(&bed, op, "as it should be");
        SWT_BED_RUN(&bed, op->call(&bed.ctx, a.p, a.d));
    }
    swt_bed_close(&bed);
}

static void test_missing_pointers(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int o = 0; o < OPERATIONS; o++) {
        const operation *op = &operations[o];
        arguments a = valid(&bed, op, "without a context");
        SWT_BED_REFUSE(&bed, SHAPE, op->call(NULL, a.p, a.d));
        for (int i = 0; op->kinds[i] != '\0'; i++) {
            char what[32];
            snprintf(what, sizeof what, "without pointer %d", i);
            a = valid(&bed, op, what);
            a.p[i] = NULL;
            SWT_BED_REFUSE(&bed, SHAPE, op->call(&bed.ctx, a.p, a.d));
        }
    }
    swt_bed_close(&bed);
}

static void test_dimensions(void **state) {
    (void)state;
    /* 2^62 elements of any type in rows of SIZE are more bytes than a size can count. */
    static const int64_t wrong[] = {-1, INT64_MIN, (int64_t)1 << 62, INT64_MAX};
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int o = 0; o < OPERATIONS; o++)
        for (int i = 0; i < operations[o].n_dims; i++)
            for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
                char what[64];
                snprintf(what, sizeof what, "dimension %d is %lld", i, (long long)wrong[w]);
                arguments a = valid(&bed, &operations[o], what);
                a.d[i] = wrong[w];
                SWT_BED_REFUSE(&bed, SHAPE, operations[o].call(&bed.ctx, a.p, a.d));
            }
    swt_bed_close(&bed);
}

static void test_aliases(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int o = 0; o < OPERATIONS; o++) {
        const operation *op = &operations[o];
        for (int out = 0; op->kinds[out] != '\0'; out++)
            for (int in = 0; op->kinds[in] != '\0'; in++) {
                if (op->kinds[out] != 'o' || op->kinds[in] != 'i')
                    continue;
                char what[64];
                snprintf(what, sizeof what, "output %d is input %d", out, in);
                arguments a = valid(&bed, op, what);
                a.p[in] = a.p[out];
                SWT_BED_REFUSE(&bed, SHAPE, op->call(&bed.ctx, a.p, a.d));
            }
    }
    swt_bed_close(&bed);
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
                   pos_router_assign(&bed.ctx, p[0], p[1], p[2], p[3], p[4], p[5], NULL));
    for (int64_t G = -1; G <= SIZE; G++) {
        swt_moe_dims dims = swt_oracle_moe_dims(SIZE, SIZE, SIZE);
        dims.G = G;
        if (G == 1 || G == 2 || G == 4)
            SWT_BED_RUN(&bed,
                        pos_router_assign(&bed.ctx, p[0], p[1], p[2], p[3], p[4], p[5], &dims));
        else
            SWT_BED_REFUSE(&bed, SHAPE,
                           pos_router_assign(&bed.ctx, p[0], p[1], p[2], p[3], p[4], p[5], &dims));
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
        SWT_BED_REFUSE(&bed, SHAPE,
                       pos_experts_backward_weight(&bed.ctx, a.p[0], a.p[1], a.p[2], a.p[3], a.p[4],
                                                   a.p[5], a.p[6], a.p[7], a.p[8], &dims, &none));
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
                pos_dispatch_forward(&bed.ctx, p[0], p[1], p[2], p[3], p[4], p[5], &dims, SIZE));
    SWT_BED_REFUSE(&bed, SHAPE,
                   pos_dispatch_forward(&bed.ctx, p[0], p[1], p[2], p[3], p[4], p[5], &dims, -1));
    SWT_BED_RUN(
        &bed, pos_combine_forward(&bed.ctx, p[0], p[2], p[3], p[4], p[5], p[6], p[7], &dims, SIZE));
    for (int bad = 0; bad < 2; bad++) /* a negative round; in place */
        SWT_BED_REFUSE(&bed, SHAPE,
                       pos_combine_forward(&bed.ctx, p[0], p[bad == 0 ? 2 : 0], p[3], p[4], p[5],
                                           p[6], p[7], &dims, bad == 0 ? -1 : SIZE));
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),        cmocka_unit_test(test_missing_pointers),
        cmocka_unit_test(test_dimensions),   cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_missing_dims), cmocka_unit_test(test_expert_sums),
        cmocka_unit_test(test_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
