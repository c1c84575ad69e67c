/* The parameter table: counts, names, sharding and initial values. */
#include "model/model.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static swt_dims labml(void) {
    return (swt_dims){.B = 32,
                      .T = 64,
                      .C = 128,
                      .H = 4,
                      .D = 32,
                      .F = 256,
                      .V = 65,
                      .L = 6,
                      .E = 4,
                      .M = 1,
                      .every = 1,
                      .bias = true,
                      .capacity_factor = 1.2};
}

static const swt_param *find(const swt_params *p, const char *name) {
    for (int64_t i = 0; i < p->count; i++)
        if (strcmp(p->table[i].name, name) == 0)
            return &p->table[i];
    return NULL;
}

/* 330,756 per layer, embedding, final norm and head: 2,001,497 (counted from labml's modules). */
static void labml_has_2001497_parameters(void **state) {
    (void)state;
    const swt_dims d = labml();
    swt_dist dist;
    swt_params p;
    assert_int_equal(swt_dist_init(&dist, 1, 0, d.E, 0), SWT_OK);
    assert_int_equal(swt_params_init(&p, &d, &dist), SWT_OK);
    assert_int_equal(p.total, 2001497);
    /* Three of four experts are not met by a token: 6 * 3 * (2 * 128 * 256 + 256 + 128) fewer. */
    assert_int_equal(p.active, 2001497 - 6 * 3 * (2 * 128 * 256 + 256 + 128));
    const swt_param *wi = find(&p, "decoder.5.moe.experts.3.wi.weight");
    assert_non_null(wi);
    assert_int_equal(wi->shape[0], 256);
    assert_int_equal(wi->shape[1], 128);
    assert_non_null(find(&p, "decoder.0.attn.q.bias"));
    assert_non_null(find(&p, "decoder.0.moe.router.bias"));
    assert_non_null(find(&p, "head.bias"));
    assert_null(find(&p, "decoder.0.ffn.wi.weight"));
    swt_params_fini(&p);
    swt_dist_fini(&dist);
}

/* On every rank the tensors it holds do not overlap, lie in the array, and the groups hold each
 * expert once. */
static void shards_tile_without_overlap(void **state) {
    (void)state;
    swt_dims d = labml();
    d.E = 5;
    d.every = 2;
    d.C = 24; /* no multiple of the alignment */
    d.H = 3;
    d.D = 5;
    int64_t holders = 0, experts = 0;
    for (int rank = 0; rank < 3; rank++) {
        swt_dist dist;
        swt_params p;
        assert_int_equal(swt_dist_init(&dist, 3, rank, d.E, 0), SWT_OK);
        assert_int_equal(swt_params_init(&p, &d, &dist), SWT_OK);
        char *used = calloc((size_t)p.end, 1);
        assert_non_null(used);
        for (int64_t i = 0; i < p.count; i++) {
            const swt_param *t = &p.table[i];
            experts += rank == 0 && t->expert >= 0;
            if (t->offset < 0)
                continue;
            holders += t->expert >= 0;
            assert_int_equal(t->expert >= 0, t->offset >= p.shared_end);
            assert_true(t->offset + t->count <= p.end);
            for (int64_t j = t->offset; j < t->offset + t->count; j++)
                assert_int_equal(used[j]++, 0);
        }
        /* q, k and v are one product's weight; so are an expert layer's matrices. */
        const swt_param *q = find(&p, "decoder.0.attn.q.weight");
        assert_int_equal(find(&p, "decoder.0.attn.k.weight")->offset, q->offset + q->count);
        assert_int_equal(p.places[0].qkv.weight, q->offset);
        free(used);
        swt_params_fini(&p);
        swt_dist_fini(&dist);
    }
    assert_int_equal(holders, experts);
}

static double mean_square(const float *x, int64_t n, double *largest) {
    double sum = 0.0;
    *largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
        *largest = fmax(*largest, fabs((double)x[i]));
    }
    return sum / (double)n;
}

/* Bounds and second moments. A mean of n squares of a bounded law lies within 6 standard errors:
 * uniform: variance of u^2 is 4/45 bound^4; normal: 2; cut normal: below 2. */
static void initial_values_have_their_law(void **state) {
    (void)state;
    const swt_param w = {
        .kind = SWT_PARAM_WEIGHT, .count = 20000, .fan_in = 128, .expert = 1, .block = 2};
    const swt_param e = {.kind = SWT_PARAM_EMBED, .count = 20000, .fan_in = 128, .expert = -1};
    float *x = malloc(20000 * sizeof *x);
    double largest = 0.0;
    const double bound = 1.0 / sqrt(128.0), n = 20000.0;
    swt_param_values(x, &w, SWT_INIT_LABML, 0.0, 7);
    assert_true(fabs(mean_square(x, w.count, &largest) - bound * bound / 3.0) <
                6.0 * bound * bound * sqrt(4.0 / 45.0 / n));
    assert_true(largest <= bound && largest > 0.99 * bound);
    swt_param_values(x, &e, SWT_INIT_LABML, 0.0, 7);
    assert_true(fabs(mean_square(x, e.count, &largest) - 1.0) < 6.0 * sqrt(2.0 / n));
    assert_true(largest > 3.0);
    swt_param_values(x, &w, SWT_INIT_SWITCH, 0.1, 7);
    const double std = sqrt(0.1 / 128.0);
    /* A normal cut at two deviations has variance 1 - 2 * 2 phi(2) / (2 Phi(2) - 1) = 0.7737. */
    assert_true(fabs(mean_square(x, w.count, &largest) / (std * std) - 0.7737) <
                6.0 * sqrt(2.0 / n));
    assert_true(largest <= 2.0 * std * 1.000001 && largest > 1.9 * std);
    free(x);
}

/* labml copies one expert and one layer; pytorch draws each. */
static void labml_copies_experts_and_layers(void **state) {
    (void)state;
    const swt_param a = {
        .kind = SWT_PARAM_WEIGHT, .count = 64, .fan_in = 8, .role = 3, .expert = 0};
    swt_param b = a;
    float x[64], y[64];
    b.expert = 2;
    b.block = 5;
    swt_param_values(x, &a, SWT_INIT_LABML, 0.0, 1);
    swt_param_values(y, &b, SWT_INIT_LABML, 0.0, 1);
    assert_memory_equal(x, y, sizeof x);
    for (int change = 0; change < 4; change++) {
        swt_param c = a;
        c.expert += change == 0;
        c.block += change == 1;
        c.role += change == 2;
        swt_param_values(x, &a, SWT_INIT_PYTORCH, 0.0, 1);
        swt_param_values(y, &c, SWT_INIT_PYTORCH, 0.0, change == 3 ? 2 : 1);
        assert_memory_not_equal(x, y, sizeof x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labml_has_2001497_parameters),
        cmocka_unit_test(shards_tile_without_overlap),
        cmocka_unit_test(initial_values_have_their_law),
        cmocka_unit_test(labml_copies_experts_and_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
