/* A GPU: memory, copies, streams and events.
 *
 * Streams do not wait for CUDA's default stream and it does not wait for them. NULL as a stream is
 * therefore the host itself, as on the CPU: a copy, a set, a record or a wait on NULL comes after
 * everything that was queued on any stream before, and is done when the call returns. Operations
 * may be queued on NULL (CUDA's default stream) by who uses no other stream. */
#include "kernels/cuda/device.h"

#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20, COMPUTE_MAJOR_MIN = 8 };

static cudaStream_t stream_of(swt_stream *s) {
    return (cudaStream_t)(void *)s;
}

static cudaEvent_t event_of(swt_event *e) {
    return (cudaEvent_t)(void *)e;
}

/* What precedes a call on stream s, and what ends it. */
static swt_status before(swt_stream *s) {
    return s != NULL ? SWT_OK : SWT_CUDA(cudaDeviceSynchronize());
}

static swt_status after(swt_stream *s) {
    return s != NULL ? SWT_OK : SWT_CUDA(cudaStreamSynchronize(NULL));
}

static swt_status cuda_room(swt_device *d, size_t *free_bytes, size_t *total_bytes) {
    (void)d;
    return SWT_CUDA(cudaMemGetInfo(free_bytes, total_bytes));
}

static swt_status cuda_alloc(swt_device *d, void **out, size_t bytes) {
    const struct swt_cuda_device *own = d->own;
    *out = NULL;
    const cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1); /* aligned to 256 bytes */
    if (error != cudaErrorMemoryAllocation)
        return swt_cuda_check(error, "cudaMalloc", __FILE__, __LINE__);
    (void)cudaGetLastError();
    size_t free_bytes = 0, total_bytes = 0;
    SWT_TRY(cuda_room(d, &free_bytes, &total_bytes));
    return SWT_FAIL(MEMORY,
                    "cuda: cannot allocate %zu bytes (%zu MiB) on GPU %d, which has %zu MiB of %zu "
                    "free; use smaller batches or more ranks",
                    bytes, bytes / MIB, own->ordinal, free_bytes / MIB, total_bytes / MIB);
}

/* What cannot be given back at the end of a run is the driver's to clear. */
static void cuda_release(swt_device *d, void *memory) {
    (void)d;
    (void)cudaFree(memory);
}

