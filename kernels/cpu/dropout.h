/* Dropout on the CPU, for the operations that drop numbers of their own. */
#ifndef SWT_CPU_DROPOUT_H
#define SWT_CPU_DROPOUT_H

#include "kernels/cpu/cpu.h"

/* Dropout of a row, counted from the mask's first one. */
swt_vec_dropout swt_cpu_dropout_of(const swt_ctx *c, const swt_dropout_mask *m, int64_t row);

/* Of experts' hidden values, or of their gradient. */
SWT_MUST_CHECK swt_status swt_cpu_drop_hidden(const swt_ctx *c, void *x, const int32_t *counts,
                                              const swt_moe_dims *d);

#endif
