#!/usr/bin/env bash
# Every function of a header that returns swt_status carries SWT_MUST_CHECK (function pointers cannot).
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"

check() {
    # shellcheck disable=SC2046
    code $(files src kernels comm bench tests -- '*.h' '*.cuh') | awk -F: '
    $3 ~ /^[^(]*swt_status([ \t]+[A-Za-z_0-9#]+[ \t]*[(]|[ \t]*\\?$)/ && $3 !~ /typedef|enum|struct/ {
        if ($3 !~ /SWT_MUST_CHECK/ && before !~ /SWT_MUST_CHECK[ \t]*\\?$/)
            print $1 ":" $2 ": returns swt_status without SWT_MUST_CHECK"
    }
    { before = $3 }'
}

lint
caught src/base/a.h 'swt_status swt_a(int b);'
caught comm/a.h $'swt_status\nswt_a(int b);'
caught kernels/cpu/a.h $'#define SWT_DECLARE(name) \\\n    swt_status swt_cpu_##name(int b);'
caught src/base/a.h 'static inline swt_status swt_a(int b)'
accepted src/base/a.h 'SWT_MUST_CHECK swt_status swt_a(int b);'
accepted src/base/a.h $'SWT_MUST_CHECK\nswt_status swt_a(int b);'
accepted src/base/a.h $'typedef swt_status swt_a_fn(int b);\nstruct a {\n    swt_status (*f)(int b);\n};'
accepted src/base/a.h 'void swt_a(swt_status status);'
verdict
