#include "support/judge.h"

#include <math.h>
#include <string.h>

void swt_expect_close(const swt_bed *bed, const char *what, const float *got, const double *want,
                      int64_t n, double tolerance, double scale) {
    double error_squares = 0, want_squares = 0, worst = 0;
    int64_t at = -1;
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - want[i]);
        if (!isfinite(error))
            fail_msg("%s: %s[%lld] is %g and should be %g", bed->label, what, (long long)i,
                     (double)got[i], want[i]);
        error_squares += error * error;
        want_squares += want[i] * want[i];
        if (error > worst) {
            worst = error;
            at = i;
        }
    }
    const double size = fmax(sqrt(want_squares / fmax(1, (double)n)), scale);
    const double rms = sqrt(error_squares / fmax(1, (double)n));
    if (rms > tolerance * size || worst > 8 * tolerance * size)
        fail_msg("%s: %s is out by %.3g rms (allowed %.3g of %.3g), worst at %lld: %.9g, should be "
                 "%.9g",
                 bed->label, what, rms, tolerance * size, size, (long long)at,
                 at >= 0 ? (double)got[at] : 0, at >= 0 ? want[at] : 0);
}

double swt_sum_error(int64_t n) {
    return 4 * sqrt(1 + (double)n) * SWT_UNIT;
}

double swt_sum_size(int64_t n) {
    return 1 + sqrt((double)n) / 3;
}

void swt_expect_number(const swt_bed *bed, const char *what, double got, double want,
                       double limit) {
    if (!(fabs(got - want) <= limit))
        fail_msg("%s: %s is %.17g and should be %.17g within %.3g", bed->label, what, got, want,
                 limit);
}

void swt_expect_bytes(const swt_bed *bed, const char *what, const void *got, const void *want,
                      int64_t count, swt_dtype dtype) {
    const size_t bytes = swt_dtype_bytes(dtype);
    for (int64_t i = 0; i < count; i++)
        if (memcmp((const char *)got + (size_t)i * bytes, (const char *)want + (size_t)i * bytes,
                   bytes) != 0)
            fail_msg("%s: %s[%lld] has other bits than it should", bed->label, what, (long long)i);
}

void swt_expect_i32(const swt_bed *bed, const char *what, const int32_t *got, const int32_t *want,
                    int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: %s[%lld] is %d and should be %d", bed->label, what, (long long)i, got[i],
                     want[i]);
}

void swt_expect_gradient(const swt_bed *bed, const char *what, double (*f)(const void *context),
                         const void *context, double *x, int64_t n, const double *dx) {
    /* The difference is wrong by about h^2 from the curvature and by 2^-53 |f| / h from rounding,
     * both 1e-10 for values around 1 to 10; 1e-7 leaves room for the steeper functions and is still
     * far below any mistake. */
    const double h = 1e-5, limit = 1e-7;
    for (int64_t i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = kept + h;
        const double above = f(context);
        x[i] = kept - h;
        const double below = f(context);
        x[i] = kept;
        const double slope = (above - below) / (2 * h);
        if (!(fabs(slope - dx[i]) <= limit * (1 + fabs(slope))))
            fail_msg("%s: %s[%lld] is %.12g, finite differences give %.12g", bed->label, what,
                     (long long)i, dx[i], slope);
    }
}

double swt_inner(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}
