#!/usr/bin/env bash
# A bundle of launch/gpu-bundle works where there is nothing but a C library and Python: made for the emulated GPU, unpacked in a
# root folder of its own without a network, it checks everything that needs no numpy and packs a report; with a planted fault
# the report is red, and a budget that has run out leaves parts out.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
own=(--user --map-root-user) # who is root already needs no users of its own, which a root folder in a root folder may not have
[ "$(id -u)" != 0 ] || own=()
unshare "${own[@]}" --net --mount true 2>/dev/null || { echo "skipped: no root folder of its own is allowed here"; exit 77; }

wrong() {
    printf 'FAILED: %s\n' "$*"
    failed=1
}
failed=0

"$root/launch/gpu-bundle" --emulated --out "$work/made" >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }

# A C library and Python, as this machine has them, and nothing else.
bare=$work/bare
python=$(PATH=/usr/bin:$PATH python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
mkdir -p "$bare"/{usr/bin,bin,tmp,dev,proc,elsewhere,reports}
copy() {
    mkdir -p "$bare$(dirname "$1")"
    cp -aL "$1" "$bare$1"
}
# What they load, of which the loader's own line has no arrow.
libraries_of() {
    ldd "$@" 2>/dev/null | sed -nE 's|^(.*=>)?\s+(/[^ ]+) \(0x.*|\2|p' | sort -u |
        while read -r library; do [ -e "$bare$library" ] || copy "$library"; done
}
for program in "$python" /bin/sh /usr/bin/dirname; do
    copy "$program"
    libraries_of "$program"
done
ln -sf "$python" "$bare/usr/bin/python3"
stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
mkdir -p "$bare$(dirname "$stdlib")"
cp -a "$stdlib" "$bare$(dirname "$stdlib")/"
rm -rf "$bare$stdlib"/{site,dist}-packages
libraries_of "$stdlib"/lib-dynload/*.so
tar -C "$bare/elsewhere" -xzf "$work/made.tar.gz"

# check NAME ARGUMENT...: in there; the exit code is in $code, results.json of the packed report in $work/NAME.
check() {
    local name=$1
    shift
    code=0
    touch "$bare/dev/null"
    # shellcheck disable=SC2016
    unshare "${own[@]}" --net --mount --pid --fork sh -c '
        bare=$1 && shift && mount -t proc proc "$bare/proc" && mount --bind /dev/null "$bare/dev/null" && exec chroot "$bare" "$@"' \
        sh "$bare" /bin/sh -c 'cd /reports && PATH=/usr/bin:/bin SWT_EMU_GPUS=1 SWT_EMU_NCCL_VERSION=23007 exec /elsewhere/made/gpu-check "$@"' sh \
        --pack "/reports/$name.tar.gz" --out "/reports/$name" "$@" >"$work/$name.said" 2>&1 || code=$?
    tar -xzOf "$bare/reports/$name.tar.gz" "$name/results.json" >"$work/$name" || wrong "$name: no report: $(tail -n 3 "$work/$name.said")"
}
status_of() {
    python3 -c 'import json, sys
print(next(p["status"] for p in json.load(open(sys.argv[1]))["parts"] if p["part"] == sys.argv[2]))' "$work/$1" "$2"
}

check green
[ "$code" = 0 ] || wrong "green: exit code $code: $(tail -n 30 "$work/green.said")"
for part in machine selftest tests "same bits" "losses of the CPU" products "two ranks on one GPU" "bench_ops bf16" "bench_step fp32"; do
    [ "$(status_of green "$part")" = ok ] || wrong "green: $part is $(status_of green "$part")"
done

# An older NCCL lets no ranks share a GPU, and the part says so.
code=0
"$work/made/tests/gpu_test_shared_gpu" >"$work/older" || code=$?
[[ $code = 77 && $(cat "$work/older") = "skipped: two ranks"* ]] || wrong "an older NCCL: exit code $code: $(cat "$work/older")"

# No time: all that takes some is left out, and the report says so.
check late --budget 2
[[ $code = 0 && $(status_of late tests) = skipped ]] || wrong "late: exit code $code, tests are $(status_of late tests)"

# Planted: a program whose selftest fails.
mv "$bare/elsewhere/made/swt-dist" "$bare/elsewhere/made/swt-dist.good"
printf '#!/bin/sh\necho "error: planted"\nexit 5\n' >"$bare/elsewhere/made/swt-dist"
chmod +x "$bare/elsewhere/made/swt-dist"
check planted --budget 15
[[ $code = 1 && $(status_of planted selftest) = FAILED ]] || wrong "planted: exit code $code, selftest is $(status_of planted selftest)"
exit $failed
