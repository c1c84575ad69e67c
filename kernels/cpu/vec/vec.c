/* One table of vector code; CMake compiles this file once per instruction set and names the table.
 */
#include "kernels/cpu/vec/vec.h"

#include "kernels/cpu/vec/rows.h"

#include "kernels/cpu/vec/attention.h"
#include "kernels/cpu/vec/gemm.h"
#include "kernels/cpu/vec/update.h"

extern const swt_vec SWT_VEC_TABLE;
const swt_vec SWT_VEC_TABLE = {
    .name = ISA_NAME,
    .dot = row_dot,
    .max = row_max,
    .axpy = row_axpy,
    .scale_add = row_scale_add,
    .scale = row_scale,
    .softmax = row_softmax,
    .column_sum = row_column_sum,
    .norm_forward = row_norm_forward,
    .norm_backward = row_norm_backward,
    .gelu_forward = row_gelu_forward,
    .gelu_backward = row_gelu_backward,
    .dropout = row_dropout,
    .gemm = block_gemm,
    .transpose = block_transpose,
    .adam = update_adam,
    .grad_add = update_grad_add,
    .grad_finish = update_grad_finish,
    .sum_squares = update_sum_squares,
    .factor_squares = update_factor_squares,
    .factored_squares = update_factored_squares,
    .factored_update = update_factored,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
};
