/* The scratch of the router's operations. Each backend keeps pieces of its own there; the size is
 * the larger need in every build, so that a plan of memory is the same with and without CUDA. */
#ifndef SWT_ROUTER_SCRATCH_H
#define SWT_ROUTER_SCRATCH_H

#include "kernels/scratch.h"
#include "kernels/swt_ops.h"

/* Tokens whose input the GPU widens and jitters at a time. */
enum { SWT_CUDA_ROUTER_INPUTS = 4096 };

/* Offsets in bytes, multiples of 64. What router_assign keeps begins at 0, and so does what the
 * other two keep. */
typedef struct swt_router_scratch {
    struct {
        int64_t dz;       /* float (N, E) */
        int64_t pull;     /* float (G, E + 1) */
        int64_t jittered; /* float (N, C), where the input is jittered */
        int64_t keys;     /* uint64_t (N, k), router_assign */
        int64_t ends;     /* int32_t (G, E), router_assign */
    } cpu;
    struct {
        int64_t input; /* float (SWT_CUDA_ROUTER_INPUTS or N, C) */
        int64_t dz;    /* float (N, E) */
        int64_t word;  /* uint32_t (N), router_assign */
        int64_t bound; /* uint32_t (G, E), router_assign */
        int64_t ties;  /* int32_t (G, E), router_assign */
    } cuda;
    int64_t bytes; /* of all */
} swt_router_scratch;

static inline swt_router_scratch swt_router_scratch_of(const swt_moe_dims *d) {
    enum { FLOAT = sizeof(float), WORD = sizeof(int32_t), KEY = sizeof(uint64_t) };
    int64_t cpu = 0, cpu_assign = 0, cuda = 0, cuda_assign = 0; /* where each ends */
    swt_router_scratch s;
    s.cpu.dz = swt_scratch_piece(&cpu, d->N * d->E * FLOAT);
    s.cpu.pull = swt_scratch_piece(&cpu, d->G * (d->E + 1) * FLOAT);
    s.cpu.jittered = swt_scratch_piece(&cpu, swt_moe_jitters(d) ? d->N * d->C * FLOAT : 0);
    s.cpu.keys = swt_scratch_piece(&cpu_assign, d->N * d->k * KEY);
    s.cpu.ends = swt_scratch_piece(&cpu_assign, d->G * d->E * WORD);
    s.cuda.input = swt_scratch_piece(&cuda, swt_min(d->N, SWT_CUDA_ROUTER_INPUTS) * d->C * FLOAT);
    s.cuda.dz = swt_scratch_piece(&cuda, d->N * d->E * FLOAT);
    s.cuda.word = swt_scratch_piece(&cuda_assign, d->N * WORD);
    s.cuda.bound = swt_scratch_piece(&cuda_assign, d->G * d->E * WORD);
    s.cuda.ties = swt_scratch_piece(&cuda_assign, d->G * d->E * WORD);
    s.bytes = swt_max(swt_max(cpu, cpu_assign), swt_max(cuda, cuda_assign));
    return s;
}

#endif
