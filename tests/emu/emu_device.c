/* GPUs that are shown, errors, versions, and the rule of the step. */
#include "tests/emu/emu_core.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GPUS = 8, GPUS_MAX = 64, OLD_DRIVER = 11080 /* CUDA 11.8 */ };

static int current;
static cudaError_t last = cudaSuccess;
static bool in_step;

void swt_emu_stop(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("swt-emu: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

uint64_t emu_setting(const char *name, uint64_t value, uint64_t low, uint64_t high) {
    const char *const text = getenv(name);
    if (text == NULL || *text == '\0')
        return value;
    char *end = NULL;
    value = strtoull(text, &end, 10);
    if (*end != '\0' || value < low || value > high)
        swt_emu_stop("%s is %s; it must be a number of %llu..%llu", name, text,
                     (unsigned long long)low, (unsigned long long)high);
    return value;
}

static bool seed_known;
static uint64_t seed, random_state;

void swt_emu_set_order(uint64_t order) {
    seed = order;
    random_state = order * 0x9e3779b97f4a7c15u;
    seed_known = true;
}

uint64_t emu_seed(void) {
    if (!seed_known)
        swt_emu_set_order(emu_setting("SWT_EMU_ORDER", 0, 0, UINT64_MAX));
    return seed;
}

uint32_t emu_random(uint32_t n) {
    /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) % n);
}

/* -- the step --------------------------------------------------------------------------------- */

void swt_emu_step_begin(void) {
    in_step = true;
}

void swt_emu_step_end(void) {
    in_step = false;
}

void swt_emu_host_call(const char *call) {
    if (in_step)
        swt_emu_stop("%s inside a step: no host in the loop", call);
}

/* -- errors ----------------------------------------------------------------------------------- */

cudaError_t emu_error(cudaError_t error) {
    if (error != cudaSuccess)
        last = error;
    return error;
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

#define ERRORS(X)                                                                                  \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")                        \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated,                                                           \
      "operation failed due to a previous error during capture")                                   \
    X(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began")     \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                        \
    X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")  \
    X(cudaErrorStreamCaptureImplicit,                                                              \
      "operation would make the legacy stream depend on a capturing blocking stream")              \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing "  \
                              "stream")                                                            \
    X(cudaErrorUnknown, "unknown error")

#define ERROR_NAME(error, text)                                                                    \
    case error:                                                                                    \
        return #error;
#define ERROR_TEXT(error, text)                                                                    \
    case error:                                                                                    \
        return text;

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
        ERRORS(ERROR_NAME)
    default:
        return "unrecognized error code";
    }
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
        ERRORS(ERROR_TEXT)
    default:
        return "unrecognized error code";
    }
}

/* -- devices ---------------------------------------------------------------------------------- */

int emu_device(void) {
    return current;
}

/* SWT_EMU_GPUS are shown; of those that all processes share, the first is SWT_EMU_FIRST_GPU. */
static int gpus(void) {
    return (int)emu_setting("SWT_EMU_GPUS", GPUS, 0, GPUS_MAX);
}

/* The newest CUDA that the driver serves: SWT_EMU_DRIVER is "none" (no driver is installed) or
 * "old"; without it the driver is as new as the runtime. */
static int driver_version(void) {
    const char *const driver = getenv("SWT_EMU_DRIVER");
    if (driver == NULL)
        return CUDART_VERSION;
    if (strcmp(driver, "none") == 0)
        return 0;
    if (strcmp(driver, "old") == 0)
        return OLD_DRIVER;
    swt_emu_stop("SWT_EMU_DRIVER is %s; it must be none or old", driver);
}

/* No driver and an old one are the same error. */
cudaError_t cudaGetDeviceCount(int *count) {
    const bool fits = driver_version() >= CUDART_VERSION;
    *count = fits ? gpus() : 0;
    if (!fits)
        return emu_error(cudaErrorInsufficientDriver);
    return *count > 0 ? cudaSuccess : emu_error(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= gpus())
        return emu_error(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = driver_version();
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    if (device < 0 || device >= gpus())
        return emu_error(cudaErrorInvalidDevice);
    size_t unused = 0;
    memset(p, 0, sizeof *p);
    (void)snprintf(p->name, sizeof p->name, "Emulated GPU");
    (void)cudaMemGetInfo(&unused, &p->totalGlobalMem);
    p->major = 9;
    p->minor = 0;
    p->warpSize = 32;
    p->multiProcessorCount = 4;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerBlock = 48 * 1024;
    p->sharedMemPerBlockOptin = 48 * 1024;
    p->sharedMemPerMultiprocessor = 64 * 1024;
    p->regsPerBlock = 65536;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = INT32_MAX;
    p->maxGridSize[1] = p->maxGridSize[2] = UINT16_MAX;
    p->managedMemory = p->unifiedAddressing = p->concurrentManagedAccess = 1;
    p->asyncEngineCount = 1;
    p->concurrentKernels = 1;
    p->pciBusID = (int)emu_setting("SWT_EMU_FIRST_GPU", 0, 0, GPUS_MAX) + device + 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp p;
    const cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess)
        return error;
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        return cudaSuccess;
    case cudaDevAttrManagedMemory:
    case cudaDevAttrConcurrentManagedAccess:
        *value = 1;
        return cudaSuccess;
    default:
        swt_emu_stop("cudaDeviceGetAttribute(%d): not emulated", (int)attribute);
    }
}
