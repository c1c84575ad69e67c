#include "base/clock.h"
#include "kernels/cpu/cpu.h"

#include <omp.h>

swt_status swt_cpu_run_parts(const swt_ctx *c, int64_t parts, swt_cpu_part_fn run,
                             const void *args) {
    swt_error failed; /* a thread's record does not outlive the region: keep one here */
    failed.status = SWT_OK;
    const double start_ms = swt_now_ms();
    double threads = 0.0, busy_ms = 0.0; /* sums over the threads that came */
#pragma omp parallel num_threads(c->device->threads) reduction(+ : threads, busy_ms)
    {
        const double came_ms = swt_now_ms();
        /* oneDNN asks OpenMP for its threads, and a region of one thread does not count as
         * parallel. */
        omp_set_num_threads(1);
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t part = 0; part < parts; part++)
            if (run(args, part) != SWT_OK) {
#pragma omp critical(swt_cpu_run_parts_failed)
                failed = *swt_last_error();
            }
        threads += 1.0;
        busy_ms += swt_now_ms() - came_ms;
    }
    c->device->idle_ms += threads * (swt_now_ms() - start_ms) - busy_ms;
    if (failed.status != SWT_OK)
        *swt_last_error() = failed;
    return failed.status;
}
