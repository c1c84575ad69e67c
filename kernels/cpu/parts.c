#include "base/clock.h"
#include "kernels/cpu/cpu.h"

#include <omp.h>

void *swt_cpu_scratch(const swt_ctx *c) {
    const swt_cpu_own *own = c->device->own;
    return own->scratch + (size_t)omp_get_thread_num() * SWT_SCRATCH_BYTES;
}

void swt_cpu_run(const swt_ctx *c, int64_t parts, swt_cpu_part_fn run, const void *args) {
    /* One thread needs no region: starting one takes longer than a small operation. */
    if (c->device->threads == 1 || parts <= 1) {
        for (int64_t part = 0; part < parts; part++)
            run(c, args, part);
        return;
    }
    const double start_ms = swt_now_ms();
    double threads = 0.0, busy_ms = 0.0; /* sums over the threads that came */
#pragma omp parallel num_threads(c->device->threads) reduction(+ : threads, busy_ms)
    {
        const double came_ms = swt_now_ms();
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t part = 0; part < parts; part++)
            run(c, args, part);
        threads += 1.0;
        busy_ms += swt_now_ms() - came_ms;
    }
    c->device->idle_ms += threads * (swt_now_ms() - start_ms) - busy_ms;
}
