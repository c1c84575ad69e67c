/* Instructions made wrong, to see whether a test notices. */
#ifndef SWT_PTX_MUTATE_H
#define SWT_PTX_MUTATE_H

#include "tests/ptx/ptx.h"

namespace ptx {

/* What would be made wrong of an instruction, and that; "": nothing is known for it. */
std::string mutant_of(const kernel &k, size_t number, instruction &made);

/* If SWT_PTX_MUTANT=KERNEL:NUMBER names an instruction of this kernel: make it wrong. */
void mutate(kernel &k);

} // namespace ptx

#endif
