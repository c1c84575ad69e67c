#!/usr/bin/env bash
# Every C file is as clang-format leaves it, with .clang-format of the root.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"
format=$(need clang-format 14)

check() {
    files . -- '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' |
        xargs -r "$format" --style="file:$root/.clang-format" --dry-run --Werror 2>&1
}

lint
caught src/base/a.c 'int  a;'
caught tests/base/test_a.c $'void f(void) {\n  return;\n}'
accepted src/base/a.c 'int a;'
verdict
