/* The calls that nvcc's objects make of CUDA's runtime when a program starts and when it launches a
 * kernel. A program's own fat binaries are read at their first launch: objects register before this
 * file's variables are made. */
#include "tests/ptx/core.h"
#include "tests/ptx/cover.h"
#include "tests/ptx/fatbin.h"
#include "tests/ptx/ptx.h"

namespace ptx {

/* Numbers of objects and kernels that a program may have. */
enum { OBJECTS = 64, KERNELS = 1024 };

/* A function of the host that launches a kernel, by its address. */
struct stub {
    size_t object;
    const void *function;
    const char *name;
    const kernel *k; /* NULL: not looked for yet */
};

static const void *objects[OBJECTS];
static const module *modules_of[OBJECTS];
static stub stubs[KERNELS];
static size_t object_count, stub_count;

static void load_objects() {
    static size_t loaded;
    for (; loaded < object_count; loaded++)
        modules_of[loaded] = load(ptx_of(objects[loaded]));
}

void load_program() {
    load_objects();
    for (size_t n = 0; n < stub_count; n++)
        (void)find_kernel(modules_of[stubs[n].object], stubs[n].name);
}

/* A launch waits between <<<...>>> and the function that makes it. */
static struct {
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
} pushed;

} // namespace ptx

using namespace ptx;

extern "C" {

void **__cudaRegisterFatBinary(const void *fat) {
    if (object_count == OBJECTS)
        swt_emu_stop("PTX: more than %d objects with kernels", OBJECTS);
    cover_at_exit();
    objects[object_count++] = fat;
    return reinterpret_cast<void **>(object_count); /* a handle: its number, from 1 */
}

void __cudaRegisterFatBinaryEnd(void **handle) {
    (void)handle;
}

void __cudaUnregisterFatBinary(void **handle) {
    (void)handle;
}

void __cudaRegisterFunction(void **handle, const char *function, char *device_function,
                            const char *name, int thread_limit, uint3 *tid, uint3 *bid,
                            dim3 *block_dim, dim3 *grid_dim, int *warp_size) {
    (void)device_function, (void)thread_limit, (void)tid, (void)bid;
    (void)block_dim, (void)grid_dim, (void)warp_size;
    if (stub_count == KERNELS)
        swt_emu_stop("PTX: more than %d kernels", KERNELS);
    stubs[stub_count++] = {reinterpret_cast<size_t>(handle) - 1, function, name, nullptr};
}

cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *function) {
    load_objects();
    for (size_t n = 0; n < stub_count; n++) {
        stub &s = stubs[n];
        if (s.function != function)
            continue;
        if (s.k == nullptr)
            s.k = find_kernel(modules_of[s.object], s.name);
        if (s.k == nullptr)
            swt_emu_stop("PTX: no kernel %s in its object", s.name);
        *out = reinterpret_cast<cudaKernel_t>(const_cast<kernel *>(s.k));
        return cudaSuccess;
    }
    swt_emu_stop("PTX: a launch of what is no kernel");
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                     struct CUstream_st *stream) {
    pushed = {grid, block, shared_bytes, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes,
                                       void *stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared_bytes = pushed.shared_bytes;
    *static_cast<cudaStream_t *>(stream) = pushed.stream;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 grid, dim3 block, void **arguments,
                               size_t shared_bytes, cudaStream_t stream) {
    return launch(reinterpret_cast<const kernel *>(k), grid, block, arguments, shared_bytes,
                  stream);
}
}
