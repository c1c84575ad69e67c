#include "judge/oracle.h"

#include <math.h>

#define PI 3.14159265358979323846

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
                             double eps, double scale) {
    for (int64_t n = 0; n < N; n++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < C; i++)
            sum += x[n * C + i];
        const double m = mean != NULL ? sum / (double)C : 0;
        for (int64_t i = 0; i < C; i++)
            squares += (x[n * C + i] - m) * (x[n * C + i] - m);
        rstd[n] = 1 / sqrt(squares / (double)C + eps);
        for (int64_t i = 0; i < C; i++)
            y[n * C + i] =
                scale * ((x[n * C + i] - m) * rstd[n] * weight[i] + (bias != NULL ? bias[i] : 0));
        if (mean != NULL)
            mean[n] = m;
    }
}

void swt_oracle_norm_backward(double *dx, double *dweight, double *dbias, const double *dy,
                              const double *dresidual, const double *x, const double *mean,
                              const double *rstd, const double *weight, int64_t N, int64_t C,
                              double scale) {
    for (int64_t n = 0; n < N; n++) {
        const double m = mean != NULL ? mean[n] : 0;
        double g_mean = 0, gx_mean = 0;
        for (int64_t i = 0; i < C; i++) {
            const double xhat = (x[n * C + i] - m) * rstd[n];
            const double g = scale * dy[n * C + i] * weight[i];
            g_mean += mean != NULL ? g / (double)C : 0;
            gx_mean += g * xhat / (double)C;
            dweight[i] += scale * dy[n * C + i] * xhat;
            if (dbias != NULL)
                dbias[i] += scale * dy[n * C + i];
        }
        for (int64_t i = 0; i < C; i++) {
            const double xhat = (x[n * C + i] - m) * rstd[n];
            const double g = scale * dy[n * C + i] * weight[i];
            dx[n * C + i] = rstd[n] * (g - g_mean - xhat * gx_mean) +
                            (dresidual != NULL ? dresidual[n * C + i] : 0);
        }
    }
}

static double gelu(double u) {
    return u / 2 * (1 + tanh(sqrt(2 / PI) * (u + 0.044715 * u * u * u)));
}

static double gelu_slope(double u) {
    const double t = tanh(sqrt(2 / PI) * (u + 0.044715 * u * u * u));
    return (1 + t) / 2 + u / 2 * (1 - t * t) * sqrt(2 / PI) * (1 + 3 * 0.044715 * u * u);
}

void swt_oracle_gelu_forward(double *y, const double *x, int64_t N, int64_t F, bool gated) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < F; i++) {
            const double *u = x + n * F * (gated ? 2 : 1) + i;
            y[n * F + i] = gelu(*u) * (gated ? u[F] : 1);
        }
}

void swt_oracle_gelu_backward(double *dx, const double *dy, const double *x, int64_t N, int64_t F,
                              bool gated) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < F; i++) {
            const int64_t place = n * F * (gated ? 2 : 1) + i;
            dx[place] = dy[n * F + i] * gelu_slope(x[place]) * (gated ? x[place + F] : 1);
            if (gated)
                dx[place + F] = dy[n * F + i] * gelu(x[place]);
        }
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Where a row of y, q, k or v begins, at head h. */
static int64_t y_row(const swt_attention_dims *d, int64_t b, int64_t i, int64_t h) {
    return ((b * d->Tq + i) * d->H + h) * d->D;
}

static int64_t q_row(const swt_attention_dims *d, int64_t b, int64_t i, int64_t h) {
    return (b * d->Tq + i) * d->q_stride + h * d->D;
}

static int64_t kv_row(const swt_attention_dims *d, int64_t b, int64_t j, int64_t h) {
    return (b * d->Tk + j) * d->kv_stride + h * d->D;
}

/* How many keys query i of sequence b sees: the first ones. */
static int64_t keys_seen(const swt_attention_dims *d, const int32_t *key_lengths, int64_t b,
                         int64_t i) {
    int64_t keys = d->Tk;
    if (key_lengths != NULL && key_lengths[b] < keys)
        keys = key_lengths[b] > 0 ? key_lengths[b] : 0;
    return d->mask == SWT_MASK_CAUSAL && i + 1 < keys ? i + 1 : keys;
}

/* Where the bias of query i and key j stands, at head h. */
static int64_t bias_place(int64_t h, int64_t i, int64_t j) {
    const int64_t reach = SWT_BIAS_REACH, distance = j - i;
    const int64_t r = distance < -reach ? -reach : distance > reach ? reach : distance;
    return h * (2 * reach + 1) + reach + r;
}

/* s[i, j] of one head, from the beginnings of its rows. */
static double score(const swt_oracle_attention *a, const double *qi, const double *kj, int64_t h,
                    int64_t i, int64_t j) {
    const double bias = a->bias != NULL ? a->bias[bias_place(h, i, j)] : 0;
    return (double)a->d->scale * dot(qi, kj, a->d->D) + bias;
}

double swt_oracle_dropout(const swt_dropout_mask *mask, uint64_t seed, int64_t step, int64_t row,
                          int64_t column, int64_t before) {
    const int64_t draw = before + column / 64 * 16 + column % 16, word = column / 16 % 4;
    const swt_rng_u32x4 r = swt_rng(seed, (uint32_t)draw, mask->first + (uint32_t)row,
                                    (uint32_t)step, (swt_rng_purpose)mask->place, mask->block);
    return r.v[word] < mask->limit ? 0 : (double)mask->scale;
}

