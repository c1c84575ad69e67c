#!/usr/bin/env bash
# fuzz.sh BUILD TARGET: 20 seconds of libFuzzer on one target of targets.c, from its corpus; SWT_FUZZ_SECONDS and
# SWT_LONG=1 (two minutes) make it longer. A finding is left in BUILD/fuzz/TARGET and printed; once mended, it goes
# into tests/fuzz/corpus/TARGET under a name that says what it is. Exits 77 where clang or its libFuzzer is missing.
set -euo pipefail
build=$1 target=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$build/fuzz/fuzz_parsers
[ -x "$program" ] || {
    echo "skipped: no clang with libFuzzer (libclang-rt-14-dev) was here at configuration"
    exit 77
}
seconds=20
[ "${SWT_LONG:-0}" = 0 ] || seconds=120
found=$build/fuzz/$target
mkdir -p "$found"
grown=$(mktemp -d)
trap 'rm -rf "$grown"' EXIT
SWT_FUZZ_TARGET=$target "$program" -max_total_time="${SWT_FUZZ_SECONDS:-$seconds}" -max_len=4096 -timeout=5 \
    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$found/" "$grown" "$here/corpus/$target"
