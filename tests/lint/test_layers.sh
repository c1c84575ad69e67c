#!/usr/bin/env bash
# Includes go down only: base < kernels < comm < model < options < state < train < commands < judge < main, base < io < options,
# train < bench, and foreign headers stay in the layer that wraps them.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"

# Per file: the project headers it may include, then where each foreign header is allowed.
check() {
    # shellcheck disable=SC2046
    code $(files src kernels comm bench -- '*.c' '*.h' '*.cu' '*.cuh') | awk -F: '
    function layer(file) {
        if (file ~ /^src\/base\//) return "base"
        if (file ~ /^kernels\/cpu\//) return "cpu"
        if (file ~ /^kernels\/cuda\//) return "cuda"
        if (file ~ /^kernels\//) return "kernels"
        if (file ~ /^comm\//) return "comm"
        if (file ~ /^src\/model\//) return "model"
        if (file ~ /^src\/io\//) return "io"
        if (file ~ /^src\/options\//) return "options"
        if (file ~ /^src\/state\//) return "state"
        if (file ~ /^src\/train\//) return "train"
        if (file ~ /^src\/commands\//) return "commands"
        if (file ~ /^src\/judge\//) return "judge"
        if (file ~ /^bench\//) return "bench"
        return "main"
    }
    BEGIN {
        base = "base/"; ops = "kernels/swt_(ops|op_table|device|backend|threads)[.]h"
        may["base"] = base
        may["cpu"] = base "|" ops "|kernels/((router|adafactor)_scratch|dropout_experts)[.]h|kernels/cpu/"
        may["cuda"] = base "|" ops "|kernels/((router|adafactor)_scratch|dropout_experts)[.]h|kernels/cuda/"
        may["kernels"] = base "|kernels/"
        may["comm"] = base "|kernels/swt_device[.]h|comm/"
        may["model"] = base "|" ops "|comm/swt_comm[.]h|model/"
        may["io"] = base "|io/"
        may["options"] = may["model"] "|io/|options/"
        may["state"] = may["options"] "|state/"
        may["train"] = may["state"] "|train/"
        may["commands"] = may["train"] "|commands/"
        may["judge"] = may["commands"] "|judge/"
        may["main"] = may["judge"]
        may["bench"] = may["train"] "|bench/"
        # foreign header -> files that may include it
        only["mpi[.]h"] = "^comm/comm_mpi[.]c$|^comm/comm_start[.]c$|^src/main[.]c$|^bench/bench_comm[.]c$"
        only["nccl[.]h"] = "^comm/comm_nccl(_own)?[.][ch]$"
        only["omp[.]h"] = "^kernels/cpu/"
        only["(cuda_|cublas|driver_types|device_).*"] = "^kernels/cuda/|^comm/comm_nccl(_clock|_own)?[.][ch]$"
        only["immintrin[.]h"] = "^kernels/cpu/"
        only["yaml[.]h"] = "^src/options/"
        only["xxhash[.]h"] = "^src/(io|options|state|train)/"
        only["jansson[.]h"] = "^src/(io|state)/"
        only["cmocka[.]h"] = "^$"
    }
    $3 ~ /^[ \t]*#[ \t]*include/ && match($3, /["<][^">]+/) {
        name = substr($3, RSTART + 1, RLENGTH - 1)
        if (substr($3, RSTART, 1) == "\"" && name ~ /\//) {
            if (name !~ "^(" may[layer($1)] ")")
                print $1 ":" $2 ": " layer($1) " includes " name
        }
        for (header in only)
            if (name ~ "^" header "$" && $1 !~ only[header])
                print $1 ":" $2 ": " name " does not belong here"
    }'
}

lint
caught src/base/a.c '#include "kernels/swt_ops.h"'
caught kernels/ops.c '#include "comm/swt_comm.h"'
caught kernels/cpu/a.c '#include "kernels/cuda/a.h"'
caught kernels/cuda/a.cu '#include "kernels/cpu/a.h"'
caught comm/comm.c '#include "kernels/swt_ops.h"'
caught comm/comm.c '#include <mpi.h>'
caught src/model/model.c '#include "train/step.h"'
caught src/model/model.c '#include "io/files.h"'
caught src/io/files.c '#include "model/dims.h"'
caught src/io/data.c '#include "options/options.h"'
caught src/train/checkpoint.c '#include <jansson.h>'
caught src/model/model.c '#include "kernels/cpu/cpu.h"'
caught src/model/model.c '#include "options/options.h"'
caught src/options/check.c '#include "train/rundir.h"'
caught src/state/save.c '#include "train/session.h"'
caught src/options/check.c '#include "state/manifest.h"'
caught src/train/loop.c '#include <yaml.h>'
caught src/state/watchdog.c '#include "train/session.h"'
caught src/model/stack.c '#include "state/watchdog.h"'
caught src/train/loop.c '  # include <mpi.h>'
caught src/train/loop.c '#include <omp.h>'
caught kernels/ops.c '#include <immintrin.h>'
caught src/main.c '#include <cuda_runtime.h>'
caught src/main.c '#include "comm/comm_mpi.h"'
caught src/train/loop.c '#include "bench/rows.h"'
caught src/train/loop.c '#include "judge/oracle.h"'
caught src/train/loop.c '#include "commands/commands.h"'
caught src/commands/plan.c '#include "judge/selftest.h"'
caught src/judge/trial.c '#include "kernels/cpu/cpu.h"'
caught bench/bench_ops.c '#include "kernels/cpu/cpu.h"'
caught bench/bench_ops.c '#include <mpi.h>'
accepted bench/bench_step.c $'#include "bench/rows.h"\n#include "train/session.h"'
accepted src/train/loop.c $'#include "io/data.h"\n#include "model/model.h"'
accepted src/main.c '#include "judge/selftest.h"'
accepted comm/comm_mpi.c $'#include "comm/swt_comm.h"\n#include "kernels/swt_device.h"\n#include <mpi.h>'
accepted kernels/ops.c $'#include "kernels/cpu/cpu.h"\n#include "base/status.h"'
accepted src/base/a.c '/* #include "train/step.h" */'
verdict
