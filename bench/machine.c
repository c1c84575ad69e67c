#include "bench/machine.h"
#include "kernels/swt_ops.h"

#include "base/clock.h"
#include "base/words.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 12, ROUNDS = 400000, TRIALS = 9 };
enum { COPY_BYTES = 128 << 20, SIDE_LEAST = 256, SIDE_MOST = 8192, QUEUED = 8, ENOUGH_MS = 2 };

/* A chain waits for its own last result, so it takes several to keep the units busy: twelve are
 * more than the latency times the units of any processor today and still fit 16 registers. The
 * result keeps the compiler from leaving them out. */
#define DEFINE_CHAINS(name, bytes, attribute)                                                      \
    attribute static float name(void) {                                                            \
        typedef float vector __attribute__((vector_size(bytes)));                                  \
        vector chain[CHAINS];                                                                      \
        for (int i = 0; i < CHAINS; i++)                                                           \
            chain[i] = (vector){0} + (float)i;                                                     \
        const vector a = (vector){0} + 0.999f, b = (vector){0} + 0.001f;                           \
        for (int r = 0; r < ROUNDS; r++) {                                                         \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) chain[i] = chain[i] * a + b; \
        }                                                                                          \
        for (int i = 1; i < CHAINS; i++)                                                           \
            chain[0] += chain[i];                                                                  \
        return chain[0][0];                                                                        \
    }

DEFINE_CHAINS(chains_plain, 16, )
#if defined(__x86_64__)
DEFINE_CHAINS(chains_avx2, 32, __attribute__((target("avx2,fma"))))
DEFINE_CHAINS(chains_avx512, 64, __attribute__((target("avx512f"))))
#endif

typedef struct kernel {
    float (*run)(void);
    int lanes;
} kernel;

static kernel widest(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return (kernel){chains_avx512, 16};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (kernel){chains_avx2, 8};
#endif
    return (kernel){chains_plain, 4};
}

static double cpu_product_gflops(int threads) {
    const kernel k = widest();
    double best_ms = 1e300;
    float kept = 0.0f;
    for (int trial = 0; trial < TRIALS; trial++) {
        const double start_ms = swt_now_ms();
#pragma omp parallel num_threads(threads) reduction(+ : kept)
        kept += k.run();
        const double ms = swt_now_ms() - start_ms;
        best_ms = ms < best_ms ? ms : best_ms;
    }
    if (kept < 0.0f) /* never: all terms are positive */
        return 0.0;
    return 2.0 * CHAINS * ROUNDS * k.lanes * threads / best_ms * 1e-6;
}

static double cpu_copy_gbps(int threads) {
    unsigned char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
    double best_ms = 1e300;
    for (int trial = 0; trial < TRIALS && from != NULL && to != NULL; trial++) {
        if (trial == 0) /* touch all pages first */
            memset(from, 1, COPY_BYTES), memset(to, 0, COPY_BYTES);
        const double start_ms = swt_now_ms();
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int t = 0; t < threads; t++) {
            const size_t first = (size_t)COPY_BYTES * (size_t)t / (size_t)threads,
                         end = (size_t)COPY_BYTES * ((size_t)t + 1) / (size_t)threads;
            memcpy(to + first, from + first, end - first);
        }
        const double ms = swt_now_ms() - start_ms;
        best_ms = ms < best_ms ? ms : best_ms;
    }
    free(from);
    free(to);
    return best_ms < 1e300 ? 2.0 * COPY_BYTES / best_ms * 1e-6 : 0.0;
}

/* The least time of one of QUEUED pieces of work, which `queue` queues on the device. */
static swt_status least_ms(const swt_ctx *c, void *const memory[3], int64_t size,
                           swt_status (*queue)(const swt_ctx *, void *const[3], int64_t),
                           double *out) {
    *out = 1e300;
    for (int trial = -1; trial < TRIALS; trial++) { /* -1: warm-up */
        const double start_ms = swt_now_ms();
        const int queued = trial < 0 ? 1 : QUEUED;
        for (int i = 0; i < queued; i++)
            SWT_TRY(queue(c, memory, size));
        SWT_TRY(swt_stream_sync(c->device, c->stream));
        const double ms = (swt_now_ms() - start_ms) / queued;
        if (trial >= 0 && ms < *out)
            *out = ms;
    }
    return SWT_OK;
}

