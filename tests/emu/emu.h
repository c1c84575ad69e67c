/* The emulated CUDA platform: what its parts, the stand-ins for CUDA's libraries (cuBLASLt, NCCL)
 * and the tests share. C and C++.
 *
 * Work that is queued on a stream does not run: it runs when somebody waits for it, in an order
 * that the environment variable SWT_EMU_ORDER (a number, 0: the laziest order) shuffles within what
 * streams and events allow. The memory of a GPU is closed to the host except while work runs. One
 * host thread speaks to the platform.
 *
 * Environment: SWT_EMU_ORDER; SWT_EMU_GPUS, how many GPUs there are (8); SWT_EMU_GPU_BYTES, the
 * memory of each (16 GiB); SWT_EMU_DRIVER, none or old: no driver, or one that is too old;
 * SWT_EMU_NCCL_TIMEOUT, the seconds after which a silent peer is lost (60); SWT_EMU_NCCL_STOP=N,
 * rank 0 stands still at its launch N; SWT_EMU_NCCL_VERSION, of a library that is not the header's.
 */
#ifndef SWT_EMU_H
#define SWT_EMU_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Do the work, or a part of it: true if it is done, false if it waits for something (it is called
 * again then). The GPU's memory is open during the call alone: what goes on in between, like a
 * transfer of MPI's, must use memory of its own. Must not call the CUDA runtime. */
typedef bool (*swt_emu_work)(void *data);

/* Queue work on a stream (NULL: the legacy default stream), or add it to the graph that the stream
 * is captured into. The bytes at `data` are copied at the call; every run gets a fresh copy of them
 * that it may write to, so a graph can run it many times. `name` must live for ever.
 * Errors: as a kernel launch has them (cudaErrorStreamCapture*). */
cudaError_t swt_emu_enqueue(cudaStream_t stream, const char *name, swt_emu_work work,
                            const void *data, size_t bytes);

/* `progress` is called again and again while a wait finds no work that can go on. Without it such a
 * wait is a deadlock, and reported. */
void swt_emu_on_wait(void (*progress)(void));

/* Let the work of all streams go on as far as it does without waiting: for calls outside CUDA that
 * block (MPI's), where a GPU would go on by itself. True if something went on. */
bool swt_emu_poll(void);

/* True if all bytes are inside one living allocation that a GPU can use: cudaMalloc's or
 * cudaMallocManaged's, with `pinned` also cudaHostAlloc's. */
bool swt_emu_on_gpu(const void *memory, size_t bytes, bool pinned);

/* For tests: what SWT_EMU_ORDER says, from here on. */
void swt_emu_set_order(uint64_t seed);

/* Between these calls every allocation, every wait of the host, every copy to the host and every
 * search for a product's algorithm stops the program: no host in the loop of a step. */
void swt_emu_step_begin(void);
void swt_emu_step_end(void);

/* For such a call: stops the program inside a step. */
void swt_emu_host_call(const char *call);

/* Print "swt-emu: ..." on standard error and abort. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
void swt_emu_stop(const char *format, ...);

#ifdef __cplusplus
}
#endif

#endif
