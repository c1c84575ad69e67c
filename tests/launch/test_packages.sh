#!/usr/bin/env bash
# Where something is missing, configuring says the one line that installs it; its packages are those that launch/lib.sh installs.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# shellcheck source=launch/lib.sh
. "$root/launch/lib.sh"
failed=0

# expect PATTERN FLAG...: configuring fails so.
expect() {
    local pattern=$1 out
    shift
    rm -rf "$tree/build"
    if out=$(cmake -G Ninja -S "$root" -B "$tree/build" "$@" 2>&1) || ! grep -qE -- "$pattern" <<<"$out"; then
        printf 'cmake %s: did not fail with "%s":\n%s\n' "$*" "$pattern" "$out"
        failed=1
    fi
}

without=-DCMAKE_DISABLE_FIND_PACKAGE_
install='apt-get install -y --no-install-recommends'
expect "$install libopenmpi-dev openmpi-bin libcmocka-dev\$" ${without}MPI=ON ${without}cmocka=ON
expect 'DBUILD_TESTING=OFF' ${without}cmocka=ON
expect "$install libopenmpi-dev openmpi-bin pkg-config libyaml-dev libjansson-dev libxxhash-dev librandom123-dev\$" ${without}PkgConfig=ON \
    -DBUILD_TESTING=OFF -DSWT_RANDOM123_INCLUDE=SWT_RANDOM123_INCLUDE-NOTFOUND -DCMAKE_FIND_ROOT_PATH="$tree" \
    -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY
CUDACXX=$tree/nvcc expect 'No nvcc was found' -DSWT_CUDA=ON

named=$(sed -n 's/^ *swt_needs([A-Za-z0-9_]* \(.*\))$/\1/p' "$root/CMakeLists.txt" | tr ' ' '\n' | sort)
listed=$(printf '%s\n' "${SWT_BUILD_PACKAGES[@]}" libcmocka-dev | grep -vxE 'libc6-dev|cmake|ninja-build' | sort)
if [ "$named" != "$listed" ]; then
    printf 'CMakeLists.txt names\n%s\nand launch/lib.sh installs\n%s\n' "$named" "$listed"
    failed=1
fi
exit "$failed"
