#include "tests/emu/emu_gemm.h"

#include <string.h>

/* A tile of sums in registers is ROWS x COLUMNS; b's panel of SWT_EMU_GEMM_STEPS x
 * SWT_EMU_GEMM_COLUMNS and a's of BLOCK_ROWS x SWT_EMU_GEMM_STEPS stay in the second-level cache.
 */
enum { LANES = 16, VECTORS = 2, ROWS = LANES * VECTORS, COLUMNS = 6 };
enum { BLOCK_ROWS = 9 * ROWS };
_Static_assert(SWT_EMU_GEMM_COLUMNS % COLUMNS == 0, "whole tiles");
_Static_assert(SWT_EMU_GEMM_SCRATCH >= SWT_EMU_GEMM_STEPS * (BLOCK_ROWS + SWT_EMU_GEMM_COLUMNS),
               "room");

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4)));

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* panel[tile][step][width] = op(x)[at + ., step0 + .] (rows of a), zeros behind the last one; for
 * b the same of its transpose. */
static void pack(float *panel, const swt_emu_matrix *x, bool along_ld, int width, int64_t at,
                 int64_t count, int64_t step0, int64_t steps) {
    for (int64_t tile = 0; tile < count; tile += width) {
        const int64_t here = least(width, count - tile);
        for (int64_t s = 0; s < steps; s++, panel += width) {
            const int64_t start =
                along_ld ? (at + tile) * x->ld + step0 + s : at + tile + (step0 + s) * x->ld;
            const int64_t stride = along_ld ? x->ld : 1;
            for (int64_t i = 0; i < here; i++)
                panel[i] = swt_emu_element(x->data, x->bf16, start + i * stride);
            for (int64_t i = here; i < width; i++)
                panel[i] = 0;
        }
    }
}

/* One tile: sums += a b, or = where first. */
static inline __attribute__((always_inline)) void
tile_body(float *restrict sums, const float *restrict a, const float *restrict b, int64_t steps) {
    vector sum[COLUMNS][VECTORS];
#pragma GCC unroll 6
    for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; i++)
            sum[j][i] = (vector){0};
    for (int64_t s = 0; s < steps; s++, a += ROWS, b += COLUMNS) {
        vector rows[VECTORS];
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; i++)
            rows[i] = *(const vector *)(const void *)(a + i * LANES);
#pragma GCC unroll 6
        for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 2
            for (int i = 0; i < VECTORS; i++)
                sum[j][i] += rows[i] * b[j];
    }
    memcpy(sums, sum, sizeof sum);
}

typedef void (*tile_fn)(float *restrict sums, const float *restrict a, const float *restrict b,
                        int64_t steps);

static void tile_plain(float *restrict sums, const float *restrict a, const float *restrict b,
                       int64_t steps) {
    tile_body(sums, a, b, steps);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void
tile_avx2(float *restrict sums, const float *restrict a, const float *restrict b, int64_t steps) {
    tile_body(sums, a, b, steps);
}

__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"))) static void
tile_avx512(float *restrict sums, const float *restrict a, const float *restrict b, int64_t steps) {
    tile_body(sums, a, b, steps);
}
#endif

static tile_fn choose_tile(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return tile_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return tile_avx2;
#endif
    return tile_plain;
}

/* The tile's sums into theirs. */
static void settle(float *sums, const float *tile, int64_t m, int64_t rows, int64_t columns,
                   bool first) {
    for (int64_t j = 0; j < columns; j++, sums += m, tile += ROWS)
        for (int64_t i = 0; i < rows; i++)
            sums[i] = first ? tile[i] : sums[i] + tile[i];
}

void swt_emu_gemm(float *sums, float *scratch, const swt_emu_matrix *a, const swt_emu_matrix *b,
                  int64_t m, int64_t first, int64_t n, int64_t k, int64_t most_steps) {
    const tile_fn run = choose_tile();
    float *a_panel = scratch, *b_panel = scratch + SWT_EMU_GEMM_STEPS * BLOCK_ROWS,
          tile[COLUMNS * ROWS];
    memset(sums, 0, (size_t)(m * n) * sizeof *sums);
    for (int64_t s = 0; s < k; s += most_steps) {
        const int64_t steps = least(most_steps, k - s);
        pack(b_panel, b, !b->transposed, COLUMNS, first, n, s, steps);
        for (int64_t block = 0; block < m; block += BLOCK_ROWS) {
            const int64_t rows = least(BLOCK_ROWS, m - block);
            pack(a_panel, a, a->transposed, ROWS, block, rows, s, steps);
            for (int64_t j = 0; j < n; j += COLUMNS)
                for (int64_t i = 0; i < rows; i += ROWS) {
                    run(tile, a_panel + i * steps, b_panel + j * steps, steps);
                    settle(sums + block + i + j * m, tile, m, least(ROWS, rows - i),
                           least(COLUMNS, n - j), s == 0);
                }
        }
    }
}
