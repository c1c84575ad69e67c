/* Where the CUDA router's pieces of scratch lie. Plain C without CUDA: the size of the scratch is
 * the same in every build (kernels/ops_moe.c). */
#ifndef SWT_CUDA_ROUTER_H
#define SWT_CUDA_ROUTER_H

#include "base/checked.h"
#include "kernels/swt_ops.h"

enum { SWT_CUDA_ROUTER_INPUTS = 4096 }; /* tokens whose input is widened and jittered at a time */

/* Offsets in bytes, multiples of 64. */
typedef struct swt_cuda_router_places {
    int64_t input; /* float (SWT_CUDA_ROUTER_INPUTS or N, C): the router's input, forward too */
    int64_t dz;    /* float (N, E) */
    int64_t bytes;
} swt_cuda_router_places;

typedef struct swt_cuda_assign_places {
    int64_t word;  /* uint32_t (N): what comes first is kept */
    int64_t bound; /* uint32_t (G, E): words below it are kept, */
    int64_t ties;  /* int32_t (G, E): and as many that equal it */
    int64_t bytes;
} swt_cuda_assign_places;

static inline int64_t swt_cuda_router_place(int64_t *end, int64_t bytes) {
    const int64_t at = *end;
    *end += (bytes + 63) / 64 * 64;
    return at;
}

static inline swt_cuda_router_places swt_cuda_router_scratch(const swt_moe_dims *d) {
    swt_cuda_router_places p;
    const int64_t bytes = (int64_t)sizeof(float);
    p.bytes = 0;
    p.input = swt_cuda_router_place(&p.bytes, swt_min(d->N, SWT_CUDA_ROUTER_INPUTS) * d->C * bytes);
    p.dz = swt_cuda_router_place(&p.bytes, d->N * d->E * bytes);
    return p;
}

static inline swt_cuda_assign_places swt_cuda_assign_scratch(const swt_moe_dims *d) {
    swt_cuda_assign_places p;
    const int64_t bytes = (int64_t)sizeof(uint32_t);
    p.bytes = 0;
    p.word = swt_cuda_router_place(&p.bytes, d->N * bytes);
    p.bound = swt_cuda_router_place(&p.bytes, d->G * d->E * bytes);
    p.ties = swt_cuda_router_place(&p.bytes, d->G * d->E * bytes);
    return p;
}

static inline int64_t swt_cuda_router_scratch_bytes(const swt_moe_dims *d) {
    return swt_max(swt_cuda_router_scratch(d).bytes, swt_cuda_assign_scratch(d).bytes);
}

#endif
