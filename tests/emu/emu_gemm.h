/* The arithmetic of the emulated cuBLASLt: a product of two matrices in column-major order. */
#ifndef SWT_EMU_GEMM_H
#define SWT_EMU_GEMM_H

#include "base/dtype.h"

#include <stdbool.h>
#include <stdint.h>

/* A matrix in memory; op(matrix) is its transpose where transposed. */
typedef struct swt_emu_matrix {
    const void *data;
    int64_t ld;
    bool bf16; /* else float */
    bool transposed;
} swt_emu_matrix;

/* How many columns of sums swt_emu_gemm makes at a time, and the floats it needs beside them. */
enum { SWT_EMU_GEMM_COLUMNS = 96, SWT_EMU_GEMM_SCRATCH = 98304, SWT_EMU_GEMM_STEPS = 256 };

static inline float swt_emu_element(const void *data, bool bf16, int64_t i) {
    return bf16 ? swt_bf16_to_float(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

/* sums(m, n), column-major with ld m, = op(a) op(b), with n <= SWT_EMU_GEMM_COLUMNS: columns
 * first ... first + n - 1 of the whole product. Each sum is a chain over k in blocks of most_steps
 * (SWT_EMU_GEMM_STEPS at most), the blocks added in order: it depends on k and them alone. */
void swt_emu_gemm(float *sums, float *scratch, const swt_emu_matrix *a, const swt_emu_matrix *b,
                  int64_t m, int64_t first, int64_t n, int64_t k, int64_t most_steps);

#endif
