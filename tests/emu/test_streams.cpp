/* Streams, events, memory and copies on the emulated platform. */
#include "tests/emu/bed.h"

#include <sys/mman.h>

static __global__ void add_to(int *out, const int *in, int x) {
    out[threadIdx.x] = in[threadIdx.x] + x;
}

static cudaStream_t stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t s = nullptr;
    OK(cudaStreamCreateWithFlags(&s, flags));
    return s;
}

static cudaEvent_t event(void) {
    cudaEvent_t e = nullptr;
    OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}

static void copies_keep_their_order(void **) {
    int *const gpu = on_gpu<int>(8), *const more = on_gpu<int>(8);
    int host[8], back[8];
    for (int i = 0; i < 8; i++)
        host[i] = i, back[i] = -7;
    cudaStream_t s = stream();
    OK(cudaMemcpyAsync(gpu, host, sizeof host, cudaMemcpyHostToDevice, s));
    memset(host, 0, sizeof host); /* pageable: taken at the call */
    assert_int_equal(SWT_LAUNCH(add_to, 1, 8, 0, s, more, gpu, 10), SWT_OK);
    void *locked = nullptr;
    OK(cudaMallocHost(&locked, sizeof back));
    int *const pinned = static_cast<int *>(locked);
    pinned[3] = -7;
    OK(cudaMemcpyAsync(pinned, more, sizeof back, cudaMemcpyDeviceToHost, s));
    assert_int_equal(pinned[3], -7);                                         /* not before a wait */
    OK(cudaMemcpyAsync(back, more, sizeof back, cudaMemcpyDeviceToHost, s)); /* pageable: a wait */
    assert_int_equal(pinned[3], 13);
    OK(cudaFreeHost(locked));
    for (int i = 0; i < 8; i++)
        assert_int_equal(back[i], 10 + i);
    OK(cudaMemsetAsync(more, 0, 4 * sizeof(int), s));
    OK(cudaMemcpyAsync(gpu, more, sizeof back, cudaMemcpyDeviceToDevice, s));
    OK(cudaMemcpyAsync(back, gpu, sizeof back, cudaMemcpyDeviceToHost, s));
    OK(cudaStreamSynchronize(s));
    assert_int_equal(back[3], 0);
    assert_int_equal(back[4], 14);
    OK(cudaStreamDestroy(s));
    OK(cudaFree(gpu));
    OK(cudaFree(more));
}

static void pinned_memory_is_read_late(void **) {
    int *pinned = nullptr, *const gpu = on_gpu<int>(1), back = 0;
    OK(cudaHostAlloc(reinterpret_cast<void **>(&pinned), sizeof *pinned, cudaHostAllocDefault));
    cudaStream_t s = stream();
    *pinned = 1;
    OK(cudaMemcpyAsync(gpu, pinned, sizeof *pinned, cudaMemcpyHostToDevice, s));
    *pinned = 2; /* a mistake that pinned memory shows */
    OK(cudaStreamSynchronize(s));
    OK(cudaMemcpy(&back, gpu, sizeof back, cudaMemcpyDeviceToHost));
    assert_int_equal(back, 2);
    OK(cudaStreamDestroy(s));
    OK(cudaFree(gpu));
    OK(cudaFreeHost(pinned));
}

static void new_memory_is_nan(void **) {
    float *const gpu = on_gpu<float>(3), back[3] = {0, 0, 0};
    OK(cudaMemcpy(back, gpu, sizeof back, cudaMemcpyDeviceToHost));
    assert_true(isnan(back[0]) && isnan(back[2]));
    OK(cudaFree(gpu));
}

