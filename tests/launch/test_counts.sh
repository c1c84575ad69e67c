#!/usr/bin/env bash
# launch/test counts right and fails where it must, on a small project with tests of every outcome.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0
unset SWT_LONG

cp -r "$root/launch" "$tree/launch"
echo 'packages_need() { :; }' >>"$tree/launch/lib.sh"
cat >"$tree/CMakePresets.json" <<'END'
{ "version": 6, "configurePresets": [
    { "name": "cpu", "generator": "Ninja", "binaryDir": "${sourceDir}/build/cpu" },
    { "name": "cpu-asan", "generator": "Ninja", "binaryDir": "${sourceDir}/build/cpu-asan" } ] }
END
cat >"$tree/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(outcomes NONE)
enable_testing()
add_test(NAME good.one COMMAND true)
add_test(NAME good.two COMMAND true)
add_test(NAME good.env COMMAND sh -c "test \"$SWT_LONG\" = 1")
add_test(NAME lint.one COMMAND true)
set_tests_properties(lint.one PROPERTIES LABELS lint)
add_test(NAME skipped COMMAND sh -c "exit 77")
set_tests_properties(skipped PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME skipped.word COMMAND echo "no luck")
set_tests_properties(skipped.word PROPERTIES SKIP_REGULAR_EXPRESSION "no luck")
add_test(NAME bad.exit COMMAND false)
add_test(NAME bad.crash COMMAND sh -c "echo '<testcase status=\"run\"'; kill -SEGV $$")
add_test(NAME bad.missing COMMAND no_such_program)
add_test(NAME bad.time COMMAND sleep 20)
set_tests_properties(bad.time PROPERTIES TIMEOUT 1)
END

# expect CODE LAST_LINE ARGUMENT...: of launch/test
expect() {
    local code=$1 line=$2 out status
    shift 2
    out=$("$tree/launch/test" --build cpu --build cpu-asan "$@" 2>&1 </dev/null)
    status=$?
    if [ "$status" != "$code" ] || [ "$(tail -n 1 <<<"$out")" != "$line" ]; then
        printf 'launch/test %s: gave %s, not %s and "%s":\n%s\n' "$*" "$status" "$code" "$line" "$out"
        failed=1
    fi
}

# two builds, the lint in the first alone
expect 0 "4 passed, 0 failed, 0 skipped" -R '^good\.(one|two)$'
expect 0 "1 passed, 0 failed, 0 skipped" -R '^lint'
expect 0 "0 passed, 0 failed, 4 skipped" -R '^skipped'
expect 1 "0 passed, 2 failed, 0 skipped" -R '^good\.env$'
expect 0 "2 passed, 0 failed, 0 skipped" --long -R '^good\.env$'
expect 1 "0 passed, 2 failed, 0 skipped" -R '^bad\.missing$'
expect 1 "0 passed, 1 failed, 0 skipped" -R '^nothing$'
expect 1 "7 passed, 8 failed, 4 skipped" --long
expect 2 "test: error: -R: a regular expression is missing" -R
expect 2 "test: error: --short: unknown argument; --fresh (first), --long, -R REGEX and --build PRESET are known" --short

# a build that fails is a failure, and shows why
echo 'message(FATAL_ERROR "broken here")' >>"$tree/CMakeLists.txt"
out=$("$tree/launch/test" --build cpu 2>&1 </dev/null)
status=$?
if [ "$status" = 0 ] || ! grep -q 'broken here' <<<"$out"; then
    printf 'a build that fails gave %s:\n%s\n' "$status" "$out"
    failed=1
fi
exit "$failed"
