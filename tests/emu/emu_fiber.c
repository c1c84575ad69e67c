#include "tests/emu/emu_fiber.h"

#include "tests/emu/emu.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

struct emu_fiber {
#ifdef __x86_64__
    void *stack_pointer; /* while it does not run */
#else
    ucontext_t context;
#endif
    void (*body)(void);
    unsigned char *stack; /* of the host thread: known to AddressSanitizer alone */
    size_t stack_bytes;
    void *fake_stack; /* AddressSanitizer's */
    void *tsan;       /* ThreadSanitizer's */
};

#ifdef SWT_EMU_TSAN
/* Hundreds of fibers with long histories would take gigabytes; nobody waits for threads at exit. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "history_size=0:atexit_sleep_ms=0";
}
#endif

static emu_fiber host;
static emu_fiber *running = &host;
static emu_fiber *left; /* the fiber that the last switch came from */

emu_fiber *emu_fiber_self(void) {
    return running;
}

/* First and last thing on the fiber that is switched to. */
static void arrive(void) {
#ifdef __SANITIZE_ADDRESS__
    const void *bottom = NULL;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(running->fake_stack, &bottom, &bytes);
    if (left == &host) {
        host.stack = (unsigned char *)(uintptr_t)bottom;
        host.stack_bytes = bytes;
    }
#endif
}

/* Where a fiber begins. */
static void begin(void) {
    arrive();
    running->body();
    swt_emu_stop("a fiber came to its end");
}

#ifdef __x86_64__
/* Save the registers that a call keeps on this stack, its pointer in *from; continue on `to`. */
void swt_emu_switch_stack(void **from, void *to);
__asm__(".text\n"
        ".globl swt_emu_switch_stack\n"
        ".type swt_emu_switch_stack, @function\n"
        "swt_emu_switch_stack:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size swt_emu_switch_stack, .-swt_emu_switch_stack\n");

static void prepare(emu_fiber *f) {
    /* Six registers, begin() as the address to return to, and 0 as begin()'s own. */
    void **top = (void **)(void *)(f->stack + f->stack_bytes);
    memset(top - 8, 0, 8 * sizeof *top);
    void (*const entry)(void) = begin;
    memcpy(top - 2, &entry, sizeof entry);
    f->stack_pointer = top - 8;
}
#else
static void prepare(emu_fiber *f) {
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->stack_bytes;
    makecontext(&f->context, begin, 0);
}
#endif

emu_fiber *emu_fiber_create(size_t stack_bytes, void (*body)(void), const emu_fiber *mate) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    emu_fiber *const f = calloc(1, sizeof *f);
    /* One page below it is left closed, so that an overflow is a fault. */
    unsigned char *const map = mmap(NULL, stack_bytes + page, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f == NULL || map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0)
        swt_emu_stop("no memory for a fiber");
    f->body = body;
    f->stack = map + page;
    f->stack_bytes = stack_bytes;
#ifdef SWT_EMU_TSAN
    f->tsan = mate != NULL ? mate->tsan : __tsan_create_fiber(0);
#else
    (void)mate;
#endif
    prepare(f);
    return f;
}

void emu_fiber_destroy(emu_fiber *fiber) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
#ifdef SWT_EMU_TSAN
    __tsan_destroy_fiber(fiber->tsan);
#endif
    munmap(fiber->stack - page, fiber->stack_bytes + page);
    free(fiber);
}

void emu_fiber_switch(emu_fiber *to) {
    emu_fiber *const from = running;
    if (to == from)
        return;
    left = from;
    running = to;
#ifdef SWT_EMU_TSAN
    if (host.tsan == NULL)
        host.tsan = __tsan_get_current_fiber();
    if (to->tsan != from->tsan)
        __tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef __x86_64__
    swt_emu_switch_stack(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrive();
}
