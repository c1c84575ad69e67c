/* The vector code by itself: products and transposes of every remainder, and that sums of products
 * are fused where the instruction set can. */
#include "kernels/cpu/cpu.h"
#include "support/trial.h"

#include <math.h>
#include <string.h>

/* 1 + 2^-12 squared is 1 + 2^-11 + 2^-24. Fused, the last bit survives the product's rounding. What
 * "plain" can do is the processor family's: x86-64 has no fused multiply-add at its base. */
#ifdef __x86_64__
static const bool x86_64 = true;
#else
static const bool x86_64 = false;
#endif

static void test_fused(void **state) {
    swt_trial *t = swt_test_trial(state);
    const swt_vec *vec = swt_cpu_vec(&t->ctx);
    const float x = 1.0f + 0x1p-12f;
    float y = -(1.0f + 0x1p-11f);
    vec->axpy(&y, &x, x, 1);
    const bool plain = strcmp(vec->name, "plain") == 0;
    assert_true(y == (plain ? 0.0f : 0x1p-24f) || (plain && !x86_64));
}

/* Rows and columns of every remainder of a tile, whatever the instruction set; a by rows and by
 * columns; every part of the epilogue alone and all together. */
static void gemm_case(swt_trial *t, int64_t rows, int64_t columns, int64_t k, unsigned parts) {
    swt_trial_begin(t, "product rows=%lld columns=%lld k=%lld parts=%u", (long long)rows,
                    (long long)columns, (long long)k, parts);
    const int64_t out_row = columns + 3, b_row = columns + 1, long_side = rows > k ? rows : k;
    const bool by_columns = parts & 1;
    const float *a = swt_trial_uniform(t, (long_side + 2) * (long_side + 2), -1, 1);
    const float *b = swt_trial_uniform(t, (k + 1) * b_row, -1, 1);
    const float *start = swt_trial_uniform(t, rows * columns, -1, 1);
    const float *bias = swt_trial_uniform(t, columns, -1, 1);
    const float *mask = swt_trial_whole(t, rows * out_row, -1, 1);
    const float *residual = swt_trial_uniform(t, rows * out_row, -1, 1);
    float *out = swt_trial_copy(t, residual, rows * out_row, SWT_F32);
    const swt_vec_gemm p = {.out = out,
                            .a = a,
                            .b = b,
                            .start = parts & 2 ? start : NULL,
                            .bias = parts & 4 ? bias : NULL,
                            .relu = parts & 8,
                            .mask = parts & 16 ? mask : NULL,
                            .residual = parts & 32 ? residual : NULL,
                            .rows = rows,
                            .columns = columns,
                            .k = k,
                            .out_row = out_row,
                            .a_row = by_columns ? 1 : long_side + 2,
                            .a_col = by_columns ? long_side + 2 : 1,
                            .b_row = b_row,
                            .start_row = columns};
    swt_cpu_vec(&t->ctx)->gemm(&p);
    double *want = swt_trial_widen(t, residual, rows * out_row); /* what lies between rows stays */
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) {
            double sum = p.start ? p.start[r * columns + j] : 0.0;
            for (int64_t l = 0; l < k; l++)
                sum += (double)a[r * p.a_row + l * p.a_col] * b[l * b_row + j];
            sum += p.bias ? bias[j] : 0.0;
            if ((p.relu && sum < 0.0) || (p.mask && mask[r * out_row + j] <= 0.0f))
                sum = 0.0;
            want[r * out_row + j] = sum + (p.residual ? residual[r * out_row + j] : 0.0);
        }
    /* As for a linear layer (test_linear.c): plain order, 4 for what is added and small k. */
    swt_trial_close(t, "out", out, want, rows * out_row, 4 * sqrt(1.0 + (double)k) * SWT_ROUNDING,
                    1 + sqrt((double)k) / 3);
}

static void test_gemm(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int64_t rows = 0; rows <= 13; rows++)
        for (int64_t columns = 0; columns <= 66; columns += columns < 18 ? 1 : 7)
            gemm_case(t, rows, columns, rows * 3 + columns % 5, (unsigned)(rows + columns));
    for (unsigned parts = 0; parts < 64; parts++)
        gemm_case(t, 7, 65, 33, parts);
}

/* The same bits however the rows and columns are cut: whole, a row at a time, a column at a time.
 */
static void test_cuts(void **state) {
    enum { ROWS = 13, COLUMNS = 66, K = 100 };
    swt_trial *t = swt_test_trial(state);
    const swt_vec *vec = swt_cpu_vec(&t->ctx);
    swt_trial_begin(t, "cuts");
    swt_vec_gemm p = {.a = swt_trial_uniform(t, ROWS * K, -1, 1),
                      .b = swt_trial_uniform(t, K * COLUMNS, -1, 1),
                      .bias = swt_trial_uniform(t, COLUMNS, -1, 1),
                      .rows = ROWS,
                      .columns = COLUMNS,
                      .k = K,
                      .out_row = COLUMNS,
                      .a_row = K,
                      .a_col = 1,
                      .b_row = COLUMNS};
    float *whole = swt_trial_in(t, ROWS * COLUMNS, SWT_F32);
    float *cut = swt_trial_in(t, ROWS * COLUMNS, SWT_F32);
    p.out = whole;
    vec->gemm(&p);
    for (int64_t r = 0; r < ROWS; r++) {
        swt_vec_gemm row = p;
        row.a += r * K;
        row.out = cut + r * COLUMNS;
        row.rows = 1;
        vec->gemm(&row);
    }
    swt_trial_same(t, "a row at a time", cut, whole, ROWS * COLUMNS, SWT_F32);
    for (int64_t j = 0; j < COLUMNS; j++) {
        swt_vec_gemm column = p;
        column.b += j;
        column.bias += j;
        column.out = cut + j;
        column.columns = 1;
        vec->gemm(&column);
    }
    swt_trial_same(t, "a column at a time", cut, whole, ROWS * COLUMNS, SWT_F32);
}

static void test_transpose(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int64_t rows = 0; rows <= 35; rows += rows < 18 ? 1 : 5)
        for (int64_t columns = 0; columns <= 35; columns += columns < 18 ? 1 : 5) {
            swt_trial_begin(t, "transpose %lld x %lld", (long long)rows, (long long)columns);
            const float *x = swt_trial_uniform(t, rows * (columns + 2) + 1, -1, 1);
            float *want = swt_trial_in(t, columns * (rows + 1) + 1, SWT_F32);
            float *y = swt_trial_in(t, columns * (rows + 1) + 1, SWT_F32);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = 0; j < columns; j++)
                    want[j * (rows + 1) + r] = x[r * (columns + 2) + j];
            swt_cpu_vec(&t->ctx)->transpose(y, rows + 1, x, columns + 2, rows, columns);
            swt_trial_same(t, "y", y, want, columns * (rows + 1) + 1, SWT_F32);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_gemm),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_transpose),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
