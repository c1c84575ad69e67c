/* The bias by distance: a thread for each number that is written. */
#include "kernels/cuda/wide.cuh"

enum { BIAS_THREADS = 128 };

static __global__ void spread(swt_bias_forward_args a) {
    const int64_t i = (int64_t)blockIdx.x * BIAS_THREADS + threadIdx.x;
    if (i >= a.H * SWT_BIAS_DISTANCES)
        return;
    const int64_t h = i / SWT_BIAS_DISTANCES;
    const int distance = (int)(i % SWT_BIAS_DISTANCES) - SWT_BIAS_REACH;
    a.bias[i] = a.table[swt_bias_bucket(distance, a.both_ways) * a.H + h];
}

swt_status swt_cuda_bias_forward(const swt_ctx *c, const swt_bias_forward_args *a) {
    if (a->H == 0)
        return SWT_OK;
    return SWT_LAUNCH(spread, blocks_of(a->H * SWT_BIAS_DISTANCES, BIAS_THREADS), BIAS_THREADS, 0,
                      swt_cuda_stream(c), *a);
}

static __global__ void gather(swt_bias_backward_args a) {
    const int64_t i = (int64_t)blockIdx.x * BIAS_THREADS + threadIdx.x;
    if (i >= SWT_BIAS_BUCKETS * a.H)
        return;
    const int64_t bucket = i / a.H, h = i % a.H;
    float sum = 0;
    for (int r = 0; r < SWT_BIAS_DISTANCES; r++)
        if (swt_bias_bucket(r - SWT_BIAS_REACH, a.both_ways) == bucket)
            sum += a.dbias[h * SWT_BIAS_DISTANCES + r];
    a.dtable[i] = sum;
}

swt_status swt_cuda_bias_backward(const swt_ctx *c, const swt_bias_backward_args *a) {
    if (a->H == 0)
        return SWT_OK;
    return SWT_LAUNCH(gather, blocks_of(SWT_BIAS_BUCKETS * a->H, BIAS_THREADS), BIAS_THREADS, 0,
                      swt_cuda_stream(c), *a);
}
