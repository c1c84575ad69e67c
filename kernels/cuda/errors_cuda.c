/* What went wrong in the CUDA runtime, as one line each. */
#include "kernels/cuda/device.h"

#include <stdlib.h>

/* Errors after which the process can do nothing more on the GPU: whatever is called next reports
 * them again, so the call that reports one need not have caused it. */
static bool is_lost(cudaError_t error) {
    switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
        return true;
    default:
        return false;
    }
}

/* Length of a call's text without its arguments. */
static int name_length(const char *call) {
    int n = 0;
    while (call[n] != '\0' && call[n] != '(')
        n++;
    return n;
}

swt_status swt_cuda_check(cudaError_t error, const char *call, const char *file, int line) {
    if (error == cudaSuccess)
        return SWT_OK;
    (void)cudaGetLastError(); /* or the next launch would report it once more */
    const int n = name_length(call);
    const char *name = cudaGetErrorName(error), *text = cudaGetErrorString(error);
    if (is_lost(error))
        return swt_fail(SWT_INTERNAL, file, line,
                        "cuda: %.*s met what an earlier kernel or the GPU did: %s (%s); the GPU "
                        "takes no more work, start the program again",
                        n, call, text, name);
    if (error == cudaErrorMemoryAllocation)
        return swt_fail(SWT_MEMORY, file, line,
                        "cuda: %.*s found no memory; use smaller batches or more ranks", n, call);
    return swt_fail(SWT_INTERNAL, file, line, "cuda: %.*s failed: %s (%s)", n, call, text, name);
}

swt_status swt_cuda_launched(const char *kernel, const char *file, int line) {
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess)
        return SWT_OK;
    const char *name = cudaGetErrorName(error), *text = cudaGetErrorString(error);
    if (is_lost(error))
        return swt_fail(
            SWT_INTERNAL, file, line,
            "cuda: the launch of %s met what an earlier kernel or the GPU did: %s (%s); "
            "the GPU takes no more work, start the program again",
            kernel, text, name);
    return swt_fail(SWT_INTERNAL, file, line, "cuda: kernel %s was not launched: %s (%s)", kernel,
                    text, name);
}

/* Versions are 1000 major + 10 minor. The runtime says "insufficient driver" without any driver,
 * too. */
static swt_status no_driver(void) {
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaGetLastError();
    if (driver == 0)
        return SWT_FAIL(USAGE, "--device cuda: no NVIDIA driver is installed; "
                               "install one, or use --device cpu");
    return SWT_FAIL(USAGE,
                    "--device cuda: the NVIDIA driver is too old: it serves CUDA up to %d.%d, this "
                    "program needs %d.%d; install a newer driver, or use --device cpu",
                    driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}

static swt_status no_device(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL)
        return SWT_FAIL(USAGE,
                        "--device cuda: no GPU is visible, CUDA_VISIBLE_DEVICES is '%.200s'; unset "
                        "it, or use --device cpu",
                        visible);
    return SWT_FAIL(USAGE, "--device cuda: this machine shows no GPU to this process; "
                           "use --device cpu");
}

swt_status swt_cuda_count(int *count) {
    *count = 0;
    const cudaError_t error = cudaGetDeviceCount(count);
    if (error != cudaSuccess) {
        *count = 0;
        (void)cudaGetLastError();
    }
    if (error == cudaErrorInsufficientDriver)
        return no_driver();
    if (error == cudaErrorNoDevice || (error == cudaSuccess && *count == 0))
        return no_device();
    if (error != cudaSuccess)
        return SWT_FAIL(USAGE, "--device cuda: no GPU can be used: %s (%s); use --device cpu",
                        cudaGetErrorString(error), cudaGetErrorName(error));
    return SWT_OK;
}