static swt_status queue_gemm(const swt_ctx *c, void *const memory[3], int64_t side) {
    return swt_linear_forward(
        c, &(swt_linear_forward_args){
               .y = memory[0], .x = memory[1], .w = memory[2], .N = side, .in = side, .out = side});
}

static swt_status queue_copy(const swt_ctx *c, void *const memory[3], int64_t bytes) {
    return swt_device_copy(c->device, c->stream, SWT_ON_DEVICE, memory[0], memory[1],
                           (size_t)bytes);
}

/* Numbers of many bits, for zeros would cost a GPU less power than work does, and let it run
 * faster: of [1, 2) as F32, below 2 as BF16. */
static swt_status fill(const swt_ctx *c, void *const memory[3], size_t bytes) {
    uint32_t *words = malloc(bytes);
    if (words == NULL)
        return SWT_FAIL(MEMORY, "machine: no room for %zu bytes", bytes);
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        words[i] = 0x3F800000u | (((uint32_t)i * 2654435761u >> 8) & 0x7F3FFFu);
    swt_status status = swt_device_copy(c->device, NULL, SWT_TO_DEVICE, memory[1], words, bytes);
    if (status == SWT_OK)
        status = swt_device_copy(c->device, NULL, SWT_TO_DEVICE, memory[2], words, bytes);
    free(words);
    return status;
}

/* Time work on three pieces of the device's memory. */
static swt_status measure_queued(const swt_ctx *c, size_t bytes, int64_t size,
                                 swt_status (*queue)(const swt_ctx *, void *const[3], int64_t),
                                 double *ms) {
    void *memory[3] = {NULL};
    swt_status status = SWT_OK;
    for (int i = 0; i < 3 && status == SWT_OK; i++)
        status = swt_device_alloc(c->device, &memory[i], bytes);
    if (status == SWT_OK)
        status = fill(c, memory, bytes);
    if (status == SWT_OK)
        status = least_ms(c, memory, size, queue, ms);
    for (int i = 0; i < 3; i++)
        swt_device_release(c->device, memory[i]);
    return status;
}

/* Gemms of growing size, until one takes so long that the device is busy. */
static swt_status measure_device(const swt_ctx *c, machine *out) {
    double ms = 0.0;
    snprintf(out->name, sizeof out->name, "%s", c->device->table->name);
    SWT_TRY(measure_queued(c, COPY_BYTES, COPY_BYTES, queue_copy, &ms));
    out->copy_gbps = 2.0 * COPY_BYTES / ms * 1e-6;
    ms = 0.0;
    for (int64_t side = SIDE_LEAST; side <= SIDE_MOST && ms < ENOUGH_MS; side *= 2) {
        const double n = (double)side;
        SWT_TRY(measure_queued(c, (size_t)(side * side) * swt_dtype_bytes(c->dtype), side,
                               queue_gemm, &ms));
        const double gflops = 2.0 * n * n * n / ms * 1e-6;
        out->product_gflops = gflops > out->product_gflops ? gflops : out->product_gflops;
    }
    return SWT_OK;
}

swt_status machine_measure(const swt_ctx *c, machine *out) {
    const int threads = c->device->threads;
    *out = (machine){.product_gflops = 0.0};
    if (c->device->table->queues)
        return measure_device(c, out);
    snprintf(out->name, sizeof out->name, "machine, %d thread%s", threads, swt_plural(threads));
    out->product_gflops = cpu_product_gflops(threads);
    out->copy_gbps = cpu_copy_gbps(threads);
    return SWT_OK;
}
