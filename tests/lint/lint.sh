# What every lint shares; sourced by test_*.sh, which get the build folder as their argument.
#
# A lint defines `check`: run in the root of a tree, it prints a line FILE:LINE: WHAT for each violation.
# `lint` runs it on the project. `caught` and `accepted` show that it can fail and that it does not fail
# too much: they run it on a small tree with a planted file.
# shellcheck shell=bash disable=SC2034

set -euo pipefail
export LC_ALL=C
lint_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$lint_folder/../.." && pwd)
build=${1:-$root/build/cpu}
planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
lint_failed=0

# need COMMAND [MAJOR VERSION]: skip where a tool is missing, or is not the version whose judgement the
# sources follow. Prints the command to use.
need() {
    local command
    for command in "$1-${2:-}" "$1"; do
        command -v "$command" >/dev/null || continue
        [ -z "${2:-}" ] || "$command" --version | grep -q "version $2\." || continue
        printf '%s' "$command"
        return
    done
    echo "skipped: $1 ${2:-} is not installed" >&2
    exit 77
}

# files FOLDER... -- NAME PATTERN...: the project's files of these names, sorted, without what git ignores.
files() {
    local folders=() names=()
    while [ "$1" != -- ]; do
        [ ! -e "$1" ] || folders+=("$1")
        shift
    done
    shift
    for name in "$@"; do
        names+=(-o -name "$name")
    done
    [ ${#folders[@]} != 0 ] || return 0
    find "${folders[@]}" \( -path ./.git -o -path ./build -o -path ./data -o -path ./runs \
        -o -name __pycache__ \) -prune -o -type f \( "${names[@]:1}" \) -print |
        sed 's|^\./||' | sort
}

# code FILE...: the lines of C files as FILE:LINE:TEXT, without comments and the insides of strings
# (those of #include lines stay).
code() {
    [ $# = 0 ] || awk -f "$lint_folder/code.awk" "$@"
}

lint() {
    local found
    found=$(cd "$root" && check) || true
    if [ -n "$found" ]; then
        printf '%s\n' "$found"
        lint_failed=1
    fi
}

# plant FILE TEXT: a tree of one file.
plant() {
    rm -rf "${planted:?}"/*
    mkdir -p "$planted/$(dirname "$1")"
    printf '%s\n' "$2" >"$planted/$1"
}

caught() {
    local found
    plant "$1" "$2"
    found=$(cd "$planted" && check) || true
    if [[ $found != *"$1"* ]]; then
        printf 'this lint does not catch, in %s:\n%s\n' "$1" "$2"
        lint_failed=1
    fi
}

accepted() {
    local found
    plant "$1" "$2"
    found=$(cd "$planted" && check) || true
    if [ -n "$found" ]; then
        printf 'this lint reports what is right, in %s:\n%s\n%s\n' "$1" "$2" "$found"
        lint_failed=1
    fi
}

# Last line of a lint.
verdict() {
    exit "$lint_failed"
}
