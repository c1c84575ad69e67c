/* Small texts in PTX for the interpreter's tests: a kernel around some instructions. */
#ifndef SWT_PTX_SMALL_H
#define SWT_PTX_SMALL_H

#include "tests/emu/bed.h"
#include "tests/ptx/ptx.h"

#include <string>

/* A kernel with one parameter, the address of `out`, and these instructions. They find registers of
 * each kind, %rd0 with the address, %r0 with the thread's number and %rd1 with four times that, and
 * 1,024 bytes of shared memory, `tile`. */
static inline const ptx::kernel *small_kernel(const std::string &instructions) {
    const std::string text = ".version 9.0\n.target sm_80\n.address_size 64\n"
                             ".visible .entry small(\n.param .u64 out\n)\n{\n"
                             ".reg .pred %p<8>; .reg .b16 %rs<16>; .reg .b32 %r<32>;\n"
                             ".reg .b64 %rd<16>; .reg .f32 %f<8>; .reg .f64 %fd<8>;\n"
                             ".shared .align 16 .b8 tile[1024];\n"
                             "ld.param.u64 %rd0, [out];\nmov.u32 %r0, %tid.x;\n"
                             "mul.wide.u32 %rd1, %r0, 4;\n" +
                             instructions + "\nret;\n}\n";
    return ptx::find_kernel(ptx::load(text), "small");
}

/* Run it on one block; `out` is managed memory. */
static inline void run_small(const std::string &instructions, unsigned threads, void *out) {
    const void *const arguments[] = {&out};
    OK(ptx::launch(small_kernel(instructions), 1, threads, arguments, 0, nullptr));
    OK(cudaDeviceSynchronize());
}

#endif
