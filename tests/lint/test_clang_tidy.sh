#!/usr/bin/env bash
# clang-tidy finds nothing in the program's own code (.clang-tidy selects the checks).
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"
tidy=$(need clang-tidy 14)
compile_commands=$build

# One file a run: with several, clang-tidy 14 takes every va_list of the later ones for unset.
check() {
    files src kernels comm bench -- '*.c' | xargs -r -n 1 -P 2 "$tidy" --quiet \
        --config-file="$root/.clang-tidy" -p "$compile_commands" 2>/dev/null
}

if [ ! -f "$build/compile_commands.json" ]; then
    echo "$build: not configured"
    exit 1
fi
lint
# The planted files have no compile commands; an empty list lets the defaults serve.
compile_commands=$planted/none
caught src/base/a.c '#include <stdlib.h>
int f(int *a) { free(a); return *a; }'
caught src/base/a.c '#include <string.h>
int f(const char *a) { if (strcmp(a, "b")) return 1; char c[2]; return memcmp(a, c, sizeof(a)); }'
accepted src/base/a.c 'int f(int a) { return a; }'
verdict
