/* What dropout drops: how much, and what it has nothing to do with. Against the oracle:
 * src/judge/cases_dropout.c, and those of attention and of experts. */
#include "support/trial.h"

#include <math.h>
#include <string.h>

enum { ROWS = 500, WIDTH = 400, COUNT = ROWS * WIDTH };

/* The factors of ROWS rows from `first` on: dropout of ones. */
static const float *factors(swt_trial *t, const swt_dropout_mask *mask) {
    const swt_dropout_dims dims = {.blocks = 1, .rows = ROWS, .C = WIDTH, .sources = 1};
    const float *ones = swt_trial_uniform(t, COUNT, 1, 1);
    const swt_dropout_args a = SWT_MADE(t, dropout, .x = ones, .dims = dims, .mask = *mask);
    swt_test_keep(t);
    return a.y;
}

/* The number of dropped ones is that of so many independent draws: within 5 standard deviations, of
 * all and of each word of the draws. The others have the scale. */
static void test_rate(void **state) {
    static const double shares[] = {0.001, 0.1, 0.25, 0.5, 0.9, 0.999};
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        const double p = shares[i];
        const swt_dropout_mask mask = swt_dropout_mask_of(p, SWT_DROPOUT_FFN, 3, 1 << 20);
        swt_trial_begin(t, "dropout of %g", p);
        const float *m = factors(t, &mask);
        double dropped[4] = {0}, all[4] = {0};
        for (int64_t n = 0; n < COUNT; n++) {
            const int64_t word = n % WIDTH / 16 % 4;
            assert_true(m[n] == 0 || m[n] == (float)(1 / (1 - p)));
            dropped[word] += m[n] == 0;
            all[word]++;
        }
        for (int w = 0; w < 4; w++)
            swt_trial_number(t, "dropped", dropped[w], p * all[w], 5 * sqrt(p * (1 - p) * all[w]));
        const double sum = dropped[0] + dropped[1] + dropped[2] + dropped[3];
        swt_trial_number(t, "dropped", sum, p * COUNT, 5 * sqrt(p * (1 - p) * COUNT));
    }
}

/* Of two masks of one half both drop a quarter: places, blocks, steps, seeds and rows that differ
 * have nothing to do with one another; neighbours in a mask, too. */
static void test_independence(void **state) {
    swt_trial *t = swt_test_trial(state);
    const swt_dropout_mask mask = swt_dropout_mask_of(0.5, SWT_DROPOUT_HIDDEN, 1, 0);
    enum { SAME, PLACE, BLOCK, ROW, SEED, STEP, COLUMN, GROUP, CHANGES };
    for (int what = PLACE; what < CHANGES; what++) {
        swt_trial_begin(t, "independence %d", what);
        const float *a = factors(t, &mask), *b = a;
        swt_dropout_mask other = mask;
        other.place = what == PLACE ? SWT_DROPOUT_EXPERTS : mask.place;
        other.block = what == BLOCK ? 2 : mask.block;
        other.first = what == ROW ? 1 : mask.first;
        t->state->seed += what == SEED;
        t->state->step += what == STEP;
        if (what < COLUMN)
            b = factors(t, &other);
        const int64_t behind = what == COLUMN ? 1 : what == GROUP ? 64 : 0;
        double both = 0, all = 0;
        for (int64_t n = 0; n < COUNT; n++) {
            if (n % WIDTH + behind >= WIDTH)
                continue;
            both += a[n] == 0 && b[n + behind] == 0;
            all++;
        }
        swt_trial_number(t, "both", both, all / 4, 5 * sqrt(all * 3 / 16));
    }
}

/* Rows keep their masks wherever they stand: cut into blocks whose numbers follow one another, or
 * from another first row on; and narrower rows are the beginnings of wide ones. */
