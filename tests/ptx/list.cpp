/* Prints every instruction of the program's kernels: KERNEL, NUMBER, line in the PTX, source,
 * instruction, and what mutate.cpp would make wrong of it; between tabulators. */
#include "tests/ptx/cover.h"
#include "tests/ptx/mutate.h"

#include <stdio.h>

int main() {
    ptx::load_program();
    for (const ptx::kernel &k : ptx::ready_kernels())
        for (size_t n = 0; n < k.code.size(); n++) {
            const ptx::origin &o = k.origins[n];
            ptx::instruction made;
            printf("%s\t%zu\t%d\t%s\t%s\t%s\n", k.name.c_str(), n, o.line,
                   ptx::source_of(k, o).c_str(), o.text.c_str(),
                   ptx::mutant_of(k, n, made).c_str());
        }
    return fflush(stdout) == 0 ? 0 : 1;
}
