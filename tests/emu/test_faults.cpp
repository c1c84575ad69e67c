/* Planted faults: each must be found, by the build that is there to find it. A fault runs in a
 * process of its own, which must end with the report.
 *
 * The parent itself runs nothing: ThreadSanitizer sees little after a fork of a process that has
 * threads, which fibers are to it.
 *
 * Every build finds divergent barriers, reads of GPU memory by the host, host calls in a step, and
 * shows wrong values for what is read before it is written or ordered; AddressSanitizer finds what
 * is out of bounds; ThreadSanitizer finds what is not ordered, whatever the values. */
#include "kernels/cuda/block.cuh"

#include "tests/emu/bed.h"

#if defined(__SANITIZE_ADDRESS__)
static const bool asan = true, tsan = false;
#elif defined(__SANITIZE_THREAD__)
static const bool asan = false, tsan = true;
#else
static const bool asan = false, tsan = false;
#endif

static const uint64_t orders = 8; /* seeds that are tried where an order must show a fault */

/* Launch, or end the process with success, which no fault may do. */
#define GO(...)                                                                                    \
    if (SWT_LAUNCH(__VA_ARGS__) != SWT_OK)                                                         \
    _exit(0)

/* -- out of bounds ---------------------------------------------------------------------------- */

static __global__ void dynamic_overflow(float *out) {
    SWT_DYNAMIC_SHARED(float, tile);
    tile[threadIdx.x + 1] = 1.0f; /* the last thread is one too far */
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

static void plant_dynamic_overflow() {
    GO(dynamic_overflow, 1, 64, 64 * sizeof(float), nullptr, managed<float>(64));
    OK(cudaDeviceSynchronize());
}

template <typename T> static __global__ void static_overflow(T *out) {
    __shared__ T tile[64];
    T *all = tile;
    __asm__ volatile(""
                     : "+r"(all)); /* or UndefinedBehaviorSanitizer knows its size and is first */
    all[threadIdx.x + blockDim.x / 64] = T(1);
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

static void plant_static_overflow() {
    GO(static_overflow<float>, 1, 64, 0, nullptr, managed<float>(64));
    OK(cudaDeviceSynchronize());
}

static void shared_overflow(void **) {
    if (!asan)
        return;
    must_report(plant_dynamic_overflow, "heap-buffer-overflow");
    must_report(plant_dynamic_overflow, "test_faults.cpp");
    must_report(plant_static_overflow, "global-buffer-overflow");
    must_report(plant_static_overflow, "'tile'");
}

static __global__ void write_at(float *out, int n) {
    out[n] = 1.0f;
}

/* One element after 5: in the allocation's page. */
static void plant_global_overflow() {
    GO(write_at, 1, 1, 0, nullptr, on_gpu<float>(5), 5);
    OK(cudaDeviceSynchronize());
}

/* A page before it. */
static void plant_global_underflow() {
    GO(write_at, 1, 1, 0, nullptr, on_gpu<float>(5), -1000);
    OK(cudaDeviceSynchronize());
}

static void global_out_of_bounds(void **) {
    must_report(plant_global_overflow, asan ? "heap-buffer-overflow"
                                            : "byte 0 after an allocation of 20 bytes was written");
    if (!asan) {
        char text[16384];
        const int result = child(plant_global_underflow, 0, text, sizeof text);
        assert_int_equal(result, -SIGSEGV);
    }
}

/* -- values that nobody wrote ----------------------------------------------------------------- */

static __global__ void sum_unwritten(float *out, const float *in) {
    SWT_DYNAMIC_SHARED(float, dynamic);
    __shared__ float fixed[4];
    if (threadIdx.x == 100) /* no such thread; but what nobody writes, the compiler takes for 0 */
        fixed[0] = fixed[2] = 0.0f;
    if (threadIdx.x == 0 && blockIdx.x == 1) {
        out[0] = in[0] + in[1];
        out[1] = dynamic[3] + 1.0f;
        out[2] = fixed[2] + 1.0f;
    }
}

static void plant_unwritten() {
    float *const out = managed<float>(3), *const in = on_gpu<float>(2);
    const float one = 1.0f;
    OK(cudaMemcpy(in, &one, sizeof one, cudaMemcpyHostToDevice));
    GO(sum_unwritten, 2, 32, 16, nullptr, out, in);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 3; i++)
        fprintf(stderr, isnan(out[i]) ? "NaN " : "%g ", static_cast<double>(out[i]));
}

static void uninitialised_reads_are_nan(void **) {
    char text[16384];
    assert_int_equal(child(plant_unwritten, 0, text, sizeof text), 0);
    assert_string_equal(text, "NaN NaN NaN ");
}

/* -- barriers --------------------------------------------------------------------------------- */

template <bool WITH_BARRIER> static __global__ void rotate(int *out) {
    __shared__ int part[64];
    part[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (WITH_BARRIER)
        __syncthreads();
    out[threadIdx.x] = part[(threadIdx.x + 1) % 64];
}

template <bool WITH_BARRIER> static void plant_rotate() {
    int *const out = managed<int>(64);
    GO(rotate<WITH_BARRIER>, 1, 64, 0, nullptr, out);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 64; i++)
        if (out[i] != (i + 1) % 64) {
            fprintf(stderr, "wrong value\n");
            _exit(1);
        }
}

/* How many orders end with the report. */
static int found(void (*fault)(), const char *report) {
    int n = 0;
    for (uint64_t order = 0; order < orders; order++) {
        char text[65536];
        n += child(fault, order, text, sizeof text) != 0 && strstr(text, report) != nullptr;
    }
    return n;
}

static void missing_barrier(void **) {
    assert_int_equal(found(plant_rotate<false>, tsan ? "data race" : "wrong value"), orders);
    for (uint64_t order = 0; order < orders; order++)
        must_pass(plant_rotate<true>, order);
}

static __global__ void half_a_barrier(int *out) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

static __global__ void barrier_after_return(int *out) {
    if (threadIdx.x == 7)
        return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void two_in_one_warp(int *out) {
    if (threadIdx.x % 2 == 0)
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        __syncwarp();
}

static __global__ void two_places(int *out) {
    if (threadIdx.x == 0)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void part_of_a_warp(int *out) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 1);
}

static __global__ void whole_warps(int *out) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

#define PLANT(kernel, threads)                                                                     \
    [] {                                                                                           \
        GO(kernel, 1, threads, 0, nullptr, managed<int>(64));                                      \
        OK(cudaDeviceSynchronize());                                                               \
    }

static void divergent_barriers(void **) {
    must_report(PLANT(half_a_barrier, 64),
                "kernel half_a_barrier, block (0,0,0): divergent barrier: of 64 threads 32 have "
                "returned; 32 wait at __syncthreads");
    must_report(PLANT(barrier_after_return, 64), "of 64 threads 1 have returned; 63 wait");
    must_report(PLANT(two_in_one_warp, 64), "thread 1 is at __syncwarp");
    must_report(PLANT(two_places, 64), "divergent barrier: thread 1 is at __syncthreads");
    must_report(PLANT(part_of_a_warp, 64), "of a part of a warp");
    must_report(PLANT(whole_warps, 40), "of a last warp of less than 32");
}

/* -- races on memory -------------------------------------------------------------------------- */

template <bool ATOMIC> static __global__ void count_blocks(int *counter) {
    __syncthreads();
    if (threadIdx.x == 0) {
        if (ATOMIC)
            atomicAdd(counter, 1);
        else
            *counter += 1;
    }
}

template <bool ATOMIC> static void plant_count() {
    int *const counter = managed<int>(1);
    *counter = 0;
    GO(count_blocks<ATOMIC>, 6, 32, 0, nullptr, counter);
    OK(cudaDeviceSynchronize());
}

static void race_between_blocks(void **) {
    if (tsan)
        assert_int_equal(found(plant_count<false>, "data race"), orders);
    for (uint64_t order = 0; order < orders; order++)
        must_pass(plant_count<true>, order);
}

/* A shuffle orders no memory, __syncwarp does. */
template <bool ORDERED> static __global__ void through_a_warp(int *out) {
    __shared__ int part[32];
    part[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (ORDERED)
        __syncwarp();
    else
        (void)__any_sync(0xffffffffu, 1);
    out[threadIdx.x] = part[31 - threadIdx.x];
}

/* The same of two lanes alone, which the emulated platform may take for one thread in a block, but
 * not in all of them. */
template <bool ORDERED> static __global__ void between_two_lanes(int *out) {
    __shared__ int x;
    if (threadIdx.x == 5)
        x = 1;
    if (ORDERED)
        __syncwarp();
    if (threadIdx.x == 6)
        out[blockIdx.x] = x;
}

template <bool ORDERED> static void plant_two_lanes() {
    GO(between_two_lanes<ORDERED>, 8, 32, 0, nullptr, managed<int>(8));
    OK(cudaDeviceSynchronize());
}

static void race_in_a_warp(void **) {
    if (tsan) {
        must_report(PLANT(through_a_warp<false>, 32), "data race");
        assert_int_equal(found(plant_two_lanes<false>, "data race"), orders);
    }
    must_pass(PLANT(through_a_warp<true>, 32), 0);
    must_pass(plant_two_lanes<true>, 0);
}

/* -- streams ---------------------------------------------------------------------------------- */

static __global__ void add_one(int *to, const int *from) {
    *to = *from + 1;
}

/* a makes x, b reads it; ORDERED joins them by an event. */
template <bool ORDERED> static void plant_streams() {
    cudaStream_t a = nullptr, b = nullptr;
    cudaEvent_t made = nullptr;
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    int *const x = managed<int>(2), *const y = managed<int>(1);
    x[0] = x[1] = 0;
    GO(add_one, 1, 1, 0, a, x + 1, x);
    OK(cudaEventRecord(made, a));
    if (ORDERED)
        OK(cudaStreamWaitEvent(b, made, 0));
    GO(add_one, 1, 1, 0, b, y, x + 1);
    OK(cudaStreamSynchronize(b));
    if (*y != 2) {
        fprintf(stderr, "wrong value\n");
        _exit(1);
    }
}

static void missing_event(void **) {
    assert_true(found(plant_streams<false>, "wrong value") > 0);
    if (tsan)
        assert_true(found(plant_streams<false>, "data race") > 0);
    for (uint64_t order = 0; order < orders; order++)
        must_pass(plant_streams<true>, order);
}

/* The host reads managed memory that a kernel may still write. */
static void plant_early_read() {
    int *const x = managed<int>(1);
    *x = 5;
    GO(add_one, 1, 1, 0, nullptr, x, x);
    if (*x != 6) {
        fprintf(stderr, "wrong value\n");
        _exit(1);
    }
}

static void missing_synchronize(void **) {
    must_report(plant_early_read, "wrong value");
}

/* -- the host --------------------------------------------------------------------------------- */

static void plant_host_read() {
    volatile float *const memory = on_gpu<float>(4);
    fprintf(stderr, "%f\n", static_cast<double>(memory[1]));
}

static void host_read_of_gpu_memory(void **) {
    char text[16384];
    const int result = child(plant_host_read, 0, text, sizeof text);
    if (asan)
        assert_non_null(strstr(text, "use-after-poison"));
    else
        assert_int_equal(result, -SIGSEGV);
}

#define IN_STEP(...)                                                                               \
    [] {                                                                                           \
        int *const memory = on_gpu<int>(2);                                                        \
        int local[2];                                                                              \
        swt_emu_step_begin();                                                                      \
        (void)memory, (void)local;                                                                 \
        __VA_ARGS__;                                                                               \
    }

static void plant_no_fault() {
    int *const memory = on_gpu<int>(2);
    swt_emu_step_begin();
    OK(cudaMemsetAsync(memory, 0, 8, nullptr));
    GO(add_one, 1, 1, 0, nullptr, memory, memory + 1);
    swt_emu_step_end();
    OK(cudaFree(memory));
}

static void host_in_the_loop(void **) {
    must_report(IN_STEP(cudaStreamSynchronize(nullptr)),
                "cudaStreamSynchronize inside a step: no host in the loop");
    must_report(IN_STEP(cudaDeviceSynchronize()), "cudaDeviceSynchronize inside a step");
    must_report(IN_STEP((void)on_gpu<int>(1)), "cudaMalloc inside a step");
    must_report(IN_STEP(cudaFree(memory)), "cudaFree inside a step");
    must_report(
        IN_STEP(cudaMemcpyAsync(local, memory, sizeof local, cudaMemcpyDeviceToHost, nullptr)),
        "a copy to the host inside a step");
    must_pass(plant_no_fault, 0);
}

/* Work that waits for what never comes. */
static bool never(void *) {
    return false;
}

static void plant_deadlock() {
    OK(swt_emu_enqueue(nullptr, "never", never, "", 0));
    OK(cudaDeviceSynchronize());
}

static void deadlock(void **) {
    must_report(plant_deadlock, "deadlock: every stream waits");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_overflow),
        cmocka_unit_test(global_out_of_bounds),
        cmocka_unit_test(uninitialised_reads_are_nan),
        cmocka_unit_test(missing_barrier),
        cmocka_unit_test(divergent_barriers),
        cmocka_unit_test(race_between_blocks),
        cmocka_unit_test(race_in_a_warp),
        cmocka_unit_test(missing_event),
        cmocka_unit_test(missing_synchronize),
        cmocka_unit_test(host_read_of_gpu_memory),
        cmocka_unit_test(host_in_the_loop),
        cmocka_unit_test(deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
