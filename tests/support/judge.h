/* How far a result may be from what it should be, and finite differences. Each check prints the
 * case of the bed, the tensor, and how far it is out. */
#ifndef SWT_TESTS_SUPPORT_JUDGE_H
#define SWT_TESTS_SUPPORT_JUDGE_H

#include "support/bed.h"

/* The largest relative error of one rounding to float. A sum of n products rounded one by one with
 * independent errors is wrong by about sqrt(n) * SWT_UNIT of its typical size: tolerances are small
 * multiples of that. */
#define SWT_UNIT 0x1p-24

/* got is want within tolerance: the root mean square of the error is at most tolerance times that
 * of want, and no error is more than 8 times as large (one of 10^5 normal errors is above 4.4 sigma
 * once; 8 leaves room for rows of different size). Where want may happen to be small (few elements,
 * sums that cancel) scale is its typical size, and the larger of the two counts. NaN never passes.
 */
void swt_expect_close(const swt_bed *bed, const char *what, const float *got, const double *want,
                      int64_t n, double tolerance, double scale);

/* A sum in F32 of n products of numbers below 1 (uniform ones: variance 1 / 3), on top of a bias:
 * its tolerance, and its size at most. */
double swt_sum_error(int64_t n);
double swt_sum_size(int64_t n);

/* |got - want| <= limit. */
void swt_expect_number(const swt_bed *bed, const char *what, double got, double want, double limit);

/* The same bytes. */
void swt_expect_bytes(const swt_bed *bed, const char *what, const void *got, const void *want,
                      int64_t count, swt_dtype dtype);

void swt_expect_i32(const swt_bed *bed, const char *what, const int32_t *got, const int32_t *want,
                    int64_t n);

/* dx is the gradient of f with respect to x (n), which f reads: central differences, in double. */
void swt_expect_gradient(const swt_bed *bed, const char *what, double (*f)(const void *context),
                         const void *context, double *x, int64_t n, const double *dx);

/* sum_i a[i] b[i]: the loss whose gradient with respect to b is a. */
double swt_inner(const double *a, const double *b, int64_t n);

#endif
