#!/usr/bin/env bash
# bench/bench_<name> is this script by another name: build the measuring program of that name, quietly, and
# run it. Under MPI, where every rank would build, give build/cpu/bench/bench_<name> to launch/run instead.
set -euo pipefail

name=$(basename "$0")
if [ "$name" = program.sh ]; then
    usage='usage: bench/bench_step, bench/bench_ops, bench/bench_layer, bench/bench_comm or bench/bench_save; each has --help'
    [ "${1-}" = --help ] && { printf '%s\n' "$usage"; exit 0; }
    printf 'program.sh: error: it runs under other names; %s\n' "$usage" >&2
    exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd -P)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! {
    cd "$root"
    [ -f build/cpu/build.ninja ] || cmake --preset cpu
    cmake --build --preset cpu --target "$name"
} >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    printf '%s: error: cannot be built; launch/quickstart installs what that needs\n' "$name" >&2
    exit 1
fi
rm -f "$log"
exec "$root/build/cpu/bench/$name" "$@"
