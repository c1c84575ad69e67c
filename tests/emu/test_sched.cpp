/* Kernels on the emulated platform: threads, barriers, warps, shared memory. */
#include "kernels/cuda/block.cuh"

#include "tests/emu/bed.h"

static __global__ void write_indices(int *out, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        out[i] = 3 * i;
}

static void threads_know_their_places(void **) {
    int *const out = managed<int>(1000);
    assert_int_equal(SWT_LAUNCH(write_indices, 4, 256, 0, nullptr, out, 1000), SWT_OK);
    assert_int_equal(out[0], -1); /* it has not run yet */
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 1000; i++)
        assert_int_equal(out[i], 3 * i);
    OK(cudaFree(out));
}

static __global__ void write_dims(uint3 *thread, uint3 *block) {
    const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    if (b == 0)
        thread[t] = threadIdx;
    if (t == 0)
        block[b] = blockIdx;
}

static void three_dimensions(void **) {
    uint3 *const thread = managed<uint3>(24), *const block = managed<uint3>(30);
    assert_int_equal(
        SWT_LAUNCH(write_dims, dim3(2, 3, 5), dim3(4, 3, 2), 0, nullptr, thread, block), SWT_OK);
    OK(cudaDeviceSynchronize());
    assert_int_equal(thread[23].x * 100 + thread[23].y * 10 + thread[23].z, 321);
    assert_int_equal(block[29].x * 100 + block[29].y * 10 + block[29].z, 124);
    assert_int_equal(block[1].x * 100 + block[1].y * 10 + block[1].z, 100);
    OK(cudaFree(thread));
    OK(cudaFree(block));
}

/* Row sums, as norms have them: static shared memory, warps, barriers in a loop, a template. */
template <typename T> static __global__ void sum_rows(float *out, const T *x, int width) {
    __shared__ float part[WARP];
    for (int turn = 0; turn < 3; turn++) {
        float sum = 0;
        for (int i = static_cast<int>(threadIdx.x); i < width; i += static_cast<int>(blockDim.x))
            sum += to_float(x[static_cast<int>(blockIdx.x) * width + i]);
        sum = block_sum(sum, part);
        if (threadIdx.x == 5)
            out[blockIdx.x] = sum;
    }
}

template <typename T> static void check_rows(int rows, int width, int threads) {
    T *const x = managed<T>(static_cast<size_t>(rows * width));
    float *const out = managed<float>(static_cast<size_t>(rows));
    for (int i = 0; i < rows * width; i++)
        x[i] = from_float<T>(static_cast<float>(i % 7));
    assert_int_equal(SWT_LAUNCH(sum_rows<T>, static_cast<unsigned>(rows),
                                static_cast<unsigned>(threads), 0, nullptr, out, x, width),
                     SWT_OK);
    OK(cudaDeviceSynchronize());
    for (int r = 0; r < rows; r++) {
        int want = 0;
        for (int i = 0; i < width; i++)
            want += (r * width + i) % 7;
        assert_int_equal(static_cast<int>(out[r]), want);
    }
    OK(cudaFree(x));
    OK(cudaFree(out));
}

static void sums_of_blocks(void **) {
    check_rows<float>(9, 100, 128);
    check_rows<float>(3, 77, 1024);
    check_rows<__nv_bfloat16>(5, 33, 32);
}

/* Each warp operation, one result a lane. */
static __global__ void warp_operations(long long *out) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    long long *const mine = out + threadIdx.x * 16;
    const unsigned all = 0xffffffffu;
    mine[0] = __shfl_sync(all, lane * 10, 7);
    mine[1] = __shfl_xor_sync(all, lane, 5);
    mine[2] = __shfl_up_sync(all, 100ll + lane, 3);
    mine[3] = __shfl_down_sync(all, 100u + static_cast<unsigned>(lane), 3);
    mine[4] = __ballot_sync(all, lane % 3 == 0);
    mine[5] = __any_sync(all, lane == 31);
    mine[6] = __all_sync(all, lane == 31);
    mine[7] = __shfl_sync(all, lane, 9, 8);
    mine[8] = __shfl_down_sync(all, lane, 2, 4);
    mine[9] = static_cast<long long>(__shfl_xor_sync(all, 0.5 * lane, 1));
    mine[10] = __syncthreads_count(lane < 3);
    mine[11] = __syncthreads_or(threadIdx.x == 40);
    mine[12] = __syncthreads_and(threadIdx.x != 40);
    mine[13] = static_cast<long long>(__shfl_up_sync(all, 1.5f * static_cast<float>(lane), 1, 16));
}

