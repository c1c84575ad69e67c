/* Gemms in tiles of registers; what they compute: vec.h. Included by vec.c alone.
 *
 * A tile of TILE_ROWS rows and TILE_VECTORS vectors holds its sums in registers while it runs along
 * k: TILE_VECTORS loads and TILE_ROWS broadcasts feed TILE_ROWS * TILE_VECTORS multiply-adds, which
 * keeps the multipliers busy as long as b comes from the first two caches. Each sum is one chain
 * over k, so how a gemm is cut into tiles cannot change a bit. */
#ifndef SWT_CPU_VEC_GEMM_H
#define SWT_CPU_VEC_GEMM_H

#include "kernels/cpu/vec/tile.h"
#include "kernels/cpu/vec/vec.h"

enum { TILE_ROWS = 6 };
#if LANES == 16
enum { TILE_VECTORS = 4 }; /* 24 sums in 32 registers */
#else
enum { TILE_VECTORS = 2 }; /* 12 sums in 16 registers */
#endif

/* Loops over a tile's vectors, unrolled so that the tile stays in registers, and the lanes of
 * vector j that count. */
#define FOR_VECTORS(j) _Pragma("GCC unroll 4") for (int j = 0; j < vectors; j++)
#define FOR_TILE(i, j) _Pragma("GCC unroll 6") for (int i = 0; i < rows; i++) FOR_VECTORS (j)
#define WIDTH(j)       ((j) + 1 < vectors ? LANES : last)

/* Where the first element of a tile and of what goes into it stand. */
typedef struct tile_places {
    float *out;
    const float *a, *b, *start, *bias, *mask, *residual;
} tile_places;

static inline tile_places places_of(const swt_vec_gemm *p, int64_t row, int64_t column) {
    const int64_t at = row * p->out_row + column;
    return (tile_places){
        .out = p->out + at,
        .a = p->a + row * p->a_row,
        .b = p->b + column,
        .start = p->start ? p->start + row * p->start_row + column : NULL,
        .bias = p->bias ? p->bias + column : NULL,
        .mask = p->mask ? p->mask + at : NULL,
        .residual = p->residual ? p->residual + at : NULL,
    };
}

/* A tile of rows x vectors, its last vector `last` columns wide. */
static inline __attribute__((always_inline)) void gemm_tile(const int rows, const int vectors,
                                                            const int64_t last,
                                                            const swt_vec_gemm *p, int64_t row,
                                                            int64_t column) {
    const tile_places t = places_of(p, row, column);
    const int64_t out_row = p->out_row, a_row = p->a_row, a_col = p->a_col, b_row = p->b_row;
    const float *a = t.a, *b = t.b;
    vf sum[TILE_ROWS][TILE_VECTORS];
    FOR_TILE (i, j) {
        sum[i][j] = (vf){0};
        __builtin_prefetch(t.out + i * out_row + j * LANES, 1); /* it comes while the sums run */
    }
    for (int64_t l = p->k; l > 0; l--) {
        vf of_b[TILE_VECTORS];
        FOR_VECTORS (j)
            of_b[j] = load(b + j * LANES, WIDTH(j));
        FOR_TILE (i, j)
            sum[i][j] += a[i * a_row] * of_b[j];
        a += a_col;
        b += b_row;
    }
    if (t.start != NULL)
        FOR_TILE (i, j)
            sum[i][j] += load(t.start + i * p->start_row + j * LANES, WIDTH(j));
    if (t.bias != NULL)
        FOR_TILE (i, j)
            sum[i][j] += load(t.bias + j * LANES, WIDTH(j));
    if (p->relu)
        FOR_TILE (i, j)
            sum[i][j] = max_of((vf){0}, sum[i][j]);
    if (t.mask != NULL)
        FOR_TILE (i, j)
            sum[i][j] =
                blend(load(t.mask + i * out_row + j * LANES, WIDTH(j)) <= 0.0f, (vf){0}, sum[i][j]);
    if (t.residual != NULL)
        FOR_TILE (i, j)
            sum[i][j] += load(t.residual + i * out_row + j * LANES, WIDTH(j));
    FOR_TILE (i, j)
        store(t.out + i * out_row + j * LANES, sum[i][j], WIDTH(j));
}

/* One strip of columns. */
static inline __attribute__((always_inline)) void
gemm_strip(const int vectors, const int64_t last, const swt_vec_gemm *p, int64_t column) {
    int64_t row = 0;
    for (; row + TILE_ROWS <= p->rows; row += TILE_ROWS)
        gemm_tile(TILE_ROWS, vectors, last, p, row, column);
    switch (p->rows - row) {
    case 5:
        gemm_tile(5, vectors, last, p, row, column);
        break;
    case 4:
        gemm_tile(4, vectors, last, p, row, column);
        break;
    case 3:
        gemm_tile(3, vectors, last, p, row, column);
        break;
    case 2:
        gemm_tile(2, vectors, last, p, row, column);
        break;
    case 1:
        gemm_tile(1, vectors, last, p, row, column);
        break;
    default:
        break;
    }
}

static void block_gemm(const swt_vec_gemm *p) {
    int64_t column = 0;
    for (; column + TILE_VECTORS * LANES <= p->columns; column += TILE_VECTORS * LANES)
        gemm_strip(TILE_VECTORS, LANES, p, column);
    for (; column < p->columns; column += LANES)
        gemm_strip(1, p->columns - column < LANES ? p->columns - column : LANES, p, column);
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
            transpose(block);
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
