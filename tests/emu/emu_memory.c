/* Memory of the GPU, managed and pinned memory, and copies.
 *
 * Memory of the GPU is a mapping with closed pages around it, and is itself closed to the host
 * except while queues run. In an AddressSanitizer build it is heap memory with red zones instead,
 * poisoned while the queues rest. All of it starts as 0xFF, which is NaN in every float type. */
#include "tests/emu/emu_stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct allocation {
    struct allocation *next;
    unsigned char *begin;
    size_t bytes, mapped; /* as asked for, in whole pages */
    emu_kind kind;
    int device;
} allocation;

enum { HUGE_BYTES = 4 << 20 };

static allocation *allocations;
static bool open_now;

static uint64_t gpu_bytes(void) {
    return emu_setting("SWT_EMU_GPU_BYTES", (uint64_t)16 << 30, 1, UINT64_MAX);
}

static uint64_t used_bytes(void) {
    uint64_t used = 0;
    for (const allocation *a = allocations; a != NULL; a = a->next)
        if (a->device == emu_device() && a->kind != EMU_PINNED)
            used += a->bytes;
    return used;
}

/* -- open and closed -------------------------------------------------------------------------- */

static void set_open(const allocation *a, bool open) {
    if (a->kind != EMU_GPU)
        return;
#ifdef __SANITIZE_ADDRESS__
    if (open)
        ASAN_UNPOISON_MEMORY_REGION(a->begin, a->bytes);
    else
        ASAN_POISON_MEMORY_REGION(a->begin, a->bytes);
#else
    if (mprotect(a->begin, a->mapped, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        swt_emu_stop("mprotect failed");
#endif
}

/* What lies between the end of an allocation and of its last page still is as it was. */
static void check_end(const allocation *a) {
    for (size_t i = a->bytes; i < a->mapped; i++)
        if (a->begin[i] != 0xff)
            swt_emu_stop("byte %zu after an allocation of %zu bytes was written", i - a->bytes,
                         a->bytes);
}

void emu_memory_open(void) {
    open_now = true;
    for (const allocation *a = allocations; a != NULL; a = a->next)
        set_open(a, true);
}

void emu_memory_close(void) {
    open_now = false;
    for (const allocation *a = allocations; a != NULL; a = a->next) {
        check_end(a);
        set_open(a, false);
    }
}

/* -- allocation ------------------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
static bool map(allocation *a) {
    a->mapped = a->bytes;
    return posix_memalign((void **)&a->begin, 256, a->bytes) == 0;
}

static void unmap(allocation *a) {
    ASAN_UNPOISON_MEMORY_REGION(a->begin, a->bytes);
    free(a->begin);
}
#else
static bool map(allocation *a) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    a->mapped = (a->bytes + page - 1) / page * page;
    unsigned char *const m = mmap(NULL, a->mapped + 2 * page, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED)
        return false;
    a->begin = m + page;
    if (a->mapped >= HUGE_BYTES) /* what opens and closes the mapping goes page by page */
        (void)madvise(a->begin, a->mapped, MADV_HUGEPAGE);
    return mprotect(a->begin, a->mapped, PROT_READ | PROT_WRITE) == 0;
}

static void unmap(allocation *a) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(a->begin - page, a->mapped + 2 * page);
}
#endif

static cudaError_t allocate(const char *call, void **out, size_t bytes, emu_kind kind) {
    swt_emu_host_call(call);
    if (out == NULL)
        return emu_error(cudaErrorInvalidValue);
    *out = NULL;
    const cudaError_t error = emu_capture_refuses();
    if (error != cudaSuccess || bytes == 0)
        return emu_error(error);
    if (kind != EMU_PINNED && (bytes > gpu_bytes() || used_bytes() > gpu_bytes() - bytes))
        return emu_error(cudaErrorMemoryAllocation);
    allocation *const a = calloc(1, sizeof *a);
    if (a == NULL)
        return emu_error(cudaErrorMemoryAllocation);
    *a = (allocation){.bytes = bytes, .kind = kind, .device = emu_device(), .next = allocations};
    if (!map(a)) {
        free(a);
        return emu_error(cudaErrorMemoryAllocation);
    }
    tsan_ignore_begin();
    memset(a->begin, 0xff, a->mapped);
    tsan_ignore_end();
    set_open(a, open_now);
    allocations = a;
    *out = a->begin;
    return cudaSuccess;
}

static cudaError_t release(const char *call, void *memory, bool pinned) {
    swt_emu_host_call(call);
    if (memory == NULL)
        return cudaSuccess;
    const cudaError_t error = emu_capture_refuses();
    if (error != cudaSuccess)
        return emu_error(error);
    for (allocation **at = &allocations; *at != NULL; at = &(*at)->next)
        if ((*at)->begin == memory && ((*at)->kind == EMU_PINNED) == pinned) {
            emu_drain(); /* as CUDA does */
            allocation *const a = *at;
            *at = a->next;
            unmap(a);
            free(a);
            return cudaSuccess;
        }
    return emu_error(cudaErrorInvalidValue);
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    return allocate("cudaMalloc", out, bytes, EMU_GPU);
}