static void events_order_streams(void **) {
    cudaStream_t a = stream(), b = stream();
    cudaEvent_t e = event();
    int *const x = managed<int>(4), *const y = managed<int>(4), *const z = managed<int>(4);
    for (int i = 0; i < 4; i++)
        x[i] = i;
    assert_int_equal(SWT_LAUNCH(add_to, 1, 4, 0, a, y, x, 1), SWT_OK);
    OK(cudaEventRecord(e, a));
    assert_int_equal(SWT_LAUNCH(add_to, 1, 4, 0, a, x, x, 50), SWT_OK);
    OK(cudaStreamWaitEvent(b, e, 0));
    assert_int_equal(SWT_LAUNCH(add_to, 1, 4, 0, b, z, y, 1), SWT_OK);
    assert_int_equal(cudaEventQuery(e), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    OK(cudaStreamSynchronize(b));
    OK(cudaEventQuery(e));
    for (int i = 0; i < 4; i++)
        assert_int_equal(z[i], i + 2);
    OK(cudaDeviceSynchronize());
    assert_int_equal(x[3], 53);
    OK(cudaEventDestroy(e));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
    OK(cudaFree(y));
    OK(cudaFree(z));
}

/* Who waits for b gets b alone in the laziest order; a query brings work on by and by. */
static void streams_are_lazy(void **) {
    swt_emu_set_order(0);
    cudaStream_t a = stream(), b = stream();
    int *const x = managed<int>(2), *const y = managed<int>(2);
    x[0] = x[1] = 0;
    assert_int_equal(SWT_LAUNCH(add_to, 1, 2, 0, a, x, x, 1), SWT_OK);
    assert_int_equal(SWT_LAUNCH(add_to, 1, 2, 0, b, y, x, 5), SWT_OK);
    OK(cudaStreamSynchronize(b));
    assert_int_equal(y[0], 5);
    assert_int_equal(x[0], 0);
    int queries = 1;
    while (cudaStreamQuery(a) == cudaErrorNotReady && queries < 10)
        queries++;
    (void)cudaGetLastError();
    assert_int_equal(queries, 2);
    assert_int_equal(x[0], 1);
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
    OK(cudaFree(y));
}

/* The legacy stream comes after what blocking streams have, and before what they get later. */
static void the_legacy_stream_orders(void **) {
    cudaStream_t a = stream(cudaStreamDefault), b = stream(cudaStreamDefault);
    int *const x = managed<int>(1);
    *x = 0;
    assert_int_equal(SWT_LAUNCH(add_to, 1, 1, 0, a, x, x, 1), SWT_OK);
    OK(cudaMemsetAsync(x, 0, sizeof *x, nullptr));
    assert_int_equal(SWT_LAUNCH(add_to, 1, 1, 0, b, x, x, 7), SWT_OK);
    OK(cudaStreamSynchronize(b));
    assert_int_equal(*x, 7);
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
}

/* Work that waits for others is asked again, while the others' progress is called. */
static int asked, progressed;

static bool wait_for_others(void *data) {
    asked++;
    int *const times = static_cast<int *>(data);
    return ++*times == 5; /* a copy of its own that it may write to */
}

static void work_may_wait(void **) {
    cudaStream_t s = stream();
    const int times = 0;
    asked = progressed = 0;
    swt_emu_on_wait([] { progressed++; });
    OK(swt_emu_enqueue(s, "wait", wait_for_others, &times, sizeof times));
    (void)swt_emu_poll();
    OK(cudaStreamSynchronize(s));
    assert_int_equal(asked, 5);
    assert_true(progressed > 0);
    swt_emu_on_wait(nullptr);
    OK(cudaStreamDestroy(s));
}

static void kinds_of_memory(void **) {
    char *const gpu = on_gpu<char>(100), *const both = managed<char>(100), local[8] = "abcdefg";
    void *pinned = nullptr;
    OK(cudaMallocHost(&pinned, 100));
    assert_true(swt_emu_on_gpu(gpu, 100, false));
    assert_false(swt_emu_on_gpu(gpu, 101, false));
    assert_true(swt_emu_on_gpu(both + 99, 1, false));
    assert_false(swt_emu_on_gpu(local, 1, true));
    assert_false(swt_emu_on_gpu(pinned, 1, false));
    assert_true(swt_emu_on_gpu(pinned, 1, true));
    /* Copies that name the wrong side, or leave an allocation, are refused. */
    assert_int_equal(cudaMemcpyAsync(gpu, local, 8, cudaMemcpyDeviceToHost, nullptr),
                     cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpyAsync(local, local, 8, cudaMemcpyHostToDevice, nullptr),
                     cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpyAsync(gpu + 96, local, 8, cudaMemcpyHostToDevice, nullptr),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(local, 0, 8, nullptr), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(local), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    OK(cudaFree(gpu));
    OK(cudaFree(both));
    OK(cudaFree(nullptr));
    OK(cudaFreeHost(pinned));
}

static void memory_ends(void **) {
    setenv("SWT_EMU_GPU_BYTES", "1000000", 1);
    size_t unused = 0, total = 0;
    char *const most = on_gpu<char>(600000);
    void *none = &total;
    OK(cudaMemGetInfo(&unused, &total));
    assert_int_equal(total, 1000000);
    assert_int_equal(unused, 400000);
    assert_int_equal(cudaMalloc(&none, 400001), cudaErrorMemoryAllocation);
    assert_null(none);
    assert_string_equal(cudaGetErrorName(cudaGetLastError()), "cudaErrorMemoryAllocation");
    OK(cudaMalloc(&none, 400000));
    OK(cudaFree(none));
    OK(cudaFree(most));
    unsetenv("SWT_EMU_GPU_BYTES");
}

static void devices(void **) {
    int n = 0;
    OK(cudaGetDeviceCount(&n));
    assert_int_equal(n, 8);
    setenv("SWT_EMU_GPUS", "2", 1);
    OK(cudaGetDeviceCount(&n));
    assert_int_equal(n, 2);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    OK(cudaSetDevice(1));
    OK(cudaGetDevice(&n));
    assert_int_equal(n, 1);
    OK(cudaSetDevice(0));
    setenv("SWT_EMU_GPUS", "0", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    unsetenv("SWT_EMU_GPUS");
    for (const char *driver : {"none", "old"}) {
        setenv("SWT_EMU_DRIVER", driver, 1);
        assert_int_equal(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
        assert_int_equal(n, 0);
        OK(cudaDriverGetVersion(&n));
        assert_true(n < CUDART_VERSION && (n > 0) == (strcmp(driver, "old") == 0));
    }
    unsetenv("SWT_EMU_DRIVER");
    OK(cudaDriverGetVersion(&n));
    assert_int_equal(n, CUDART_VERSION);
    (void)cudaGetLastError();
    struct cudaDeviceProp p;
    OK(cudaGetDeviceProperties(&p, 0));
    assert_int_equal(p.warpSize, 32);
}

static void bad_handles(void **) {
    cudaStream_t s = stream();
    OK(cudaStreamDestroy(s));
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaEventRecord(nullptr, nullptr), cudaErrorInvalidResourceHandle);
    (void)cudaGetLastError();
    cudaEvent_t e = event();
    OK(cudaStreamWaitEvent(nullptr, e, 0)); /* never recorded: no wait */
    OK(cudaEventSynchronize(e));
    OK(cudaEventDestroy(e));
    OK(cudaDeviceSynchronize());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_keep_their_order),
        cmocka_unit_test(pinned_memory_is_read_late),
        cmocka_unit_test(new_memory_is_nan),
        cmocka_unit_test(events_order_streams),
        cmocka_unit_test(the_legacy_stream_orders),
        cmocka_unit_test(work_may_wait),
        cmocka_unit_test(kinds_of_memory),
        cmocka_unit_test(memory_ends),
        cmocka_unit_test(devices),
        cmocka_unit_test(bad_handles),
        cmocka_unit_test(streams_are_lazy), /* last: it sets the order */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
