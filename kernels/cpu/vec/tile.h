/* Small gemms, and transposes. Included by vec.c alone.
 *
 * Attention's gemms have few rows and columns and factors for each row, and come one after
 * another on data in the first cache: tiles of 8 rows x 2 vectors. The layers' large ones
 * (gemm.h) have tiles of 6 x 4, which load less for each multiply-add. */
#ifndef SWT_CPU_TILE_H
#define SWT_CPU_TILE_H

#include "base/checked.h"
#include "kernels/cpu/vec/lanes.h"
#include "kernels/swt_ops.h"

#include <stdbool.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* The part of a gemm that stays in registers: ROWS x 2 vectors of sums, beside 2 vectors of the
 * right operand and a broadcast element of the left. Enough sums to hide a multiply-add's latency,
 * and more multiply-adds than loads. */
#if LANES == 16
enum { ROWS = 8 };
#else
enum { ROWS = 4 };
#endif
enum { COLUMNS = 2 * LANES };

typedef struct matrix {
    float *data;
    int64_t row; /* from a row to the next */
} matrix;

/* A matrix to read: element (i, l) is data[i * row + l * column]. */
typedef struct operand {
    const float *data;
    int64_t row, column;
} operand;

static inline int64_t whole_vectors(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* sums (rows, vectors) += a (rows, k) b (k, vectors). The rows of b are contiguous, and their last
 * vector has `last` floats. */
ALWAYS_INLINE void multiply_add(vf sums[][2], const int rows, const int vectors, operand a,
                                operand b, int64_t last, int64_t k) {
    for (int64_t l = 0; l < k; l++) {
        vf row[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            row[v] = load(b.data + l * b.row + v * LANES, v + 1 < vectors ? LANES : last);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[i][v] += a.data[i * a.row + l * a.column] * row[v];
    }
}

/* Rows of n floats. */
static void copy_rows(matrix to, operand from, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i += LANES)
            store(to.data + r * to.row + i, load(from.data + r * from.row + i, n - i), n - i);
}

/* x (rows, n) itself if it has `all` rows, else a copy of it in (all, n), with zeros below. */
static inline operand whole_rows(operand x, int64_t rows, const int all, int64_t n, float copy[]) {
    if (rows >= all)
        return x;
    memset(copy, 0, (size_t)(all * n) * sizeof *copy);
    copy_rows((matrix){copy, n}, x, rows, n);
    return (operand){copy, n, 1};
}

/* out = after (before out + a b), with a factor for each row of out. */
typedef struct gemm {
    matrix out;
    operand a, b;        /* (ROWS, k), (k, n) */
    const float *before; /* (ROWS); NULL: out holds nothing yet */
    const float *after;  /* (ROWS); NULL: ones */
    int64_t rows, n, k;  /* out has min(rows, ROWS) rows; all of a can be read */
} gemm;

/* The columns from j on, `vectors` vectors of them. */
ALWAYS_INLINE void gemm_columns(const gemm p, int64_t j, const int vectors, int64_t last) {
    float copy[ROWS * COLUMNS];
    const matrix out = {p.out.data + j, p.out.row};
    const matrix whole = p.rows < ROWS ? (matrix){copy, COLUMNS} : out; /* with ROWS rows */
    const int64_t n = (vectors - 1) * LANES + last;
    vf sums[ROWS][2] = {{{0}}};
    if (p.before != NULL) {
        if (p.rows < ROWS) {
            memset(copy, 0, sizeof copy);
            copy_rows(whole, (operand){out.data, out.row, 1}, p.rows, n);
        }
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[i][v] = p.before[i] * load(whole.data + i * whole.row + v * LANES,
                                                v + 1 < vectors ? LANES : last);
    }
    multiply_add(sums, ROWS, vectors, p.a, (operand){p.b.data + j, p.b.row, 1}, last, p.k);
    if (p.after != NULL)
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[i][v] *= p.after[i];
    float *row = whole.data;
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++, row += whole.row)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store(row + v * LANES, sums[i][v], v + 1 < vectors ? LANES : last);
    if (p.rows < ROWS)
        copy_rows(out, (operand){copy, COLUMNS, 1}, p.rows, n);
}

static void gemm_rows(const gemm *p) {
    int64_t j = 0;
    for (; j + COLUMNS <= p->n; j += COLUMNS)
        gemm_columns(*p, j, 2, LANES);
    const int64_t left = p->n - j;
    if (left > LANES)
        gemm_columns(*p, j, 2, left - LANES);
    else if (left == LANES)
        gemm_columns(*p, j, 1, LANES);
    else if (left > 0)
        gemm_columns(*p, j, 1, left);
}

/* The lane, in the pair (a, b) of vectors, that lane l of the first or second result takes in the
 * step of a transpose that exchanges lanes s apart: (a, b) are rows r and r + s. */
#define FIRST_LANE(l, s)    ((l) & (s) ? LANES + (l) - (s) : (l))
#define SECOND_LANE(l, s)   ((l) & (s) ? LANES + (l) : (l) + (s))
#define LANES_4(lane, l, s) lane(l, s), lane((l) + 1, s), lane((l) + 2, s), lane((l) + 3, s)
#define LANES_8(lane, l, s) LANES_4(lane, l, s), LANES_4(lane, (l) + 4, s)
#if LANES == 16
#define ALL_LANES(lane, s) LANES_8(lane, 0, s), LANES_8(lane, 8, s)
#elif LANES == 8
#define ALL_LANES(lane, s) LANES_8(lane, 0, s)
#else
#define ALL_LANES(lane, s) LANES_4(lane, 0, s)
#endif
/* Exchanges lanes of the rows a, b. */
#define EXCHANGE(a, b, s)                                                                          \
    do {                                                                                           \
        const vf first = __builtin_shufflevector(a, b, ALL_LANES(FIRST_LANE, s));                  \
        (b) = __builtin_shufflevector(a, b, ALL_LANES(SECOND_LANE, s));                            \
        (a) = first;                                                                               \
    } while (0)

/* The same for all pairs of rows s apart. */
#define EXCHANGE_ROWS(r, s)                                                                        \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) {                                     \
        if (!(i & (s)))                                                                            \
            EXCHANGE((r)[i], (r)[i + (s)], s);                                                     \
    }

ALWAYS_INLINE void transpose(vf r[LANES]) {
#if LANES > 8
    EXCHANGE_ROWS(r, 8)
#endif
#if LANES > 4
    EXCHANGE_ROWS(r, 4)
#endif
    EXCHANGE_ROWS(r, 2)
    EXCHANGE_ROWS(r, 1)
}

/* t (n, LANES) = scale x^T, x (rows, n); zeros where x has fewer than LANES rows. Rows of t are
 * written up to the next multiple of LANES. */
static void pack_transposed(matrix t, operand x, int64_t rows, int64_t n, float scale) {
    float copy[LANES * SWT_HEAD_WIDTH_MAX];
    x = whole_rows(x, rows, LANES, n, copy);
    for (int64_t j = 0; j < n; j += LANES) {
        vf r[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            r[i] = load(x.data + i * x.row + j, n - j) * scale;
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            store(t.data + (j + i) * t.row, r[i], LANES);
    }
}

#endif