static swt_status cuda_host_alloc(swt_device *d, void **out, size_t bytes) {
    (void)d;
    *out = NULL;
    const cudaError_t error = cudaHostAlloc(out, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
    if (error != cudaErrorMemoryAllocation)
        return swt_cuda_check(error, "cudaHostAlloc", __FILE__, __LINE__);
    (void)cudaGetLastError();
    return SWT_FAIL(MEMORY,
                    "cuda: cannot allocate %zu bytes of page-locked host memory; use fewer ranks "
                    "on this machine",
                    bytes);
}

static void cuda_host_release(swt_device *d, void *memory) {
    (void)d;
    (void)cudaFreeHost(memory);
}

static swt_status cuda_copy(swt_device *d, swt_stream *s, swt_copy_kind kind, void *to,
                            const void *from, size_t bytes) {
    static const enum cudaMemcpyKind kinds[] = {[SWT_TO_DEVICE] = cudaMemcpyHostToDevice,
                                                [SWT_TO_HOST] = cudaMemcpyDeviceToHost,
                                                [SWT_ON_DEVICE] = cudaMemcpyDeviceToDevice};
    (void)d;
    SWT_TRY(before(s));
    SWT_TRY(SWT_CUDA(cudaMemcpyAsync(to, from, bytes, kinds[kind], stream_of(s))));
    return after(s);
}

static swt_status cuda_set(swt_device *d, swt_stream *s, void *memory, int byte, size_t bytes) {
    (void)d;
    SWT_TRY(before(s));
    SWT_TRY(SWT_CUDA(cudaMemsetAsync(memory, byte, bytes, stream_of(s))));
    return after(s);
}

static swt_status cuda_stream_create(swt_device *d, swt_stream **out) {
    (void)d;
    cudaStream_t stream = NULL;
    SWT_TRY(SWT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    *out = (swt_stream *)(void *)stream;
    return SWT_OK;
}

static void cuda_stream_destroy(swt_device *d, swt_stream *s) {
    (void)d;
    if (s != NULL)
        (void)cudaStreamDestroy(stream_of(s));
}

static swt_status cuda_stream_sync(swt_device *d, swt_stream *s) {
    (void)d;
    SWT_TRY(before(s));
    return s == NULL ? SWT_OK : SWT_CUDA(cudaStreamSynchronize(stream_of(s)));
}

static swt_status cuda_event_create(swt_device *d, swt_event **out) {
    (void)d;
    cudaEvent_t event = NULL;
    SWT_TRY(SWT_CUDA(cudaEventCreate(&event)));
    *out = (swt_event *)(void *)event;
    return SWT_OK;
}

static void cuda_event_destroy(swt_device *d, swt_event *e) {
    (void)d;
    if (e != NULL)
        (void)cudaEventDestroy(event_of(e));
}

static swt_status cuda_event_record(swt_device *d, swt_event *e, swt_stream *s) {
    (void)d;
    SWT_TRY(before(s));
    return SWT_CUDA(cudaEventRecord(event_of(e), stream_of(s)));
}

static swt_status cuda_stream_wait(swt_device *d, swt_stream *s, swt_event *e) {
    (void)d;
    return s == NULL ? SWT_CUDA(cudaEventSynchronize(event_of(e)))
                     : SWT_CUDA(cudaStreamWaitEvent(stream_of(s), event_of(e), 0));
}

static swt_status cuda_event_ms(swt_device *d, swt_event *from, swt_event *to, double *ms) {
    (void)d;
    float elapsed_ms = 0.0f;
    SWT_TRY(SWT_CUDA(cudaEventElapsedTime(&elapsed_ms, event_of(from), event_of(to))));
    *ms = (double)elapsed_ms;
    return SWT_OK;
}

static void cuda_close(swt_device *d) {
    struct swt_cuda_device *own = d->own;
    swt_cuda_gemms_close(own->gemms);
    free(own);
}

static const swt_device_table cuda_table = {
    .name = "cuda",
    .queues = true,
    .room = cuda_room,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .copy = cuda_copy,
    .set = cuda_set,
    .stream_create = cuda_stream_create,
    .stream_destroy = cuda_stream_destroy,
    .stream_sync = cuda_stream_sync,
    .event_create = cuda_event_create,
    .event_destroy = cuda_event_destroy,
    .event_record = cuda_event_record,
    .stream_wait = cuda_stream_wait,
    .event_ms = cuda_event_ms,
    .close = cuda_close,
};

/* The calling thread works on this GPU from here on. */
static swt_status choose(int ordinal, char arithmetic[SWT_ARITHMETIC_BYTES]) {
    int count = 0, major = 0, minor = 0;
    SWT_TRY(swt_cuda_count(&count));
    if (ordinal < 0 || ordinal >= count)
        return SWT_FAIL(USAGE,
                        "--device cuda: there is no GPU %d, this process sees %d; start at most "
                        "one rank a GPU",
                        ordinal, count);
    SWT_TRY(SWT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal)));
    SWT_TRY(SWT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal)));
    if (major < COMPUTE_MAJOR_MIN)
        return SWT_FAIL(USAGE,
                        "--device cuda: GPU %d has compute capability %d.%d; this program needs "
                        "%d.0 or newer, use --device cpu",
                        ordinal, major, minor, COMPUTE_MAJOR_MIN);
    snprintf(arithmetic, SWT_ARITHMETIC_BYTES, "cuda-sm_%d%d", major, minor);
    const cudaError_t error = cudaSetDevice(ordinal);
    if (error != cudaErrorDevicesUnavailable)
        return swt_cuda_check(error, "cudaSetDevice", __FILE__, __LINE__);
    (void)cudaGetLastError();
    return SWT_FAIL(USAGE,
                    "--device cuda: GPU %d is in use and takes one process at a time; stop the "
                    "other one, or use --device cpu",
                    ordinal);
}

swt_status swt_cuda_open(swt_device *out, int ordinal, int threads) {
    if (threads < 1)
        return SWT_FAIL(USAGE, "cuda: %d threads; at least 1 is needed", threads);
    char arithmetic[SWT_ARITHMETIC_BYTES];
    SWT_TRY(choose(ordinal, arithmetic));
    struct swt_cuda_device *own = calloc(1, sizeof *own);
    if (own == NULL)
        return SWT_FAIL(MEMORY, "cuda: no host memory for the device");
    own->ordinal = ordinal;
    const swt_status status = swt_cuda_gemms_open(&own->gemms);
    if (status != SWT_OK) {
        free(own);
        return status;
    }
    *out = (swt_device){.table = &cuda_table, .threads = threads, .own = own};
    memcpy(out->arithmetic, arithmetic, sizeof arithmetic);
    return SWT_OK;
}
