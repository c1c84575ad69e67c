/* Fibers: stacks that one host thread switches between. Each is known to AddressSanitizer and is a
 * thread to ThreadSanitizer, its own or another fiber's. Internal to the emulated platform. */
#ifndef SWT_EMU_FIBER_H
#define SWT_EMU_FIBER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* ThreadSanitizer runs, though this file is not instrumented (CMakeLists.txt). Only what the
 * program says to it orders two fibers. */
#ifdef SWT_EMU_TSAN
#include <sanitizer/tsan_interface.h>
void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);
#define tsan_ignore_begin __tsan_ignore_thread_begin
#define tsan_ignore_end   __tsan_ignore_thread_end

static inline void tsan_acquire(void *address) {
    __tsan_acquire(address);
}
static inline void tsan_release(void *address) {
    __tsan_release(address);
}
#else
/* Between these, memory that is allocated or freed becomes unknown to ThreadSanitizer. */
static inline void tsan_ignore_begin(void) {
}
static inline void tsan_ignore_end(void) {
}
static inline void tsan_acquire(void *address) {
    (void)address;
}
static inline void tsan_release(void *address) {
    (void)address;
}
#endif

typedef struct emu_fiber emu_fiber;

/* A fiber that calls body() when it is first switched to; body never returns. To
 * ThreadSanitizer it is the same thread as its mate, if it has one. */
emu_fiber *emu_fiber_create(size_t stack_bytes, void (*body)(void), const emu_fiber *mate);

void emu_fiber_destroy(emu_fiber *fiber);

/* The fiber that runs; the host thread itself is one. */
emu_fiber *emu_fiber_self(void);

void emu_fiber_switch(emu_fiber *to);

#endif
