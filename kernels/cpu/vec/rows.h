/* Row primitives; what each computes: vec.h. Included by vec.c alone. */
#ifndef SWT_CPU_ROWS_H
#define SWT_CPU_ROWS_H

#include "kernels/cpu/vec/lanes.h"
#include "kernels/cpu/vec/vec.h"

static float row_dot(const float *x, const float *y, int64_t n) {
    vf sum[2] = {{0}};
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        sum[0] += load(x + i, LANES) * load(y + i, LANES);
        sum[1] += load(x + i + LANES, LANES) * load(y + i + LANES, LANES);
    }
    for (; i < n; i += LANES)
        sum[0] += load(x + i, n - i) * load(y + i, n - i);
    return sum_of_lanes(sum[0] + sum[1]);
}

static float row_max(const float *x, int64_t n) {
    const vf lowest = splat(-INFINITY);
    vf max = lowest;
    for (int64_t i = 0; i < n; i += LANES)
        max = max_of(max, first_lanes(load(x + i, n - i), n - i, lowest));
    return max_of_lanes(max);
}

static void row_axpy(float *y, const float *x, float s, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store(y + i, load(y + i, n - i) + s * load(x + i, n - i), n - i);
}

/* -0 changes nothing that it is added to. */
static void row_scale_add(float *y, const float *r, const float *x, float s, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store(y + i, (r != NULL ? load(r + i, n - i) : splat(-0.0f)) + s * load(x + i, n - i),
              n - i);
}

static void row_scale(float *y, const float *x, float s, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store(y + i, s * load(x + i, n - i), n - i);
}

static float row_softmax(float *p, const float *x, int64_t n) {
    const float max = row_max(x, n);
    vf sum = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        const vf e = first_lanes(exp_of(load(x + i, n - i) - max), n - i, (vf){0});
        sum += e;
        if (p != NULL)
            store(p + i, e, n - i);
    }
    const float total = sum_of_lanes(sum);
    if (p != NULL)
        row_scale(p, p, 1.0f / total, n);
    return max + logf(total);
}

/* Four partial sums: shorter chains of dependent additions, and less rounding. */
static void row_column_sum(float *sum, const float *x, int64_t rows, int64_t stride, int64_t n,
                           bool add) {
    for (int64_t i = 0; i < n; i += LANES) {
        vf part[4] = {{0}};
        int64_t row = 0;
        for (; row + 4 <= rows; row += 4)
            for (int64_t r = 0; r < 4; r++)
                part[r] += load(x + (row + r) * stride + i, n - i);
        for (; row < rows; row++)
            part[0] += load(x + row * stride + i, n - i);
        vf total = (part[0] + part[1]) + (part[2] + part[3]);
        if (add)
            total += load(sum + i, n - i);
        store(sum + i, total, n - i);
    }
}

static void row_norm_forward(const swt_norm_forward_args *a, int64_t first, int64_t end) {
    const int64_t C = a->C;
    const float *x = (const float *)a->x + first * C, *weight = a->weight, *bias = a->bias;
    const double eps = a->eps;
    const float scale = a->scale;
    float *y = (float *)a->y + first * C, *mean = a->mean, *rstd = a->rstd;
    for (int64_t n = first; n < end; n++, x += C, y += C) {
        vf sum = {0}, squares = {0};
        for (int64_t i = 0; i < C && mean != NULL; i += LANES)
            sum += load(x + i, C - i);
        const float m = sum_of_lanes(sum) / (float)C; /* 0 without a mean */
        for (int64_t i = 0; i < C; i += LANES) {
            const vf centred = first_lanes(load(x + i, C - i) - m, C - i, (vf){0});
            squares += centred * centred;
        }
        const double variance = (double)(sum_of_lanes(squares) / (float)C);
        const float r = (float)(1.0 / sqrt(variance + eps));
        for (int64_t i = 0; i < C; i += LANES) {
            const vf xhat = (load(x + i, C - i) - m) * r;
            const vf b = bias != NULL ? load(bias + i, C - i) : (vf){0};
            store(y + i, (xhat * load(weight + i, C - i) + b) * scale, C - i);
        }
        if (mean != NULL)
            mean[n] = m;
        rstd[n] = r;
    }
}

static void row_norm_backward(const swt_norm_backward_args *a, int64_t first, int64_t end,
                              float *dweight, float *dbias) {
    const int64_t C = a->C;
    const float *weight = a->weight, *mean = a->mean, *rstd = a->rstd, scale = a->scale;
    for (int64_t n = first; n < end; n++) {
        const float *dy = (const float *)a->dy + n * C, *x = (const float *)a->x + n * C;
        const float *dresidual = a->dresidual != NULL ? (const float *)a->dresidual + n * C : NULL;
        const float m = mean != NULL ? mean[n] : 0.0f, s = rstd[n];
        float *dx = (float *)a->dx + n * C;
        vf sum_g = {0}, sum_gx = {0};
        for (int64_t i = 0; i < C; i += LANES) {
            const vf d = load(dy + i, C - i) * scale, xhat = (load(x + i, C - i) - m) * s;
            const vf g = d * load(weight + i, C - i); /* 0 beyond C */
            sum_g += g;
            sum_gx += g * xhat;
            store(dweight + i, load(dweight + i, C - i) + d * xhat, C - i);
            store(dbias + i, load(dbias + i, C - i) + d, C - i);
        }
        const float mean_g = mean != NULL ? sum_of_lanes(sum_g) / (float)C : 0.0f;
        const float mean_gx = sum_of_lanes(sum_gx) / (float)C;
        for (int64_t i = 0; i < C; i += LANES) {
            const vf xhat = (load(x + i, C - i) - m) * s;
            const vf g = load(dy + i, C - i) * scale * load(weight + i, C - i);
            /* One expression, so that it is fused or not whatever the compiler makes of the loop;
             * -0 changes nothing that it is added to. */
            const vf r = dresidual != NULL ? load(dresidual + i, C - i) : splat(-0.0f);
            store(dx + i, s * (g - mean_g - xhat * mean_gx) + r, C - i);
        }
    }
}

/* gelu(u) and its slope. With w = 2 sqrt(2 / pi) (u + 0.044715 u^3) and s = 1 / (1 + e^-w), which
 * is (1 + tanh(w / 2)) / 2: gelu(u) = u s and gelu'(u) = s + u s (1 - s) w'. Of e^-|w| nothing
 * overflows, and s and s (1 - s) are no differences of numbers near one another. */
static inline vf gelu_of(vf u, vf *slope) {
    const float factor = 1.5957691216f, cubic = 0.044715f;
    const vf square = u * u, w = factor * u * (1.0f + cubic * square);
    const vf e = exp_of((vf)((vi)w | (vi)splat(-0.0f))), r = 1.0f / (1.0f + e);
    const vf s = blend(w < 0.0f, e * r, r);
    *slope = s + u * (e * r * r) * (factor * (1.0f + 3.0f * cubic * square));
    return u * s;
}

static void row_gelu_forward(float *y, const float *u, const float *v, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        vf slope, g = gelu_of(load(u + i, n - i), &slope);
        if (v != NULL)
            g *= load(v + i, n - i);
        store(y + i, g, n - i);
    }
}

static void row_gelu_backward(float *du, float *dv, const float *dy, const float *u, const float *v,
                              int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vf d = load(dy + i, n - i);
        vf slope, g = gelu_of(load(u + i, n - i), &slope);
        if (v != NULL) {
            slope *= load(v + i, n - i);
            store(dv + i, d * g, n - i);
        }
        store(du + i, d * slope, n - i);
    }
}

#endif
