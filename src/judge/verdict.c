/* How far a result may be from what it should be. */
#include "judge/trial.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void swt_trial_miss(swt_trial *t, const char *fmt, ...) {
    char message[SWT_TRIAL_TEXT_BYTES];
    const int n = snprintf(message, sizeof message, "%.80s: ", t->label);
    va_list args;
    va_start(args, fmt);
    vsnprintf(message + n, sizeof message - (size_t)n, fmt, args); /* its end may be lost */
    va_end(args);
    if (!t->found.failed)
        memcpy(t->found.message, message, sizeof message);
    t->found.failed = true;
    if (t->on_miss != NULL)
        t->on_miss(message);
}

/* Note an error as a share of what is allowed; true if it is too large. */
static bool note(swt_trial *t, double share) {
    const double seen = isnan(share) ? INFINITY : share;
    t->found.measured = true;
    t->found.worst = fmax(t->found.worst, seen);
    return seen > 1;
}

static double share_of(double error, double limit) {
    return error == 0 ? 0 : error / limit;
}

void swt_trial_close(swt_trial *t, const char *what, const float *got, const double *want,
                     int64_t n, double tolerance, double scale) {
    double error_squares = 0, want_squares = 0, worst = 0;
    int64_t worst_one = 0;
    for (int64_t i = 0; i < n; i++) {
        if ((double)got[i] == want[i] && isinf(want[i]))
            continue;
        double error = fabs((double)got[i] - want[i]);
        if (isnan(error))
            error = INFINITY;
        error_squares += error * error;
        want_squares += want[i] * want[i];
        if (error > worst) {
            worst = error;
            worst_one = i;
        }
    }
    const double count = fmax(1, (double)n),
                 allowed = tolerance * fmax(sqrt(want_squares / count), scale);
    const double rms = sqrt(error_squares / count);
    if (note(t, fmax(share_of(rms, allowed), share_of(worst, 8 * allowed))))
        swt_trial_miss(
            t, "%s is out by %.3g rms (allowed %.3g), %s[%lld] is %.9g and should be %.9g", what,
            rms, allowed, what, (long long)worst_one, (double)got[worst_one], want[worst_one]);
}

void swt_trial_number(swt_trial *t, const char *what, double got, double want, double limit) {
    if (limit == 0) {
        if (got != want)
            swt_trial_miss(t, "%s is %.17g and should be %.17g", what, got, want);
        return;
    }
    if (note(t, share_of(fabs(got - want), limit)))
        swt_trial_miss(t, "%s is %.12g and should be %.12g within %.3g", what, got, want, limit);
}

double swt_trial_element(const void *tensor, int64_t i, swt_dtype dtype) {
    switch (dtype) {
    case SWT_F32:
        return (double)((const float *)tensor)[i];
    case SWT_BF16:
        return (double)swt_bf16_to_float(((const uint16_t *)tensor)[i]);
    case SWT_F64:
        return ((const double *)tensor)[i];
    case SWT_I32:
        return ((const int32_t *)tensor)[i];
    case SWT_I64:
        return (double)((const int64_t *)tensor)[i];
    default:
        return ((const unsigned char *)tensor)[i];
    }
}

void swt_trial_same(swt_trial *t, const char *what, const void *got, const void *want,
                    int64_t count, swt_dtype dtype) {
    const size_t bytes = swt_dtype_bytes(dtype);
    const unsigned char *a = got, *b = want;
    for (int64_t i = 0; i < count; i++, a += bytes, b += bytes)
        if (memcmp(a, b, bytes) != 0) {
            swt_trial_miss(t, "%s[%lld] is %.9g and should be %.9g, to the bit", what, (long long)i,
                           swt_trial_element(got, i, dtype), swt_trial_element(want, i, dtype));
            return;
        }
}

double swt_sum_tolerance(int64_t n) {
    return 4 * sqrt(fmax(1, (double)n)) * SWT_ROUNDING;
}

double swt_sum_size(int64_t n) {
    return sqrt((double)n) / 3;
}
