#!/usr/bin/env bash
# Every program of the build folder loads libraries from absolute folders alone, is position-independent, is bound before it
# starts with its tables read-only, and has guards on its stack; outside of sanitizers, libc's checked functions.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"
readelf=$(need readelf)
cc=$(need cc)

# programs FOLDER: its ELF programs, without those that CMake tries the compiler with, those that libFuzzer drives (their
# compiler's own flags) and the library that tests load into a program.
programs() {
    local file
    find "$1" \( -name CMakeFiles -o -name Testing -o -name fuzz -o -name "*.so" \) -prune -o -type f -perm -u+x -print | while read -r file; do
        [ "$(head -c 4 "$file" | tail -c 3)" != ELF ] || printf '%s\n' "$file"
    done
}

# faults PROGRAM CHECKED: what is wrong with it; CHECKED yes: it must use libc's checked functions.
faults() {
    local told folders folder
    told=$("$readelf" --wide --program-headers --dynamic --dyn-syms "$1")
    folders=$(sed -nE 's/.*\((RPATH|RUNPATH)\).*\[(.*)\]$/\2/p' <<<"$told")
    while IFS= read -r -d : folder; do
        [[ $folder == /* ]] || echo "$1: looks for libraries in '$folder', which is not absolute: [$folders]"
    done <<<"${folders:+$folders:}"
    grep -qE '\(FLAGS_1\).*\bPIE\b' <<<"$told" || echo "$1: is not position-independent (-pie)"
    grep -qE '\(FLAGS(_1)?\).*\b(BIND_)?NOW\b' <<<"$told" || echo "$1: is bound while it runs (-z now)"
    grep -qE '^ *GNU_RELRO ' <<<"$told" || echo "$1: its tables stay writable (-z relro)"
    grep -qE '^ *GNU_STACK .* RW ' <<<"$told" || echo "$1: its stack can be executed (-z noexecstack)"
    grep -q '__stack_chk_fail' <<<"$told" || echo "$1: has no guards on its stack (-fstack-protector-strong)"
    [ "$2" = no ] || grep -q '__[a-z]*printf_chk' <<<"$told" || echo "$1: has no checked functions (-D_FORTIFY_SOURCE=2)"
}

checked=yes
grep -q '^SWT_SANITIZE:[A-Z]*=.' "$build/CMakeCache.txt" && checked=no
grep -qE '^CMAKE_BUILD_TYPE:[A-Z]*=(Rel|MinSize)' "$build/CMakeCache.txt" || checked=no

check() {
    local program
    for program in $(programs "$build"); do
        faults "$program" "$checked"
    done
}

# shown WHAT FLAG...: a small program built so is found to be at fault so (with '': it is not).
shown() {
    local what=$1 found
    shift
    "$cc" -O2 -fPIE -pie -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now \
        "$planted/a.c" -o "$planted/a" "$@" 2>/dev/null
    found=$(faults "$planted/a" yes)
    if { [ -z "$what" ] && [ -n "$found" ]; } || [[ $found != *"$what"* ]]; then
        printf 'with "%s": expected "%s", found "%s"\n' "$*" "$what" "$found"
        lint_failed=1
    fi
}

[ -n "$(programs "$build")" ] || { echo "$build: has no programs"; lint_failed=1; }
lint
plant a.c '#include <stdio.h>
int main(int n, char **a) { char s[9]; snprintf(s, (size_t)n, "%s", a[0]); return s[1]; }'
shown ''
shown '' -Wl,-rpath,/usr/lib/a:/usr/lib/b
shown "''" -Wl,-rpath,/usr/lib/a:
shown "''" -Wl,-rpath,/usr/lib/a::/usr/lib/b
shown "'lib'" -Wl,-rpath,lib
shown "'.'" -Wl,-rpath,.:/usr/lib/a -Wl,--disable-new-dtags
shown 'position-independent' -no-pie
shown 'bound while' -Wl,-z,lazy
shown 'stay writable' -Wl,-z,norelro
shown 'can be executed' -Wl,-z,execstack
shown 'no guards' -fno-stack-protector
shown 'no checked functions' -U_FORTIFY_SOURCE
verdict
