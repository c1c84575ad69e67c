/* CUDA C++ as plain C++: the compiler reads this before each .cu file of the emulated platform. A
 * kernel is a function that the scheduler (emu_sched.c) calls once for every thread. */
#ifndef SWT_CUDA_EMU_H
#define SWT_CUDA_EMU_H

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <type_traits>
#include <vector_functions.h>

#include "tests/emu/emu_sched.h"

/* -- words of the language -------------------------------------------------------------------- */

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ static
#define __shared__   static /* shared.ld gathers what is static in functions */

#define threadIdx (swt_emu_self.index)
#define blockIdx  swt_emu_block
#define blockDim  swt_emu_block_dim
#define gridDim   swt_emu_grid_dim
static constexpr int warpSize = 32;

#define SWT_DYNAMIC_SHARED(type, name)                                                             \
    type *const name = static_cast<type *>(swt_emu_dynamic_shared)

/* -- launches --------------------------------------------------------------------------------- */

/* Arguments become the kernel's parameters at the launch; each thread gets a copy of them. */
template <typename... P> struct swt_emu_arguments {
    void (*kernel)(P...);
    std::tuple<P...> parameters;

    static void call(const void *data) {
        const auto *const a = static_cast<const swt_emu_arguments *>(data);
        std::apply(a->kernel, a->parameters);
    }
};

template <typename... P, typename... A>
void swt_emu_start(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, void (*kernel)(P...), const A &...arguments) {
    static_assert(sizeof...(P) == sizeof...(A), "the kernel takes another number of arguments");
    static_assert((std::is_trivially_copyable_v<P> && ...), "kernels take plain values");
    const swt_emu_arguments<P...> a = {kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
    const swt_emu_kernel k = {name, swt_emu_arguments<P...>::call, grid, block, shared_bytes};
    swt_emu_launch(&k, &a, sizeof a, stream);
}

#define SWT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                 \
    ((void)cudaGetLastError(),                                                                     \
     swt_emu_start(#kernel, (grid), (block), (shared_bytes), (stream), kernel, __VA_ARGS__),       \
     swt_cuda_launched(#kernel, __FILE__, __LINE__))

/* -- barriers and warps ----------------------------------------------------------------------- */

#define SWT_EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(SWT_EMU_HERE) {
    (void)swt_emu_sync_block(0, file, line);
}

static inline int __syncthreads_count(int predicate, SWT_EMU_HERE) {
    return swt_emu_sync_block(predicate, file, line);
}

static inline int __syncthreads_or(int predicate, SWT_EMU_HERE) {
    return swt_emu_sync_block(predicate, file, line) > 0;
}

static inline int __syncthreads_and(int predicate, SWT_EMU_HERE) {
    return swt_emu_sync_block(predicate == 0, file, line) == 0;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, SWT_EMU_HERE) {
    (void)swt_emu_sync_warp("__syncwarp", mask, 0, true, file, line);
}

/* The value that lane `from` gives; a lane outside the part of `width` lanes gets its own. */
template <typename T>
static inline T swt_emu_shuffle(const char *name, unsigned mask, T value, int from, bool inside,
                                const char *file, int line) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t),
                  "a plain value");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    const uint64_t *const lanes = swt_emu_sync_warp(name, mask, bits, false, file, line);
    if (inside) {
        bits = lanes[from];
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, SWT_EMU_HERE) {
    const int lane = swt_emu_self.lane, part = lane / width * width;
    return swt_emu_shuffle("__shfl_sync", mask, value, part + (from & (width - 1)), true, file,
                           line);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, SWT_EMU_HERE) {
    const int lane = swt_emu_self.lane, from = lane ^ with, end = (lane / width + 1) * width;
    return swt_emu_shuffle("__shfl_xor_sync", mask, value, from, from < end, file, line);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, SWT_EMU_HERE) {
    const int lane = swt_emu_self.lane, from = lane - static_cast<int>(by);
    return swt_emu_shuffle("__shfl_up_sync", mask, value, from, from >= lane / width * width, file,
                           line);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                                 SWT_EMU_HERE) {
    const int lane = swt_emu_self.lane, from = lane + static_cast<int>(by);
    return swt_emu_shuffle("__shfl_down_sync", mask, value, from, from < (lane / width + 1) * width,
                           file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, SWT_EMU_HERE) {
    const uint64_t *const lanes =
        swt_emu_sync_warp("a vote", mask, predicate != 0, false, file, line);
    unsigned votes = 0;
    for (int i = 0; i < 32; i++)
        votes |= static_cast<unsigned>(lanes[i]) << i;
    return votes;
}

static inline int __any_sync(unsigned mask, int predicate, SWT_EMU_HERE) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, SWT_EMU_HERE) {
    return __ballot_sync(mask, predicate, file, line) == 0xffffffffu;
}

/* -- atomics: on integers only, results must not depend on an order ---------------------------- */

#define SWT_EMU_ATOMICS(T)                                                                         \
    static inline T atomicAdd(T *to, T x) {                                                        \
        return __atomic_fetch_add(to, x, __ATOMIC_RELAXED);                                        \
    }                                                                                              \
    static inline T atomicOr(T *to, T x) {                                                         \
        return __atomic_fetch_or(to, x, __ATOMIC_RELAXED);                                         \
    }                                                                                              \
    static inline T atomicExch(T *to, T x) {                                                       \
        return __atomic_exchange_n(to, x, __ATOMIC_RELAXED);                                       \
    }                                                                                              \
    static inline T atomicMax(T *to, T x) {                                                        \
        T old = __atomic_load_n(to, __ATOMIC_RELAXED);                                             \
        while (old < x && !__atomic_compare_exchange_n(to, &old, x, false, __ATOMIC_RELAXED,       \
                                                       __ATOMIC_RELAXED))                          \
            ;                                                                                      \
        return old;                                                                                \
    }
SWT_EMU_ATOMICS(int)
SWT_EMU_ATOMICS(unsigned)
SWT_EMU_ATOMICS(unsigned long long)
#undef SWT_EMU_ATOMICS

/* -- functions that the device has and C has not ----------------------------------------------- */

static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}

#endif
