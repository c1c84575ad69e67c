/* What the sources of the emulated platform share among themselves. */
#ifndef SWT_EMU_CORE_H
#define SWT_EMU_CORE_H

#include "tests/emu/emu.h"

/* SWT_EMU_ORDER; 0 is the laziest order. */
uint64_t emu_seed(void);

/* A number below n, of the sequence that the seed starts. */
uint32_t emu_random(uint32_t n);

/* The value of an environment variable, within [low, high]. */
uint64_t emu_setting(const char *name, uint64_t value, uint64_t low, uint64_t high);

/* Note the error for cudaGetLastError and return it. */
cudaError_t emu_error(cudaError_t error);

/* The GPU that calls mean (cudaSetDevice). */
int emu_device(void);

/* What the memory that a pointer is in is. */
typedef enum emu_kind { EMU_PAGEABLE, EMU_PINNED, EMU_MANAGED, EMU_GPU, EMU_OUTSIDE } emu_kind;

/* Of a range: EMU_OUTSIDE if it begins in an allocation and leaves it. */
emu_kind emu_memory_kind(const void *memory, size_t bytes);

/* Let the host touch the GPU's memory or not. */
void emu_memory_open(void);
void emu_memory_close(void);

/* Run all queues of the process until they are empty. */
void emu_drain(void);

/* What a call that real graph capture refuses returns; ends the captures that go on. */
cudaError_t emu_capture_refuses(void);

enum { EMU_POOLS = 3 }; /* sets of ThreadSanitizer fibers that streams are spread over */

/* The pool of the stream whose work runs. */
extern int emu_pool;

#endif
