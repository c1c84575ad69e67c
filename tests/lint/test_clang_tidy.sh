#!/usr/bin/env bash
# clang-tidy finds nothing in the program's own code (.clang-tidy selects the checks).
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"
tidy=$(need clang-tidy 14)
compile_commands=$build

# Sources that include CUDA's headers are read with those that a build on the emulated GPU found, which may be none.
cuda='^(kernels/cuda/|comm/comm_nccl)'
headers=
for cache in "$root"/build/*/CMakeCache.txt; do
    [ -n "$headers" ] || headers=$(sed -n 's/^SWT_CUDA_HEADERS:PATH=//p' "$cache")
    [ -f "$headers/cuda_runtime_api.h" ] || headers=
done
[ -n "$headers" ] || echo "left out: sources of the GPU backend (no build has CUDA's headers)"

# Paths through a function are followed up to so many nodes: some dozens of functions have more, and take half of the time.
nodes=50000
[ "${SWT_LONG:-0}" = 0 ] || nodes=225000 # the analyzer's own limit

# One file a run: with several, clang-tidy 14 takes every va_list of the later ones for unset.
tidy() {
    xargs -r -n 1 -P 2 "$tidy" --quiet --config-file="$root/.clang-tidy" -p "$compile_commands" \
        --extra-arg={-Xclang,-analyzer-config,-Xclang,max-nodes=$nodes} \
        --extra-arg=-U_FORTIFY_SOURCE "$@" 2>/dev/null # its macros are not our code
}
check() {
    local all
    all=$(files src kernels comm bench -- '*.c')
    grep -vE "$cuda" <<<"$all" | tidy
    [ -z "$headers" ] || grep -E "$cuda" <<<"$all" | tidy --extra-arg=-isystem"$headers"
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
[ -z "$headers" ] || caught kernels/cuda/a_cuda.c '#include <cuda_runtime_api.h>
#include <stdlib.h>
int f(int *a) { free(a); return *a; }'
accepted src/base/a.c 'int f(int a) { return a; }'
verdict