/* What the weight of query i and key j is multiplied by. */
static double kept(const swt_oracle_attention *a, int64_t b, int64_t h, int64_t i, int64_t j) {
    const swt_attention_dims *d = a->d;
    if (d->dropout.limit == 0)
        return 1;
    return swt_oracle_dropout(&d->dropout, a->seed, a->step, b * d->H + h, j,
                              i * ((d->Tk + 63) / 64 * 16));
}

/* y[i] (D) and its lse, of head h of sequence b. */
static void attend(double *yi, double *lse, const swt_oracle_attention *a, int64_t b, int64_t h,
                   int64_t i) {
    const swt_attention_dims *d = a->d;
    const int64_t keys = keys_seen(d, a->key_lengths, b, i);
    const double *qi = a->q + q_row(d, b, i, h), *k = a->k + kv_row(d, b, 0, h),
                 *v = a->v + kv_row(d, b, 0, h);
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++)
        largest = fmax(largest, score(a, qi, k + j * d->kv_stride, h, i, j));
    for (int64_t j = 0; j < keys; j++)
        sum += exp(score(a, qi, k + j * d->kv_stride, h, i, j) - largest);
    /* cppcheck-suppress invalidFunctionArg ; the largest term is 1 */
    *lse = keys > 0 ? largest + log(sum) : -INFINITY;
    for (int64_t c = 0; c < d->D; c++)
        yi[c] = 0;
    for (int64_t j = 0; j < keys; j++) {
        const double p =
            kept(a, b, h, i, j) * exp(score(a, qi, k + j * d->kv_stride, h, i, j) - *lse);
        for (int64_t c = 0; c < d->D; c++)
            yi[c] += p * v[j * d->kv_stride + c];
    }
}

void swt_oracle_attention_forward(double *y, double *lse, const swt_oracle_attention *a) {
    const swt_attention_dims *d = a->d;
    for (int64_t b = 0; b < d->B; b++)
        for (int64_t h = 0; h < d->H; h++)
            for (int64_t i = 0; i < d->Tq; i++)
                attend(y + y_row(d, b, i, h), lse + (b * d->H + h) * d->Tq + i, a, b, h, i);
}

void swt_oracle_attention_backward(const swt_oracle_attention_gradients *g, const double *dy,
                                   const double *y, const double *lse,
                                   const swt_oracle_attention *a) {
    const swt_attention_dims *d = a->d;
    const double scale = (double)d->scale;
    for (int64_t b = 0; b < d->B; b++)
        for (int64_t h = 0; h < d->H; h++)
            for (int64_t i = 0; i < d->Tq; i++)
                for (int64_t j = 0; j < keys_seen(d, a->key_lengths, b, i); j++) {
                    const int64_t qi = q_row(d, b, i, h), kj = kv_row(d, b, j, h);
                    const double *dyi = dy + y_row(d, b, i, h), *yi = y + y_row(d, b, i, h);
                    const double p = exp(score(a, a->q + qi, a->k + kj, h, i, j) -
                                         lse[(b * d->H + h) * d->Tq + i]);
                    const double m = kept(a, b, h, i, j), dp = m * dot(dyi, a->v + kj, d->D);
                    const double ds = p * (dp - dot(dyi, yi, d->D));
                    if (g->dbias != NULL)
                        g->dbias[bias_place(h, i, j)] += ds;
                    for (int64_t c = 0; c < d->D; c++) {
                        g->dq[qi + c] += scale * ds * a->k[kj + c];
                        g->dk[kj + c] += scale * ds * a->q[qi + c];
                        g->dv[kj + c] += m * p * dyi[c];
                    }
                }
}

/* A whole number of the logarithm may come out a little too small: 1e-9 is far above its rounding
 * and far below the least distance to a border of any other whole n. */
int swt_oracle_bias_bucket(int distance, bool both_ways) {
    const double side = both_ways ? 8 : 16, most = 2 * side - 1;
    const double n = both_ways ? abs(distance) : distance < 0 ? -distance : 0;
    double bucket = n;
    if (n >= side)
        bucket = fmin(side + floor(log(n / side) / log(128 / side) * side + 1e-9), most);
    return (int)bucket + (both_ways && distance > 0 ? 16 : 0);
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

void swt_oracle_cross_entropy(double *dlogits, double stats[SWT_LOSS_STATS], const double *logits,
                              const int32_t *targets, int64_t targets_of_batch, int64_t N,
                              int64_t V, double z_coef) {
    stats[SWT_LOSS_SUM] = stats[SWT_LOSS_CORRECT] = stats[SWT_LOSS_Z] = 0;
    for (int64_t n = 0; n < N; n++) {
        const double *z = logits + n * V;
        const bool real = targets[n] >= 0;
        const double lse = swt_oracle_logsumexp(z, V);
        if (real) {
            stats[SWT_LOSS_SUM] += lse - z[targets[n]];
            stats[SWT_LOSS_CORRECT] += swt_oracle_argmax(z, V) == targets[n] ? 1 : 0;
            stats[SWT_LOSS_Z] += lse * lse;
        }
        for (int64_t v = 0; dlogits != NULL && v < V; v++) {
            const double p = exp(z[v] - lse), onehot = v == targets[n] ? 1 : 0;
            const double slope = p - onehot + z_coef * 2 * lse * p;
            dlogits[n * V + v] = real ? slope / (double)targets_of_batch : 0;
        }
    }
}
