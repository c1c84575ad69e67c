#!/usr/bin/env bash
# Every kernel is compiled for each architecture of a build with CUDA without spilled registers and within its budget of
# registers (budget.txt). Needs no GPU: ptxas has said it while the build was made (ptxas_said.sh).
#
#     tests/gpu/test_nvcc.sh BUILD            compare
#     tests/gpu/test_nvcc.sh BUILD --write    write budget.txt anew
#
# Registers are the compiler's choice: they are compared with the nvcc release that the budget names, with any
# other release only spills count.
set -euo pipefail
export LC_ALL=C
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$folder/../.." && pwd)
build=$1
budget=$folder/budget.txt
nvcc=$(sed -n 's/^CMAKE_CUDA_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
release=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# kernels FILE: lines KERNEL ARCHITECTURE REGISTERS SPILLED_BYTES, of what ptxas reports.
kernels() {
    c++filt <"$1" | awk '
    /Compiling entry function/ {
        match($0, /\047.*\047 for/)
        kernel = substr($0, RSTART + 1, RLENGTH - 6)
        architecture = $NF
        gsub(/\047/, "", architecture)
        spilled = 0
        # Only the name and what a template is instantiated with: no return type, no arguments.
        sub(/^void /, "", kernel)
        gsub(/\(anonymous namespace\)::|_INTERNAL_[0-9a-f_]*[a-z_]*::/, "", kernel)
        sub(/\(.*/, "", kernel)
        gsub(/ /, "", kernel)
    }
    /bytes spill stores/ && kernel != "" {
        for (i = 2; i <= NF; i++)
            if ($i == "spill")
                spilled += $(i - 2)
    }
    /Used [0-9]+ registers/ && kernel != "" {
        for (i = 1; i < NF; i++)
            if ($i == "Used")
                print kernel, architecture, $(i + 1), spilled
        kernel = ""
    }'
}

# judge FOUND BUDGET: what is wrong with the kernels in FOUND, lines of `kernels` behind their file's name. Fails if
# anything is.
judge() {
    awk -v release="$release" '
    FNR == NR {
        if ($1 == "nvcc")
            same = $2 == release
        else if ($1 !~ /^#/)
            allowed[$1 " " $2 " " $3] = $4
        next
    }
    {
        key = $1 " " $2 " " $3
        seen[key] = 1
        built[$3] = 1
        if ($5 > 0) {
            print key ": " $5 " bytes of registers are spilled; none may be"
            bad = 1
        }
        if (!(key in allowed)) {
            print key ": " $4 " registers, and no budget; tests/gpu/test_nvcc.sh BUILD --write"
            bad = 1
        } else if (same && $4 > allowed[key]) {
            print key ": " $4 " registers; the budget is " allowed[key]
            bad = 1
        }
    }
    END {
        for (key in allowed) {
            split(key, parts, " ")
            if (parts[3] in built && !(key in seen)) {
                print key ": in the budget, but there is no such kernel; tests/gpu/test_nvcc.sh BUILD --write"
                bad = 1
            }
        }
        exit bad
    }' "$2" "$1"
}

# caught FOUND_LINE BUDGET_LINE: the judge sees that this is wrong.
caught() {
    printf '%s\n' "$1" >"$work/planted"
    printf 'nvcc %s\n%s\n' "$release" "$2" >"$work/planted_budget"
    if judge "$work/planted" "$work/planted_budget" >/dev/null; then
        echo "not caught: '$1' where the budget is '$2'"
        failed=1
    fi
}

failed=0
caught 'a.cu k sm_90 20 8' 'a.cu k sm_90 20'
caught 'a.cu k sm_90 21 0' 'a.cu k sm_90 20'
caught 'a.cu k sm_90 20 0' 'a.cu k sm_80 20'
caught 'a.cu k sm_90 20 0' $'a.cu k sm_90 20\na.cu l sm_90 20'

cd "$root"
for file in kernels/cuda/*.cu; do
    said=$build/CMakeFiles/swt_cuda.dir/$file.o.ptxas
    [ -e "$said" ] || { echo "$said: is not there"; failed=1; continue; }
    kernels "$said" | sed "s/^/${file##*/} /" >>"$work/all"
done
sort "$work/all" >"$work/found"

if [ "${2:-}" = --write ]; then
    {
        echo "# Registers of each kernel; made by tests/gpu/test_nvcc.sh BUILD --write."
        echo "nvcc $release"
        cut -d' ' -f1-4 "$work/found"
    } >"$budget"
    echo "written: $budget"
fi

judge "$work/found" "$budget" || failed=1
grep -q "^nvcc $release$" "$budget" || echo "the budget is of another release than $release: only spills are judged"
echo "nvcc $release: $(cut -d' ' -f1-2 "$work/found" | uniq | wc -l) kernels"
exit "$failed"
