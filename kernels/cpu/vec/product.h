/* Products in tiles of registers; what they compute: vec.h. Included by vec.c alone.
 *
 * A tile of TILE_ROWS rows and TILE_VECTORS vectors holds its sums in registers while it runs along
 * k: TILE_VECTORS loads and TILE_ROWS broadcasts feed TILE_ROWS * TILE_VECTORS multiply-adds, which
 * keeps the multipliers busy as long as b comes from the first two caches. Each sum is one chain
 * over k, so how a product is cut into tiles cannot change a bit. */
#ifndef SWT_CPU_VEC_PRODUCT_H
#define SWT_CPU_VEC_PRODUCT_H

#include "kernels/cpu/vec/lanes.h"
#include "kernels/cpu/vec/vec.h"

enum { TILE_ROWS = 6 };
#if LANES == 16
enum { TILE_VECTORS = 4 }; /* 24 sums in 32 registers */
#else
enum { TILE_VECTORS = 2 }; /* 12 sums in 16 registers */
#endif

/* n of the LANES columns from (row, column) on leave the registers. */
static inline __attribute__((always_inline)) void
product_finish(const swt_vec_product *p, vf sum, int64_t row, int64_t column, int64_t n) {
    const int64_t at = row * p->c_stride + column;
    if (p->start != NULL)
        sum += load(p->start + row * p->start_stride + column, n);
    if (p->bias != NULL)
        sum += load(p->bias + column, n);
    if (p->relu)
        sum = max_of((vf){0}, sum);
    if (p->mask != NULL)
        sum = blend(load(p->mask + at, n) <= 0.0f, (vf){0}, sum);
    if (p->residual != NULL)
        sum += load(p->residual + at, n);
    store(p->c + at, sum, n);
}

/* A tile, n columns wide in its last vector. */
static inline __attribute__((always_inline)) void product_tile(const int rows, const int vectors,
                                                               const swt_vec_product *p,
                                                               int64_t row, int64_t column,
                                                               int64_t n) {
    vf sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = (vf){0};
    const int64_t a_row = p->a_row, a_step = p->a_step, b_step = p->b_step;
    const float *a = p->a + row * a_row, *b = p->b + column;
    for (int64_t l = 0; l < p->k; l++) {
        vf b_row[TILE_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            b_row[j] = load(b + j * LANES, j + 1 < vectors ? LANES : n);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[i][j] += a[i * a_row] * b_row[j];
        a += a_step;
        b += b_step;
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            product_finish(p, sum[i][j], row + i, column + j * LANES, j + 1 < vectors ? LANES : n);
}

/* One strip of columns: `vectors` vectors, the last of n columns. */
static inline __attribute__((always_inline)) void
product_strip(const int vectors, const swt_vec_product *p, int64_t column, int64_t n) {
    int64_t row = 0;
    for (; row + TILE_ROWS <= p->rows; row += TILE_ROWS)
        product_tile(TILE_ROWS, vectors, p, row, column, n);
    switch (p->rows - row) {
    case 5:
        product_tile(5, vectors, p, row, column, n);
        break;
    case 4:
        product_tile(4, vectors, p, row, column, n);
        break;
    case 3:
        product_tile(3, vectors, p, row, column, n);
        break;
    case 2:
        product_tile(2, vectors, p, row, column, n);
        break;
    case 1:
        product_tile(1, vectors, p, row, column, n);
        break;
    default:
        break;
    }
}

static void block_product(const swt_vec_product *p) {
    int64_t column = 0;
    for (; column + TILE_VECTORS * LANES <= p->columns; column += TILE_VECTORS * LANES)
        product_strip(TILE_VECTORS, p, column, LANES);
    for (; column < p->columns; column += LANES)
        product_strip(1, p, column, p->columns - column < LANES ? p->columns - column : LANES);
}

/* LANES x LANES: in step s, lane l of row i and lane l ^ s of row i ^ s change places where exactly
 * one of l and i has bit s. */
#define KEEP_LOW(l, s)   ((l) & (s) ? LANES + ((l) ^ (s)) : (l))
#define KEEP_HIGH(l, s)  ((l) & (s) ? LANES + (l) : ((l) ^ (s)))
#define LANES_4(f, l, s) f(l, s), f((l) + 1, s), f((l) + 2, s), f((l) + 3, s)
#if LANES == 16
#define LANES_ALL(f, s) LANES_4(f, 0, s), LANES_4(f, 4, s), LANES_4(f, 8, s), LANES_4(f, 12, s)
#elif LANES == 8
#define LANES_ALL(f, s) LANES_4(f, 0, s), LANES_4(f, 4, s)
#else
#define LANES_ALL(f, s) LANES_4(f, 0, s)
#endif
#define SWAP_STEP(row, s)                                                                          \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) if ((i & (s)) == 0) {                 \
        const vf low = row[i], high = row[i | (s)];                                                \
        row[i] = __builtin_shufflevector(low, high, LANES_ALL(KEEP_LOW, s));                       \
        row[i | (s)] = __builtin_shufflevector(low, high, LANES_ALL(KEEP_HIGH, s));                \
    }

static inline __attribute__((always_inline)) void transpose_lanes(vf row[LANES]) {
    SWAP_STEP(row, 1)
    SWAP_STEP(row, 2)
#if LANES > 4
    SWAP_STEP(row, 4)
#endif
#if LANES > 8
    SWAP_STEP(row, 8)
#endif
}

static void block_transpose(float *y, int64_t y_stride, const float *x, int64_t x_stride,
                            int64_t rows, int64_t columns) {
    int64_t r = 0;
    for (; r + LANES <= rows; r += LANES) {
        int64_t c = 0;
        for (; c + LANES <= columns; c += LANES) {
            vf block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                block[i] = load(x + (r + i) * x_stride + c, LANES);
            transpose_lanes(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                store(y + (c + i) * y_stride + r, block[i], LANES);
        }
        for (; c < columns; c++)
            for (int64_t i = r; i < r + LANES; i++)
                y[c * y_stride + i] = x[i * x_stride + c];
    }
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            y[c * y_stride + r] = x[r * x_stride + c];
}

#endif
