/* Time on the GPU: when calls began and ended on a stream, without waiting for them. */
#ifndef SWT_COMM_NCCL_CLOCK_H
#define SWT_COMM_NCCL_CLOCK_H

#include <cuda_runtime_api.h>

typedef struct nccl_span {
    cudaEvent_t begin, end;
} nccl_span;

typedef struct nccl_clock {
    nccl_span *spans; /* a ring: the calls that are not counted yet, oldest first */
    int capacity, first, count;
} nccl_clock;

/* A call begins here on the stream. Allocates when more calls are under way than ever before, so
 * only in the first steps of a run. */
cudaError_t nccl_clock_begin(nccl_clock *clock, cudaStream_t stream);

/* The call begun last ends here. */
cudaError_t nccl_clock_end(nccl_clock *clock, cudaStream_t stream);

/* Milliseconds of the calls that are done and that were not counted before. */
double nccl_clock_count(nccl_clock *clock);

void nccl_clock_fini(nccl_clock *clock);

#endif
