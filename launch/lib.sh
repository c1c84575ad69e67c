# Shared by the launch scripts: messages, Debian packages, logged steps. Sourced, never run.
# shellcheck shell=bash disable=SC2034

SWT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What building and running needs, and what the tests and lints need on top of it (Debian names).
SWT_BUILD_PACKAGES=(gcc libc6-dev cmake ninja-build pkg-config libopenmpi-dev openmpi-bin librandom123-dev
    libyaml-dev libjansson-dev libxxhash-dev)
SWT_TEST_PACKAGES=(libcmocka-dev python3 python3-numpy clang-format clang-tidy libomp-dev cppcheck
    shellcheck curl g++ clang-14 libclang-rt-14-dev) # libomp-dev: clang-tidy finds its omp.h there; clang: libFuzzer

say() {
    printf '%s\n' "$*"
}

# fail CODE MESSAGE...: one line on standard error, then the exit code.
fail() {
    local code=$1
    shift
    printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
    exit "$code"
}

# help_of SCRIPT: the comment at its head.
help_of() {
    sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//p}}' "$1"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# logged LOG WHAT COMMAND...: run a command without input, its output into LOG. On failure show the end
# of the log and stop.
logged() {
    local log=$1 what=$2
    shift 2
    mkdir -p "$(dirname "$log")"
    printf '$ %s\n' "$*" >>"$log"
    if ! "$@" </dev/null >>"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail 1 "$what: failed; the whole output is in $log"
    fi
}

# The packages of the list that are not installed, on one line.
packages_missing() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' ||
            missing+=("$package")
    done
    printf '%s' "${missing[*]}"
}

# apt-get with nothing to ask; as root, or through sudo where that needs no password.
apt_quietly() {
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=120 \
        -o Acquire::http::Timeout=20 -o Acquire::Retries=2 "$@" </dev/null
}

# The lists of a machine may be missing or old: update them where a first try fails. An update that
# fails in part (a third party's list) may still do.
install_or_update() {
    apt_quietly install --no-install-recommends "$@" && return
    apt_quietly update || true
    apt_quietly install --no-install-recommends "$@"
}

# packages_need LOG PACKAGE...: install what is missing. Returns 2, with the one line to run, where that
# needs a password; on a system without apt-get it goes on with what is there.
packages_need() {
    local log=$1 missing
    shift
    if ! have apt-get; then
        say "    no apt-get here; going on with what is installed (needed, by Debian's names: $*)"
        return 0
    fi
    missing=$(packages_missing "$@")
    if [ -z "$missing" ]; then
        say "    all there"
        return 0
    fi
    if [ "$(id -u)" != 0 ] && ! { have sudo && sudo -n true 2>/dev/null; }; then
        say "    please run this line and start again:"
        say "    sudo apt-get install -y --no-install-recommends $missing"
        return 2
    fi
    say "    installing $missing"
    # shellcheck disable=SC2086
    logged "$log" "installing packages" install_or_update $missing
}
