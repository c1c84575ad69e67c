/* SWT_PTX_COVER=FILE: at the end of the process a line for each of its kernels is added to the
 * file: the name, how many instructions it has, and in hexadecimal which of them ran on any lane,
 * four to a digit, the first in its lowest bit. Processes may share the file; coverage.py reads it.
 */
#include "tests/ptx/cover.h"

#include "tests/ptx/ptx.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

namespace ptx {

static std::string ran_digits(const kernel &k) {
    std::string digits((k.code.size() + 3) / 4, '0');
    for (size_t n = 0; n < digits.size(); n++) {
        unsigned bits = 0;
        for (size_t b = 0; b < 4 && 4 * n + b < k.code.size(); b++)
            bits |= static_cast<unsigned>(k.code[4 * n + b].ran) << b;
        digits[n] = "0123456789abcdef"[bits];
    }
    return digits;
}

static void note() {
    FILE *const file = fopen(getenv("SWT_PTX_COVER"), "a");
    const double seconds = static_cast<double>(clock()) / CLOCKS_PER_SEC;
    bool good = file != nullptr && flock(fileno(file), LOCK_EX) == 0 &&
                fprintf(file, "seconds %.3f\n", seconds) > 0;
    for (const kernel &k : ready_kernels())
        good = good && fprintf(file, "%s %zu %s\n", k.name.c_str(), k.code.size(),
                               ran_digits(k).c_str()) > 0;
    if (file == nullptr || fclose(file) != 0 || !good)
        fprintf(stderr, "SWT_PTX_COVER: the file cannot be written\n");
}

void cover_at_exit() {
    static bool asked;
    const bool wanted = getenv("SWT_PTX_COVER") != nullptr && getenv("SWT_PTX_MUTANT") == nullptr;
    if (!asked && wanted && atexit(note) != 0)
        swt_emu_stop("atexit failed");
    asked = true;
}

} // namespace ptx
