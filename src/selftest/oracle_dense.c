#include "selftest/oracle.h"

#include <math.h>

void swt_oracle_linear_forward(double *y, const double *x, const double *w, const double *bias,
                               const double *residual, int64_t N, int64_t in, int64_t out,
                               bool relu) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < out; o++) {
            double sum = bias != NULL ? bias[o] : 0;
            for (int64_t i = 0; i < in; i++)
                sum += x[n * in + i] * w[o * in + i];
            if (relu && sum < 0)
                sum = 0;
            y[n * out + o] = sum + (residual != NULL ? residual[n * out + o] : 0);
        }
}

void swt_oracle_linear_backward_input(double *dx, const double *dy, const double *w,
                                      const double *relu_output, int64_t N, int64_t in,
                                      int64_t out) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int64_t o = 0; o < out; o++)
                sum += dy[n * out + o] * w[o * in + i];
            const bool cut = relu_output != NULL && relu_output[n * in + i] <= 0;
            dx[n * in + i] = cut ? 0 : sum;
        }
}

void swt_oracle_linear_backward_weight(double *dw, double *dbias, const double *dy, const double *x,
                                       int64_t N, int64_t in, int64_t out) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < out; o++) {
            for (int64_t i = 0; i < in; i++)
                dw[o * in + i] += dy[n * out + o] * x[n * in + i];
            if (dbias != NULL)
                dbias[o] += dy[n * out + o];
        }
}

void swt_oracle_embedding_backward(double *dtable, const double *dx, const int32_t *tokens,
                                   int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < C; i++)
            dtable[tokens[n] * C + i] += dx[n * C + i];
}

void swt_oracle_norm_forward(double *y, double *mean, double *rstd, const double *x,
                             const double *weight, const double *bias, int64_t N, int64_t C,
                             double eps) {
    for (int64_t n = 0; n < N; n++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < C; i++)
            sum += x[n * C + i];
        mean[n] = sum / (double)C;
        for (int64_t i = 0; i < C; i++)
            squares += (x[n * C + i] - mean[n]) * (x[n * C + i] - mean[n]);
        rstd[n] = 1 / sqrt(squares / (double)C + eps);
        for (int64_t i = 0; i < C; i++)
            y[n * C + i] = (x[n * C + i] - mean[n]) * rstd[n] * weight[i] + bias[i];
    }
}

void swt_oracle_norm_backward(double *dx, double *dweight, double *dbias, const double *dy,
                              const double *dresidual, const double *x, const double *mean,
                              const double *rstd, const double *weight, int64_t N, int64_t C) {
    for (int64_t n = 0; n < N; n++) {
        double g_mean = 0, gx_mean = 0;
        for (int64_t i = 0; i < C; i++) {
            const double xhat = (x[n * C + i] - mean[n]) * rstd[n];
            const double g = dy[n * C + i] * weight[i];
            g_mean += g / (double)C;
            gx_mean += g * xhat / (double)C;
            dweight[i] += dy[n * C + i] * xhat;
            dbias[i] += dy[n * C + i];
        }
        for (int64_t i = 0; i < C; i++) {
            const double xhat = (x[n * C + i] - mean[n]) * rstd[n];
            const double g = dy[n * C + i] * weight[i];
            dx[n * C + i] = rstd[n] * (g - g_mean - xhat * gx_mean) +
                            (dresidual != NULL ? dresidual[n * C + i] : 0);
        }
    }
}

/* Where q (part 0), k (1) or v (2) of position t of sequence b and head h starts in qkv. */
static int64_t qkv_at(const swt_attention_dims *d, int64_t b, int64_t t, int64_t part, int64_t h) {
    return ((b * d->T + t) * 3 + part) * d->H * d->D + h * d->D;
}

