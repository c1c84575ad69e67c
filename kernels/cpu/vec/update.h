/* Gradient sums and the optimiser; what each computes: vec.h. Included by vec.c alone. */
#ifndef SWT_CPU_UPDATE_H
#define SWT_CPU_UPDATE_H

#include "kernels/cpu/vec/lanes.h"
#include "kernels/cpu/vec/vec.h"

/* Whole vectors. One copy of the code, so that an array's body and its tail run the same
 * instructions: two copies might contract a * b + c * d differently. */
static __attribute__((noinline, noclone)) void adam_vectors(float *param, float *m, float *v,
                                                            const float *grad, int64_t n,
                                                            const swt_vec_adam *a) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vf g = a->clip * load(grad + i, LANES);
        const vf new_m = a->beta1 * load(m + i, LANES) + a->one_minus_beta1 * g;
        const vf new_v = a->beta2 * load(v + i, LANES) + a->one_minus_beta2 * (g * g);
        const vf step = a->rate * new_m / (sqrt_of(new_v * a->v_scale) + a->eps);
        store(param + i, load(param + i, LANES) * a->keep - step, LANES);
        store(m + i, new_m, LANES);
        store(v + i, new_v, LANES);
    }
}

static void update_adam(float *param, float *m, float *v, const float *grad, int64_t n,
                        const swt_vec_adam *a) {
    const int64_t whole = n / LANES * LANES, left = n - whole;
    adam_vectors(param, m, v, grad, whole, a);
    float pad[4][LANES] = {{0}};
    float *const own[3] = {param + whole, m + whole, v + whole};
    for (int i = 0; i < 3; i++)
        memcpy(pad[i], own[i], (size_t)left * sizeof(float));
    memcpy(pad[3], grad + whole, (size_t)left * sizeof(float));
    adam_vectors(pad[0], pad[1], pad[2], pad[3], LANES, a);
    for (int i = 0; i < 3; i++)
        memcpy(own[i], pad[i], (size_t)left * sizeof(float));
}

static bool update_grad_add(int64_t *sum, const float *grad, int64_t n, double limit, bool first) {
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        const double q = rint((double)grad[i] * 0x1p48);
        const int64_t ok = fabs(q) <= limit; /* false for NaN */
        sum[i] = (first ? 0 : sum[i]) + (int64_t)(ok ? q : 0.0);
        bad += !ok;
    }
    return bad == 0;
}

static void update_grad_finish(float *grad, const int64_t *sum, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        grad[i] = (float)((double)sum[i] * 0x1p-48);
}

/* Sums of doubles have sixteen parts, whatever the instruction set. */
enum { PARTS = 16 };

static double sum_of_parts(double part[PARTS]) {
    for (int width = PARTS / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            part[j] += part[j + width];
    return part[0];
}

static double update_sum_squares(const float *x, int64_t n) {
    double part[PARTS] = {0};
    int64_t i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (int j = 0; j < PARTS; j++)
            part[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++)
        part[j] += (double)x[i] * (double)x[i];
    return sum_of_parts(part);
}

/* Squares of floats are exact in double: contracting their sums changes nothing. */
static double update_factor_squares(double *columns, const float *grad, int64_t n) {
    double part[PARTS] = {0};
    int64_t i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (int j = 0; j < PARTS; j++) {
            const double square = (double)grad[i + j] * (double)grad[i + j];
            part[j] += square;
            columns[i + j] += square;
        }
    for (int j = 0; i < n; i++, j++) {
        const double square = (double)grad[i] * (double)grad[i];
        part[j] += square;
        columns[i] += square;
    }
    return sum_of_parts(part);
}

static double update_factored_squares(const float *grad, float row_scale, const float *col_scale,
                                      int64_t n) {
    double part[PARTS] = {0};
    int64_t i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (int j = 0; j < PARTS; j++) {
            const double u = (double)(grad[i + j] * row_scale * col_scale[i + j]);
            part[j] += u * u;
        }
    for (int j = 0; i < n; i++, j++) {
        const double u = (double)(grad[i] * row_scale * col_scale[i]);
        part[j] += u * u;
    }
    return sum_of_parts(part);
}

static void update_factored(float *param, const float *grad, float row_scale,
                            const float *col_scale, float step, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vf u = load(grad + i, n - i) * row_scale * load(col_scale + i, n - i);
        store(param + i, load(param + i, n - i) - step * u, n - i);
    }
}

#endif
