#include "bench/machine.h"

#include "base/clock.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 12, ROUNDS = 400000, TRIALS = 9 };
enum { COPY_BYTES = 128 << 20 };

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

double machine_product_gflops(int threads) {
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

double machine_copy_gbps(int threads) {
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
