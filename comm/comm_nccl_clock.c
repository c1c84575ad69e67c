#include "comm/comm_nccl_clock.h"

#include <stdlib.h>

static nccl_span *span_of(const nccl_clock *clock, int i) {
    return &clock->spans[(clock->first + i) % clock->capacity];
}

double nccl_clock_count(nccl_clock *clock) {
    double sum_ms = 0.0;
    while (clock->count > 0) {
        const nccl_span *s = span_of(clock, 0);
        if (cudaEventQuery(s->end) != cudaSuccess) {
            (void)cudaGetLastError(); /* or the next launch would report "not ready" */
            break;
        }
        float ms = 0.0f;
        if (cudaEventElapsedTime(&ms, s->begin, s->end) == cudaSuccess)
            sum_ms += (double)ms;
        clock->first = (clock->first + 1) % clock->capacity;
        clock->count--;
    }
    return sum_ms;
}

static cudaError_t create(nccl_span *s) {
    cudaError_t code = cudaEventCreate(&s->begin);
    if (code != cudaSuccess)
        return code;
    code = cudaEventCreate(&s->end);
    if (code != cudaSuccess)
        (void)cudaEventDestroy(s->begin);
    return code;
}

static cudaError_t grow(nccl_clock *clock) {
    const int capacity = 2 * clock->capacity + 16;
    nccl_span *grown = calloc((size_t)capacity, sizeof *grown);
    if (grown == NULL)
        return cudaErrorMemoryAllocation;
    for (int i = 0; i < clock->capacity; i++)
        grown[i] = *span_of(clock, i);
    free(clock->spans);
    clock->spans = grown;
    clock->first = 0;
    while (clock->capacity < capacity) {
        const cudaError_t code = create(&grown[clock->capacity]);
        if (code != cudaSuccess)
            return code;
        clock->capacity++;
    }
    return cudaSuccess;
}

cudaError_t nccl_clock_begin(nccl_clock *clock, cudaStream_t stream) {
    if (clock->count == clock->capacity) {
        const cudaError_t code = grow(clock);
        if (code != cudaSuccess)
            return code;
    }
    return cudaEventRecord(span_of(clock, clock->count)->begin, stream);
}

cudaError_t nccl_clock_end(nccl_clock *clock, cudaStream_t stream) {
    const cudaError_t code = cudaEventRecord(span_of(clock, clock->count)->end, stream);
    if (code == cudaSuccess)
        clock->count++;
    return code;
}

void nccl_clock_fini(nccl_clock *clock) {
    for (int i = 0; i < clock->capacity; i++) {
        (void)cudaEventDestroy(clock->spans[i].begin);
        (void)cudaEventDestroy(clock->spans[i].end);
    }
    free(clock->spans);
    *clock = (nccl_clock){0};
}
