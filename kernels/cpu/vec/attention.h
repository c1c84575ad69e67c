/* Attention of one head, in tiles of KEYS keys and blocks of QUERIES queries on the stack: any T in
 * the same memory, and the scores never leave the first-level cache. Included by vec.c alone. */
#ifndef SWT_CPU_ATTENTION_H
#define SWT_CPU_ATTENTION_H

#include "kernels/cpu/vec/rows.h"
#include "kernels/cpu/vec/vec.h"

enum { KEYS = 64, QUERIES = 16, WIDTH_MAX = SWT_HEAD_WIDTH_MAX, ROWS = 4 };

/* Vector registers bound the block of the output that a product can hold. */
#if LANES == 16
enum { VECTORS = 4 };
#else
enum { VECTORS = 2 };
#endif

typedef struct matrix {
    float *at;
    int64_t stride;
} matrix;

/* rows x vectors (of LANES columns) of c = (add ? c : 0) + a b. Element (i, l) of a is at
 * a[i * a_row + l * a_column]. */
static inline __attribute__((always_inline)) void product_block(const int rows, const int vectors,
                                                                matrix c, const float *a,
                                                                int64_t a_row, int64_t a_column,
                                                                matrix b, int64_t k, bool add) {
    vf sum[ROWS][VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? load(c.at + i * c.stride + j * LANES, LANES) : (vf){0};
    for (int64_t l = 0; l < k; l++) {
        vf row[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            row[j] = load(b.at + l * b.stride + j * LANES, LANES);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[i][j] += a[i * a_row + l * a_column] * row[j];
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            store(c.at + i * c.stride + j * LANES, sum[i][j], LANES);
}

/* c (m, n) = (add ? c : 0) + a (m, k) b (k, n), n a multiple of LANES. */
static void product(matrix c, const float *a, int64_t a_row, int64_t a_column, matrix b, int64_t m,
                    int64_t n, int64_t k, bool add) {
    int64_t j = 0;
    while (j < n) {
        const matrix columns = {b.at + j, b.stride};
        const int64_t vectors = n - j >= VECTORS * LANES ? VECTORS : n - j >= 2 * LANES ? 2 : 1;
        int64_t i = 0;
        for (; i + ROWS <= m; i += ROWS) {
            const matrix out = {c.at + i * c.stride + j, c.stride};
            if (vectors == VECTORS)
                product_block(ROWS, VECTORS, out, a + i * a_row, a_row, a_column, columns, k, add);
            else if (vectors == 2)
                product_block(ROWS, 2, out, a + i * a_row, a_row, a_column, columns, k, add);
            else
                product_block(ROWS, 1, out, a + i * a_row, a_row, a_column, columns, k, add);
        }
        for (; i < m; i++)
            for (int64_t v = 0; v < vectors; v++)
                product_block(1, 1, (matrix){c.at + i * c.stride + j + v * LANES, c.stride},
                              a + i * a_row, a_row, a_column,
                              (matrix){b.at + j + v * LANES, b.stride}, k, add);
        j += vectors * LANES;
    }
}

static inline int64_t whole_vectors(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* Rows of n floats into a tile whose rows are whole vectors, zero beyond n. */
static void pack_rows(matrix tile, const float *x, int64_t stride, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i += LANES)
            store(tile.at + r * tile.stride + i, load(x + r * stride + i, n - i), LANES);
}

static void unpack_rows(float *x, int64_t stride, matrix tile, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i += LANES)
            store(x + r * stride + i, load(tile.at + r * tile.stride + i, LANES), n - i);
}

/* The transpose: tile[i][r] = x[r][i] for r < rows, i < n; zero for rows <= r < KEYS. */
static void pack_columns(float tile[], const float *x, int64_t stride, int64_t rows, int64_t n) {
    typedef float v4 __attribute__((vector_size(16)));
    if (rows < KEYS)
        memset(tile, 0, (size_t)(n * KEYS) * sizeof *tile);
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        int64_t i = 0;
        for (; i + 4 <= n; i += 4) {
            v4 in[4], out[4];
            for (int j = 0; j < 4; j++)
                memcpy(&in[j], x + (r + j) * stride + i, sizeof in[j]);
            const v4 low01 = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
            const v4 low23 = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
            const v4 high01 = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
            const v4 high23 = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
            out[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
            out[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
            out[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
            out[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
            for (int j = 0; j < 4; j++)
                memcpy(tile + (i + j) * KEYS + r, &out[j], sizeof out[j]);
        }
        for (; i < n; i++)
            for (int j = 0; j < 4; j++)
                tile[i * KEYS + r + j] = x[(r + j) * stride + i];
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            tile[i * KEYS + r] = x[r * stride + i];
}

/* One row of scores against a tile's first n keys, of which the row sees `visible`: s becomes
 * exp(scale s - new maximum). Returns the factor for what was summed under the old maximum. */
static float softmax_row(float *s, float scale, int64_t visible, int64_t n, float *max,
                         float *sum) {
    vf highest = splat(*max);
    for (int64_t j = 0; j < n; j += LANES) {
        const vf v = first_lanes(load(s + j, LANES) * scale, visible - j, splat(-INFINITY));
        store(s + j, v, LANES);
        highest = max_of(highest, v);
    }
    const float new_max = max_of_lanes(highest);
    vf total = {0};
    for (int64_t j = 0; j < n; j += LANES) {
        const vf e = exp_of(load(s + j, LANES) - new_max);
        store(s + j, e, LANES);
        total += e;
    }
    const float factor = exp_of(splat(*max - new_max))[0];
    *max = new_max;
    *sum = *sum * factor + sum_of_lanes(total);
    return factor;
}

/* Queries in blocks; for each super-block of KEYS queries the key tiles up to the diagonal are
 * packed once. The softmax runs along (Milakov, Gimelshein 2018). */
static void attention_forward(float *y, float *lse, const swt_vec_head *h) {
    _Alignas(64) float keys[WIDTH_MAX * KEYS], values[KEYS * WIDTH_MAX], sums[KEYS * WIDTH_MAX];
    _Alignas(64) float scores[QUERIES * KEYS];
    float max[KEYS], total[KEYS];
    const int64_t width = whole_vectors(h->D);
    for (int64_t top = 0; top < h->T; top += KEYS) {
        const int64_t end = top + KEYS < h->T ? top + KEYS : h->T;
        for (int64_t r = 0; r < KEYS; r++) {
            max[r] = -INFINITY;
            total[r] = 0.0f;
        }
        for (int64_t j = 0; j <= top; j += KEYS) {
            const int64_t tile = j + KEYS < h->T ? KEYS : h->T - j;
            pack_columns(keys, h->k + j * h->qkv_stride, h->qkv_stride, tile, h->D);
            pack_rows((matrix){values, width}, h->v + j * h->qkv_stride, h->qkv_stride, tile, h->D);
            for (int64_t i = top; i < end; i += QUERIES) {
                const int64_t rows = end - i < QUERIES ? end - i : QUERIES;
                const int64_t seen = i + rows - j < tile ? i + rows - j : tile;
                const int64_t n = whole_vectors(seen), first = i - top;
                float *block = sums + first * width;
                product((matrix){scores, KEYS}, h->q + i * h->qkv_stride, h->qkv_stride, 1,
                        (matrix){keys, KEYS}, rows, n, h->D, false);
                for (int64_t r = 0; r < rows; r++) {
                    const int64_t visible = i + r - j + 1 < tile ? i + r - j + 1 : tile;
                    const float factor = softmax_row(scores + r * KEYS, h->scale, visible, n,
                                                     &max[first + r], &total[first + r]);
                    if (j > 0)
                        row_scale(block + r * width, block + r * width, factor, width);
                }
                product((matrix){block, width}, scores, KEYS, 1, (matrix){values, width}, rows,
                        width, seen, j > 0);
            }
        }
        for (int64_t i = top; i < end; i++) {
            row_scale(y + i * h->y_stride, sums + (i - top) * width, 1.0f / total[i - top], h->D);
            lse[i] = max[i - top] + logf(total[i - top]);
        }
    }
}

/* The probabilities p and the scores' gradients ds of a block of queries against a tile. On entry p
 * holds q k^T and ds holds dy v^T; the scale of the scores goes into ds. */
static void score_gradients(float *p, float *ds, int64_t n, int64_t visible, float lse, float delta,
                            float scale) {
    for (int64_t j = 0; j < n; j += LANES) {
        const vf e = exp_of(load(p + j, LANES) * scale - lse);
        const vf probability = first_lanes(e, visible - j, (vf){0});
        const vf gradient = probability * (load(ds + j, LANES) - delta) * scale;
        store(p + j, probability, LANES);
        store(ds + j, first_lanes(gradient, visible - j, (vf){0}), LANES);
    }
}

/* A tile of keys at a time: its dk and dv gather over the queries from the diagonal on, while dq
 * gathers over the tiles in place. */
static void attention_backward(float *dq, float *dk, float *dv, const float *dy, const float *y,
                               const float *lse, const swt_vec_head *h) {
    _Alignas(64) float keys_t[WIDTH_MAX * KEYS], values_t[WIDTH_MAX * KEYS];
    _Alignas(64) float keys[KEYS * WIDTH_MAX], dkeys[KEYS * WIDTH_MAX], dvalues[KEYS * WIDTH_MAX];
    _Alignas(64) float queries[QUERIES * WIDTH_MAX], douts[QUERIES * WIDTH_MAX];
    _Alignas(64) float p[QUERIES * KEYS], ds[QUERIES * KEYS], dqueries[QUERIES * WIDTH_MAX];
    const int64_t D = h->D, stride = h->qkv_stride, width = whole_vectors(D);
    for (int64_t j = 0; j < h->T; j += KEYS) {
        const int64_t tile = j + KEYS < h->T ? KEYS : h->T - j;
        pack_columns(keys_t, h->k + j * stride, stride, tile, D);
        pack_columns(values_t, h->v + j * stride, stride, tile, D);
        pack_rows((matrix){keys, width}, h->k + j * stride, stride, tile, D);
        memset(dkeys, 0, (size_t)(tile * width) * sizeof *dkeys);
        memset(dvalues, 0, (size_t)(tile * width) * sizeof *dvalues);
        for (int64_t i = j; i < h->T; i += QUERIES) {
            const int64_t rows = h->T - i < QUERIES ? h->T - i : QUERIES;
            const int64_t seen = i + rows - j < tile ? i + rows - j : tile, n = whole_vectors(seen);
            pack_rows((matrix){queries, width}, h->q + i * stride, stride, rows, D);
            pack_rows((matrix){douts, width}, dy + i * h->y_stride, h->y_stride, rows, D);
            product((matrix){p, KEYS}, queries, width, 1, (matrix){keys_t, KEYS}, rows, n, D,
                    false);
            product((matrix){ds, KEYS}, douts, width, 1, (matrix){values_t, KEYS}, rows, n, D,
                    false);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t visible = i + r - j + 1 < tile ? i + r - j + 1 : tile;
                const float delta = row_dot(douts + r * width, y + (i + r) * h->y_stride, D);
                score_gradients(p + r * KEYS, ds + r * KEYS, n, visible, lse[i + r], delta,
                                h->scale);
            }
            product((matrix){dvalues, width}, p, 1, KEYS, (matrix){douts, width}, seen, width, rows,
                    true);
            product((matrix){dkeys, width}, ds, 1, KEYS, (matrix){queries, width}, seen, width,
                    rows, true);
            product((matrix){dqueries, width}, ds, KEYS, 1, (matrix){keys, width}, rows, width,
                    seen, false);
            for (int64_t r = 0; r < rows && j > 0; r++)
                row_axpy(dqueries + r * width, dq + (i + r) * stride, 1.0f, D);
            unpack_rows(dq + i * stride, stride, (matrix){dqueries, width}, rows, D);
        }
        unpack_rows(dk + j * stride, stride, (matrix){dkeys, width}, tile, D);
        unpack_rows(dv + j * stride, stride, (matrix){dvalues, width}, tile, D);
    }
}

#endif
