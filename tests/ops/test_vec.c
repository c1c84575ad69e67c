/* The vector code by itself: products and transposes of every remainder, and that sums of products
 * are fused where the instruction set can. */
#include "kernels/cpu/cpu.h"
#include "support/judge.h"

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
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const swt_vec *vec = swt_cpu_vec(&bed.ctx);
    const float x = 1.0f + 0x1p-12f;
    float y = -(1.0f + 0x1p-11f);
    vec->axpy(&y, &x, x, 1);
    const bool plain = strcmp(vec->name, "plain") == 0;
    assert_true(y == (plain ? 0.0f : 0x1p-24f) || (plain && !x86_64));
    swt_bed_close(&bed);
}

/* Rows and columns of every remainder of a tile, whatever the instruction set; a by rows and by
 * columns; every part of the epilogue alone and all together. */
static void product_case(swt_bed *bed, int64_t rows, int64_t columns, int64_t k, unsigned parts) {
    swt_bed_begin(bed, "product rows=%lld columns=%lld k=%lld parts=%u", (long long)rows,
                  (long long)columns, (long long)k, parts);
    const int64_t c_stride = columns + 3, b_step = columns + 1, long_side = rows > k ? rows : k;
    const bool by_columns = parts & 1;
    const float *a = swt_bed_uniform(bed, (long_side + 2) * (long_side + 2), -1, 1);
    const float *b = swt_bed_uniform(bed, (k + 1) * b_step, -1, 1);
    const float *start = swt_bed_uniform(bed, rows * columns, -1, 1);
    const float *bias = swt_bed_uniform(bed, columns, -1, 1);
    const float *mask = swt_bed_whole(bed, rows * c_stride, -1, 1);
    const float *residual = swt_bed_uniform(bed, rows * c_stride, -1, 1);
    float *c = swt_bed_copy(bed, residual, rows * c_stride, SWT_F32);
    const swt_vec_product p = {.c = c,
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
                               .c_stride = c_stride,
                               .a_row = by_columns ? 1 : long_side + 2,
                               .a_step = by_columns ? long_side + 2 : 1,
                               .b_step = b_step,
                               .start_stride = columns};
    swt_cpu_vec(&bed->ctx)->product(&p);
    double *want = swt_bed_widen(bed, residual, rows * c_stride); /* what lies between rows stays */
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) {
            double sum = p.start ? p.start[r * columns + j] : 0.0;
            for (int64_t l = 0; l < k; l++)
                sum += (double)a[r * p.a_row + l * p.a_step] * b[l * b_step + j];
            sum += p.bias ? bias[j] : 0.0;
            if ((p.relu && sum < 0.0) || (p.mask && mask[r * c_stride + j] <= 0.0f))
                sum = 0.0;
            want[r * c_stride + j] = sum + (p.residual ? residual[r * c_stride + j] : 0.0);
        }
    /* As for a linear layer (test_linear.c): plain order, 4 for what is added and small k. */
    swt_expect_close(bed, "c", c, want, rows * c_stride, 4 * sqrt(1.0 + (double)k) * SWT_UNIT,
                     1 + sqrt((double)k) / 3);
}

static void test_product(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int64_t rows = 0; rows <= 13; rows++)
        for (int64_t columns = 0; columns <= 66; columns += columns < 18 ? 1 : 7)
            product_case(&bed, rows, columns, rows * 3 + columns % 5, (unsigned)(rows + columns));
    for (unsigned parts = 0; parts < 64; parts++)
        product_case(&bed, 7, 65, 33, parts);
    swt_bed_close(&bed);
}

/* The same bits however the rows and columns are cut: whole, a row at a time, a column at a time.
 */
static void test_cuts(void **state) {
    (void)state;
    enum { ROWS = 13, COLUMNS = 66, K = 100 };
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const swt_vec *vec = swt_cpu_vec(&bed.ctx);
    swt_bed_begin(&bed, "cuts");
    swt_vec_product p = {.a = swt_bed_uniform(&bed, ROWS * K, -1, 1),
                         .b = swt_bed_uniform(&bed, K * COLUMNS, -1, 1),
                         .bias = swt_bed_uniform(&bed, COLUMNS, -1, 1),
                         .rows = ROWS,
                         .columns = COLUMNS,
                         .k = K,
                         .c_stride = COLUMNS,
                         .a_row = K,
                         .a_step = 1,
                         .b_step = COLUMNS};
    float *whole = swt_bed_in(&bed, ROWS * COLUMNS, SWT_F32);
    float *cut = swt_bed_in(&bed, ROWS * COLUMNS, SWT_F32);
    p.c = whole;
    vec->product(&p);
    for (int64_t r = 0; r < ROWS; r++) {
        swt_vec_product row = p;
        row.a += r * K;
        row.c = cut + r * COLUMNS;
        row.rows = 1;
        vec->product(&row);
    }
    swt_expect_bytes(&bed, "a row at a time", cut, whole, ROWS * COLUMNS, SWT_F32);
    for (int64_t j = 0; j < COLUMNS; j++) {
        swt_vec_product column = p;
        column.b += j;
        column.bias += j;
        column.c = cut + j;
        column.columns = 1;
        vec->product(&column);
    }
    swt_expect_bytes(&bed, "a column at a time", cut, whole, ROWS * COLUMNS, SWT_F32);
    swt_bed_close(&bed);
}

static void test_transpose(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int64_t rows = 0; rows <= 35; rows += rows < 18 ? 1 : 5)
        for (int64_t columns = 0; columns <= 35; columns += columns < 18 ? 1 : 5) {
            swt_bed_begin(&bed, "transpose %lld x %lld", (long long)rows, (long long)columns);
            const float *x = swt_bed_uniform(&bed, rows * (columns + 2) + 1, -1, 1);
            float *want = swt_bed_in(&bed, columns * (rows + 1) + 1, SWT_F32);
            float *y = swt_bed_in(&bed, columns * (rows + 1) + 1, SWT_F32);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = 0; j < columns; j++)
                    want[j * (rows + 1) + r] = x[r * (columns + 2) + j];
            swt_cpu_vec(&bed.ctx)->transpose(y, rows + 1, x, columns + 2, rows, columns);
            swt_expect_bytes(&bed, "y", y, want, columns * (rows + 1) + 1, SWT_F32);
        }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_transpose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
