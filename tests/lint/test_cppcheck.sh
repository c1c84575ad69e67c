#!/usr/bin/env bash
# cppcheck finds nothing in the program's own code.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"
cppcheck=$(need cppcheck)

# It takes a vector of the vec/ code that is filled lane by lane for one that is read unset.
check() {
    local folder folders=()
    for folder in src kernels comm bench; do
        [ ! -d "$folder" ] || folders+=("$folder")
    done
    "$cppcheck" --quiet -j2 --language=c --std=c11 --enable=warning,performance,portability \
        --error-exitcode=1 --inline-suppr --suppress=missingIncludeSystem \
        '--suppress=uninitvar:kernels/cpu/vec/*' '--suppress=legacyUninitvar:kernels/cpu/vec/*' -I. -Isrc \
        -D__cppcheck__ -D_POSIX_C_SOURCE=200809L -DSWT_X86 '-DSWT_VERSION=""' \
        --template='{file}:{line}: {id}: {message}' "${folders[@]}" 2>&1
}

lint
caught src/base/a.c 'int f(void) { int a[2]; a[2] = 1; return a[0]; }'
caught kernels/a.c '#include <stdio.h>
void f(const char *path) { FILE *g = fopen(path, "r"); if (g) fgetc(g); }'
accepted src/base/a.c 'int f(int a) { return a; }'
verdict
