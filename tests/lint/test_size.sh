#!/usr/bin/env bash
# Files stay under 450 lines, functions under 60 (from the line of the name to the closing brace).
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"

check() {
    # shellcheck disable=SC2046
    wc -l $(files . -- '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.py' '*.sh' '*.awk') /dev/null |
        awk '$2 != "total" && $1 >= 450 { print $2 ": " $1 " lines; under 450 is the limit" }'
    # In formatted C a function starts at column 0 and its body is between braces there.
    # shellcheck disable=SC2046
    awk '
    FNR == 1 { inside = start = 0 }
    /^[A-Za-z_].*[(]/ { start = FNR; name = $0; sub(/[(].*/, "", name); sub(/.*[ *]/, "", name) }
    /^[{]/ && start || /^[A-Za-z_ ].*[)] [{]$/ && start { inside = 1 }
    /^}/ {
        if (inside && FNR - start + 1 >= 60)
            print FILENAME ":" start ": " name ": " FNR - start + 1 " lines; under 60 is the limit"
        inside = start = 0
    }
    ' $(files . -- '*.c' '*.h' '*.cu' '*.cuh' '*.cpp') /dev/null
}

# long_function LINES: a function of so many lines.
long_function() {
    printf 'static int long_one(int a,\n         int b) {\n'
    yes '    if (a) { b++; }' | head -n $(($1 - 3))
    printf '}\n'
}

lint
caught src/base/a.c "$(yes 'int a;' | head -n 450)"
caught launch/a.sh "$(yes 'echo' | head -n 450)"
accepted src/base/a.c "$(yes 'int a;' | head -n 449)"
caught src/base/a.c "$(long_function 60)"
caught src/base/a.c "$(long_function 59; long_function 60 | sed 's/int b) {/int b)\n{/')"
accepted src/base/a.c "$(long_function 59; long_function 59)"
accepted src/base/a.c "static const int table[] = {$(yes ' 1,' | head -n 80)
};"
verdict
