#!/usr/bin/env bash
# ptxas_said.sh COMMAND...: nvcc's launcher in builds with tests: what ptxas says of each kernel goes beside the object,
# OBJECT.ptxas, for test_nvcc.sh; what else is said goes on.
for ((i = 1; i < $#; i++)); do
    [ "${!i}" != -o ] || object=${*:i + 1:1}
done
"$@" 2>"$object.ptxas"
code=$?
grep -vE '^ptxas info|bytes stack frame' "$object.ptxas" >&2
exit "$code"
