/* Dropout: a thread makes four draws for 16 numbers, 4 neighbours in each 16 of a group of 64. */
#include "kernels/cuda/experts.h"
#include "kernels/cuda/wide.cuh"
#include "kernels/dropout_experts.h"

enum { THREADS = 256 };

/* WIDE: rows can be cut into vectors of 4. */
template <typename T, bool WIDE>
static __global__ void drop(const swt_step_state *state, swt_dropout_args a, int64_t threads) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, C = a.dims.C;
    if (i >= threads)
        return;
    const int64_t of_row = swt_dropout_draws(C) / 4, row = i / of_row, block = row / a.dims.rows;
    const int64_t number = block / a.dims.sources * a.dims.expert_step +
                           block % a.dims.sources * a.dims.source_step + row % a.dims.rows;
    const uint32_t draw = (uint32_t)(i % of_row * 4);
    swt_rng_u32x4 words[4];
#pragma unroll
    for (int l = 0; l < 4; l++)
        words[l] = swt_dropout_words(&a.mask, state, a.mask.first + (uint32_t)number, draw + l);
    const int64_t first = draw / SWT_DROPOUT_DRAWS * SWT_DROPOUT_GROUP + draw % SWT_DROPOUT_DRAWS;
    const T *const x = (const T *)a.x + row * C, *const residual = (const T *)a.residual + row * C;
    T *const y = (T *)a.y + row * C;
#pragma unroll
    for (int w = 0; w < 4; w++) {
        const int64_t at = first + w * SWT_DROPOUT_DRAWS;
        float v[4] = {}, r[4] = {};
        for (int l = 0; l < 4 && !WIDE; l++)
            if (at + l < C) {
                v[l] = to_float(x[at + l]);
                r[l] = a.residual != NULL ? to_float(residual[at + l]) : 0;
            }
        if (WIDE && at < C) {
            load_wide(v, x + at);
            if (a.residual != NULL)
                load_wide(r, residual + at);
        }
        for (int l = 0; l < 4; l++) {
            v[l] = words[l].v[w] >= a.mask.limit ? v[l] * a.mask.scale : 0;
            if (a.residual != NULL)
                v[l] += r[l];
        }
        if (WIDE && at < C)
            store_wide(y + at, v);
        for (int l = 0; l < 4 && !WIDE; l++)
            if (at + l < C)
                y[at + l] = from_float<T>(v[l]);
    }
}

swt_status swt_cuda_dropout(const swt_ctx *c, const swt_dropout_args *a) {
    const int64_t threads = a->dims.blocks * a->dims.rows * swt_dropout_draws(a->dims.C) / 4;
    if (threads == 0)
        return SWT_OK;
    return by_type(c, [&](auto as) {
        typedef typename decltype(as)::type T;
        const auto kernel = a->dims.C % 4 == 0 ? drop<T, true> : drop<T, false>;
        return SWT_LAUNCH(kernel, blocks_of(threads, THREADS), THREADS, 0, swt_cuda_stream(c),
                          c->state, *a, threads);
    });
}

swt_status swt_cuda_drop_hidden(const swt_ctx *c, void *x, const swt_moe_dims *d) {
    const swt_dropout_args a = swt_dropout_of_experts(x, NULL, d);
    return d->dropout.limit > 0 ? swt_cuda_dropout(c, &a) : SWT_OK;
}