cudaError_t cudaMallocManaged(void **out, size_t bytes, unsigned flags) {
    if (flags != cudaMemAttachGlobal)
        return emu_error(cudaErrorInvalidValue);
    return allocate("cudaMallocManaged", out, bytes, EMU_MANAGED);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    return allocate("cudaHostAlloc", out, bytes, EMU_PINNED);
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    return allocate("cudaMallocHost", out, bytes, EMU_PINNED);
}

cudaError_t cudaFree(void *memory) {
    return release("cudaFree", memory, false);
}

cudaError_t cudaFreeHost(void *memory) {
    return release("cudaFreeHost", memory, true);
}

cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
    *total = gpu_bytes();
    *unused = *total - used_bytes();
    return cudaSuccess;
}

emu_kind emu_memory_kind(const void *memory, size_t bytes) {
    const unsigned char *const p = memory;
    for (const allocation *a = allocations; a != NULL; a = a->next)
        if (p >= a->begin && p < a->begin + a->bytes)
            return bytes <= (size_t)(a->begin + a->bytes - p) ? a->kind : EMU_OUTSIDE;
    return EMU_PAGEABLE;
}

bool swt_emu_on_gpu(const void *memory, size_t bytes, bool pinned) {
    const emu_kind kind = emu_memory_kind(memory, bytes);
    return kind == EMU_GPU || kind == EMU_MANAGED || (pinned && kind == EMU_PINNED);
}

/* -- copies ----------------------------------------------------------------------------------- */

typedef struct copy {
    void *to;
    const void *from; /* NULL: the bytes follow in memory */
    size_t bytes;
    int byte;
    max_align_t staged[];
} copy;

static bool run_copy(void *data) {
    const copy *const c = data;
    memcpy(c->to, c->from != NULL ? c->from : c->staged, c->bytes);
    return true;
}

static bool run_set(void *data) {
    const copy *const c = data;
    memset(c->to, c->byte, c->bytes);
    return true;
}

/* Memory of the host where `kind` says so, of the GPU where it says so. */
static bool fits(enum cudaMemcpyKind kind, emu_kind to, emu_kind from) {
    const bool to_host = to == EMU_PAGEABLE || to == EMU_PINNED;
    const bool from_host = from == EMU_PAGEABLE || from == EMU_PINNED;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return to != EMU_GPU && from != EMU_GPU;
    case cudaMemcpyHostToDevice:
        return !to_host && from != EMU_GPU;
    case cudaMemcpyDeviceToHost:
        return to != EMU_GPU && !from_host;
    case cudaMemcpyDeviceToDevice:
        return !to_host && !from_host;
    default:
        return kind == cudaMemcpyDefault;
    }
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (bytes == 0)
        return cudaSuccess;
    const emu_kind source = emu_memory_kind(from, bytes), target = emu_memory_kind(to, bytes);
    if (source == EMU_OUTSIDE || target == EMU_OUTSIDE)
        return emu_error(cudaErrorInvalidValue);
    if (!fits(kind, target, source))
        return emu_error(cudaErrorInvalidMemcpyDirection);
    if (target == EMU_PAGEABLE || target == EMU_PINNED)
        swt_emu_host_call("a copy to the host");
    const struct CUstream_st *const s = emu_stream_find(stream);
    const bool pageable = source == EMU_PAGEABLE || target == EMU_PAGEABLE;
    if (s != NULL && s->captured && pageable)
        return emu_error(emu_capture_refuses_stream(s));
    /* CUDA takes what pageable memory holds at the call; pinned memory is read when it is due. */
    const size_t staged = source == EMU_PAGEABLE ? bytes : 0;
    copy *const c = malloc(sizeof *c + staged);
    if (c == NULL)
        return emu_error(cudaErrorMemoryAllocation);
    *c = (copy){.to = to, .from = staged > 0 ? NULL : from, .bytes = bytes};
    memcpy(c->staged, from, staged);
    const cudaError_t error =
        swt_emu_enqueue(stream, "cudaMemcpyAsync", run_copy, c, sizeof *c + staged);
    free(c);
    /* And it does not return before pageable memory holds what was copied: whoever waits here
     * cannot hear of a lost peer. */
    return error == cudaSuccess && target == EMU_PAGEABLE ? cudaStreamSynchronize(stream)
                                                          : emu_error(error);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    swt_emu_host_call("cudaMemcpy");
    const cudaError_t error = emu_capture_refuses();
    if (error != cudaSuccess)
        return emu_error(error);
    const cudaError_t queued = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    return queued != cudaSuccess ? queued : cudaStreamSynchronize(NULL);
}

cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream) {
    if (bytes == 0)
        return cudaSuccess;
    if (!swt_emu_on_gpu(memory, bytes, true))
        return emu_error(cudaErrorInvalidValue);
    const copy c = {.to = memory, .bytes = bytes, .byte = byte};
    return emu_error(swt_emu_enqueue(stream, "cudaMemsetAsync", run_set, &c, sizeof c));
}