static void test_rows_keep_their_masks(void **state) {
    enum { B = 5, R = 8, C = 70, NARROW = 39 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "rows keep their masks");
    const swt_dropout_mask mask = swt_dropout_mask_of(0.5, SWT_DROPOUT_INPUT, 0, 100);
    swt_dropout_mask later = mask;
    later.first += 2 * R;
    const float *ones = swt_trial_uniform(t, B * R * C, 1, 1);
    const swt_dropout_dims one = {.blocks = 1, .rows = B * R, .C = C, .sources = 1};
    const swt_dropout_dims some = {.blocks = B, .rows = R, .C = C, .sources = 1, .expert_step = R};
    const swt_dropout_dims last = {.blocks = 1, .rows = (B - 2) * R, .C = C, .sources = 1};
    const swt_dropout_dims narrow = {.blocks = 1, .rows = B * R, .C = NARROW, .sources = 1};
    const float *a = SWT_MADE(t, dropout, .x = ones, .dims = one, .mask = mask).y;
    const float *b = SWT_MADE(t, dropout, .x = ones, .dims = some, .mask = mask).y;
    const float *c = SWT_MADE(t, dropout, .x = ones, .dims = last, .mask = later).y;
    const float *d = SWT_MADE(t, dropout, .x = ones, .dims = narrow, .mask = mask).y;
    assert_memory_equal(a, b, B * R * C * sizeof *a);
    assert_memory_equal(a + 2 * R * C, c, (B - 2) * R * C * sizeof *a);
    for (int r = 0; r < B * R; r++)
        assert_memory_equal(a + r * C, d + r * NARROW, NARROW * sizeof *a);
}

/* What is dropped is 0 whatever it was, and nothing else is. */
static void test_not_finite(void **state) {
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "numbers that are none");
    const swt_dropout_mask mask = swt_dropout_mask_of(0.5, SWT_DROPOUT_FFN, 3, 9);
    const swt_dropout_dims dims = {.blocks = 1, .rows = ROWS, .C = WIDTH, .sources = 1};
    float *x = swt_trial_uniform(t, COUNT, 1, 1);
    for (int64_t n = 0; n < COUNT; n++)
        x[n] = n % 2 ? NAN : INFINITY;
    const float *m = factors(t, &mask);
    const float *y = SWT_MADE(t, dropout, .x = x, .dims = dims, .mask = mask).y;
    for (int64_t n = 0; n < COUNT; n++)
        assert_true(m[n] == 0 ? y[n] == 0 : n % 2 ? isnan(y[n]) : isinf(y[n]));
}

/* With equal scores the weights of the
 * keys that are left are all the same: y of values of one is the scale times their share. */
static void test_attention(void **state) {
    enum { B = 2, H = 2, T = 150, D = 4, HD = H * D };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "dropout of weights");
    swt_attention_dims d = {
        .B = B, .H = H, .D = D, .Tq = T, .Tk = T, .q_stride = HD, .kv_stride = HD, .scale = 1};
    const float *q = swt_trial_uniform(t, B * T * HD, 0, 0);
    const float *v = swt_trial_uniform(t, B * T * HD, 1, 1);
    d.dropout = swt_dropout_mask_of(0.2, SWT_DROPOUT_WEIGHTS, 0, 0);
    const float *y = SWT_MADE(t, attention_forward, .q = q, .k = q, .v = v, .dims = d).y;
    double kept = 0;
    for (int64_t row = 0; row < B * T; row++)
        for (int h = 0; h < H; h++) {
            /* A whole number of keys, but for the roundings of a sum of T numbers. */
            const double share = (double)y[row * HD + h * D], keys = share * 0.8 * T;
            swt_trial_number(t, "keys", keys, rint(keys), 1e-3);
            kept += rint(keys);
        }
    const double n = (double)B * H * T * T;
    swt_trial_number(t, "kept", kept, 0.8 * n, 5 * sqrt(n * 0.16));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),       cmocka_unit_test(test_independence),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_rows_keep_their_masks),
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