static int64_t y_at(const swt_attention_dims *d, int64_t b, int64_t t, int64_t h) {
    return ((b * d->T + t) * d->H + h) * d->D;
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* s[i, j] of sequence b and head h. */
static double score(const swt_attention_dims *d, const double *qkv, int64_t b, int64_t h, int64_t i,
                    int64_t j) {
    return (double)d->scale * dot(qkv + qkv_at(d, b, i, 0, h), qkv + qkv_at(d, b, j, 1, h), d->D);
}

void swt_oracle_attention_forward(double *y, double *lse, const double *qkv,
                                  const swt_attention_dims *d) {
    for (int64_t b = 0; b < d->B; b++)
        for (int64_t h = 0; h < d->H; h++)
            for (int64_t i = 0; i < d->T; i++) {
                double largest = -INFINITY, sum = 0;
                for (int64_t j = 0; j <= i; j++)
                    largest = fmax(largest, score(d, qkv, b, h, i, j));
                for (int64_t j = 0; j <= i; j++)
                    sum += exp(score(d, qkv, b, h, i, j) - largest);
                /* cppcheck-suppress invalidFunctionArg ; the largest term is 1 */
                const double row_lse = largest + log(sum);
                lse[(b * d->H + h) * d->T + i] = row_lse;
                double *yi = y + y_at(d, b, i, h);
                for (int64_t c = 0; c < d->D; c++)
                    yi[c] = 0;
                for (int64_t j = 0; j <= i; j++) {
                    const double p = exp(score(d, qkv, b, h, i, j) - row_lse);
                    const double *vj = qkv + qkv_at(d, b, j, 2, h);
                    for (int64_t c = 0; c < d->D; c++)
                        yi[c] += p * vj[c];
                }
            }
}

void swt_oracle_attention_backward(double *dqkv, const double *dy, const double *y,
                                   const double *lse, const double *qkv,
                                   const swt_attention_dims *d) {
    for (int64_t i = 0; i < d->B * d->T * 3 * d->H * d->D; i++)
        dqkv[i] = 0;
    const double scale = (double)d->scale;
    for (int64_t b = 0; b < d->B; b++)
        for (int64_t h = 0; h < d->H; h++)
            for (int64_t i = 0; i < d->T; i++)
                for (int64_t j = 0; j <= i; j++) {
                    const int64_t q = qkv_at(d, b, i, 0, h), k = qkv_at(d, b, j, 1, h),
                                  v = qkv_at(d, b, j, 2, h);
                    const double *dyi = dy + y_at(d, b, i, h), *yi = y + y_at(d, b, i, h);
                    const double p =
                        exp(score(d, qkv, b, h, i, j) - lse[(b * d->H + h) * d->T + i]);
                    const double dp = dot(dyi, qkv + v, d->D);
                    const double ds = p * (dp - dot(dyi, yi, d->D));
                    for (int64_t c = 0; c < d->D; c++) {
                        dqkv[q + c] += scale * ds * qkv[k + c];
                        dqkv[k + c] += scale * ds * qkv[q + c];
                        dqkv[v + c] += p * dyi[c];
                    }
                }
}

double swt_oracle_logsumexp(const double *z, int64_t n) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - largest);
    /* cppcheck-suppress invalidFunctionArg ; the largest term is 1 */
    return largest + log(sum);
}

int32_t swt_oracle_argmax(const double *z, int64_t n) {
    int64_t best = 0;
    double largest = isnan(z[0]) ? -INFINITY : z[0];
    for (int64_t i = 1; i < n; i++)
        if (z[i] > largest) {
            largest = z[i];
            best = i;
        }
    return (int32_t)best;
}

void swt_oracle_cross_entropy(double *dlogits, double stats[2], const double *logits,
                              const int32_t *targets, int64_t targets_of_batch, int64_t N,
                              int64_t V) {
    stats[0] = stats[1] = 0;
    for (int64_t n = 0; n < N; n++) {
        const double *z = logits + n * V;
        const bool real = targets[n] >= 0;
        const double lse = swt_oracle_logsumexp(z, V);
        if (real) {
            stats[0] += lse - z[targets[n]];
            stats[1] += swt_oracle_argmax(z, V) == targets[n] ? 1 : 0;
        }
        for (int64_t v = 0; dlogits != NULL && v < V; v++) {
            const double onehot = v == targets[n] ? 1 : 0;
            dlogits[n * V + v] = real ? (exp(z[v] - lse) - onehot) / (double)targets_of_batch : 0;
        }
    }
}
