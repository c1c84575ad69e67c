/* How far a result may be from what it should be. */
#include "selftest/trial.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void swt_trial_miss(swt_trial *t, const char *fmt, ...) {
    swt_finding *f = &t->found;
    if (f->failed)
        return;
    f->failed = true;
    const int n = snprintf(f->message, sizeof f->message, "%.80s: ", t->label);
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->message + n, sizeof f->message - (size_t)n, fmt, args); /* its end may be lost */
    va_end(args);
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
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (isnan(error))
            error = INFINITY;
        error_squares += error * error;
        want_squares += want[i] * want[i];
        if (error > worst) {
            worst = error;
            at = i;
        }
    }
    const double count = fmax(1, (double)n),
                 allowed = tolerance * fmax(sqrt(want_squares / count), scale);
    const double rms = sqrt(error_squares / count);
    if (note(t, fmax(share_of(rms, allowed), share_of(worst, 8 * allowed))))
        swt_trial_miss(t,
                       "%s is out by %.3g rms (allowed %.3g), %s[%lld] is %.9g and should be %.9g",
                       what, rms, allowed, what, (long long)at, (double)got[at], want[at]);
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

/* The element at this address as a number, for a message. */
static double value_of(const void *at, swt_dtype dtype) {
    float f32 = 0;
    double f64 = 0;
    int32_t i32 = 0;
    int64_t i64 = 0;
    switch (dtype) {
    case SWT_F32:
        memcpy(&f32, at, sizeof f32);
        return (double)f32;
    case SWT_F64:
        memcpy(&f64, at, sizeof f64);
        return f64;
    case SWT_I32:
        memcpy(&i32, at, sizeof i32);
        return i32;
    case SWT_I64:
        memcpy(&i64, at, sizeof i64);
        return (double)i64;
    default:
        return *(const unsigned char *)at;
    }
}

void swt_trial_same(swt_trial *t, const char *what, const void *got, const void *want,
                    int64_t count, swt_dtype dtype) {
    const size_t bytes = swt_dtype_bytes(dtype);
    const unsigned char *a = got, *b = want;
    for (int64_t i = 0; i < count; i++, a += bytes, b += bytes)
        if (memcmp(a, b, bytes) != 0) {
            swt_trial_miss(t, "%s[%lld] is %.9g and should be %.9g, to the bit", what, (long long)i,
                           value_of(a, dtype), value_of(b, dtype));
            return;
        }
}