static void warps(void **) {
    long long *const out = managed<long long>(64 * 16);
    assert_int_equal(SWT_LAUNCH(warp_operations, 1, 64, 0, nullptr, out), SWT_OK);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 64; i++) {
        const int lane = i % 32;
        const long long *const mine = out + i * 16;
        assert_int_equal(mine[0], 70);
        assert_int_equal(mine[1], lane ^ 5);
        assert_int_equal(mine[2], 100 + (lane < 3 ? lane : lane - 3));
        assert_int_equal(mine[3], 100 + (lane > 28 ? lane : lane + 3));
        assert_int_equal(mine[4], 0x49249249);
        assert_int_equal(mine[5], 1);
        assert_int_equal(mine[6], 0);
        assert_int_equal(mine[7], lane / 8 * 8 + 1);
        assert_int_equal(mine[8], lane % 4 < 2 ? lane + 2 : lane);
        assert_int_equal(mine[9], (lane ^ 1) / 2);
        assert_int_equal(mine[10], 6);
        assert_int_equal(mine[11], 1);
        assert_int_equal(mine[12], 0);
        const int from = lane % 16 == 0 ? lane : lane - 1;
        assert_int_equal(mine[13], from + from / 2);
    }
    OK(cudaFree(out));
}

/* Dynamic shared memory, reversed through a barrier; what is not written is NaN in every block. */
template <typename T> static __global__ void reverse(T *out, const T *in, int *fresh) {
    SWT_DYNAMIC_SHARED(T, tile);
    __shared__ T mark;
    if (threadIdx.x == 0) {
        atomicAdd(fresh, isnan(tile[blockDim.x]) && isnan(mark));
        tile[blockDim.x] = mark = 0;
    }
    __syncthreads();
    tile[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

static void dynamic_shared_memory(void **) {
    float *const in = managed<float>(512), *const out = managed<float>(512);
    int *const fresh = managed<int>(1);
    for (int i = 0; i < 512; i++)
        in[i] = static_cast<float>(i);
    *fresh = 0;
    assert_int_equal(
        SWT_LAUNCH(reverse<float>, 4, 128, 129 * sizeof(float), nullptr, out, in, fresh), SWT_OK);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 512; i++)
        assert_int_equal(static_cast<int>(out[i]), i / 128 * 128 + 127 - i % 128);
    assert_int_equal(*fresh, 4);
    OK(cudaFree(in));
    OK(cudaFree(out));
    OK(cudaFree(fresh));
}

static __global__ void count(unsigned long long *sum, int *largest, unsigned *bits) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(sum, static_cast<unsigned long long>(i));
    atomicMax(largest, i % 1000);
    atomicOr(bits, 1u << (i % 32));
}

static void atomics(void **) {
    unsigned long long *const sum = managed<unsigned long long>(1);
    int *const largest = managed<int>(1);
    unsigned *const bits = managed<unsigned>(1);
    *sum = 0, *largest = -5, *bits = 0;
    assert_int_equal(SWT_LAUNCH(count, 20, 100, 0, nullptr, sum, largest, bits), SWT_OK);
    OK(cudaDeviceSynchronize());
    assert_int_equal(*sum, 1999000);
    assert_int_equal(*largest, 999);
    assert_int_equal(*bits, 0xffffffffu);
    OK(cudaFree(sum));
    OK(cudaFree(largest));
    OK(cudaFree(bits));
}

/* The order in which threads come differs from seed to seed and is the same for one. */
static __global__ void take_numbers(int *next, int *taken) {
    taken[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
}

static void print_order() {
    int *const next = managed<int>(1), *const taken = managed<int>(64);
    *next = 0;
    if (SWT_LAUNCH(take_numbers, 4, 16, 0, nullptr, next, taken) != SWT_OK)
        _exit(1);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 64; i++)
        fprintf(stderr, "%d ", taken[i]);
}

static void orders_follow_the_seed(void **) {
    char zero[1024], one[1024], again[1024], two[1024];
    assert_int_equal(child(print_order, 0, zero, sizeof zero), 0);
    assert_int_equal(child(print_order, 1, one, sizeof one), 0);
    assert_int_equal(child(print_order, 1, again, sizeof again), 0);
    assert_int_equal(child(print_order, 2, two, sizeof two), 0);
    assert_string_equal(one, again);
    assert_string_not_equal(zero, one);
    assert_string_not_equal(two, one);
    assert_non_null(strstr(zero, "0 1 2 3 4 5 6 7 8 9 10"));
}

static void impossible_launches(void **) {
    int *const out = managed<int>(1);
    assert_int_equal(SWT_LAUNCH(write_indices, 0, 32, 0, nullptr, out, 0), SWT_INTERNAL);
    assert_int_equal(SWT_LAUNCH(write_indices, 1, 1025, 0, nullptr, out, 0), SWT_INTERNAL);
    assert_int_equal(SWT_LAUNCH(write_indices, dim3(1, 65536), 1, 0, nullptr, out, 0),
                     SWT_INTERNAL);
    assert_int_equal(SWT_LAUNCH(write_indices, 1, 32, 49153, nullptr, out, 0), SWT_INTERNAL);
    assert_int_equal(SWT_LAUNCH(write_indices, 1, 32, 49152, nullptr, out, 0), SWT_OK);
    OK(cudaFree(out));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_know_their_places),
        cmocka_unit_test(three_dimensions),
        cmocka_unit_test(sums_of_blocks),
        cmocka_unit_test(warps),
        cmocka_unit_test(dynamic_shared_memory),
        cmocka_unit_test(atomics),
        cmocka_unit_test(orders_follow_the_seed),
        cmocka_unit_test(impossible_launches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
