#!/usr/bin/env bash
# launch/run ends well, whatever ends it: each signal that asks for an end lets the ranks write and leaves nobody behind, also
# one that comes before the ranks are there; a reader that leaves ends nothing; where mpirun cannot start, its reason is shown.
# The ranks are small scripts, so that only the launcher is judged.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
run=$root/launch/run
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed"; exit 77; }
unset SLURM_JOB_ID SLURM_JOB_NODELIST SLURM_NODELIST
failed=0

# A rank: leaves its number in $D/pid.RANK, trains until it is asked to end (or 20 s), and writes its weights for a while.
cat >"$dir/train" <<'END'
#!/usr/bin/env bash
rank=$OMPI_COMM_WORLD_RANK
trap 'echo asked >>"$D/asked.$rank"' TERM
trap '' INT
echo $$ >"$D/pid.$rank"
for ((i = 0; i < 400; i++)); do
    [ ! -e "$D/asked.$rank" ] || { sleep 1.4; echo >"$D/weights.$rank"; exit 130; }
    sleep 0.05
done
exit 99
END
# A rank that talks all the time on both streams, far more than a pipe holds.
cat >"$dir/talk" <<'END'
#!/usr/bin/env bash
for ((i = 0; i < 3000; i++)); do
    echo "step $i of rank $OMPI_COMM_WORLD_RANK and some more words to fill the pipe"
    echo "warning $i" >&2
done
echo >"$D/done.$OMPI_COMM_WORLD_RANK"
END
printf '#!/bin/sh\nexit 0\n' >"$dir/quiet"
printf '#!/bin/sh\necho said\n' >"$dir/say"
chmod +x "$dir"/train "$dir"/talk "$dir"/quiet "$dir"/say

wrong() {
    printf 'FAILED: %s\n' "$*"
    failed=1
}

# nobody_left NAME: the ranks of a run are gone within 5 s.
nobody_left() {
    local file pid try
    for file in "$dir/$1"/pid.*; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        for try in $(seq 50); do
            grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status" 2>/dev/null || break
            sleep 0.1
        done
        [ "$try" -lt 50 ] || { wrong "$1: process $pid runs on"; kill -9 "$pid"; }
    done
}

# start NAME PROGRAM RANKS: in the background, as $job; its files in $dir/NAME.
start() {
    mkdir -p "$dir/$1"
    set -m # without job control bash has SIGINT ignored in it
    D=$dir/$1 "$run" -n "$3" --program "$dir/$2" >"$dir/$1/out" 2>"$dir/$1/err" &
    job=$!
    set +m
}

# ready NAME RANKS: all ranks are there.
ready() {
    local try
    for try in $(seq 300); do
        [ "$(find "$dir/$1" -name 'pid.*' | wc -l)" -lt "$2" ] || return 0
        sleep 0.1
    done
    wrong "$1: the ranks do not start (after $try tries)"
}

# code_of PID SECONDS: its exit code; one that does not end in time is ended by force.
code_of() {
    local try
    for try in $(seq $(($2 * 10))); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    [ "$try" -lt $(($2 * 10)) ] || kill -9 "$1"
    wait "$1"
}

# asks NAME SIGNAL...: to launch/run alone; the ranks hear of it once, write, and it is 130.
asks() {
    local name=$1 code=0 signal
    shift
    start "$name" train 2
    ready "$name" 2
    for signal; do
        kill -"$signal" "$job"
    done
    code_of "$job" 15 || code=$?
    [ "$code" = 130 ] || wrong "$name: exit code $code, not 130: $(cat "$dir/$name/err")"
    [ "$(cat "$dir/$name"/weights.* | wc -l)" = 2 ] || wrong "$name: the ranks did not write"
    [ "$(cat "$dir/$name"/asked.* | wc -l)" = 2 ] || wrong "$name: the ranks were asked more than once"
    nobody_left "$name"
}

# early DELAY: a signal right after the start ends all soon, or was too early for anything to be there.
early() {
    local code=0
    start "early$1" train 2
    sleep "$1"
    kill -TERM "$job"
    code_of "$job" 10 || code=$?
    [[ $code == @(130|143) ]] || wrong "early$1: exit code $code, not 130"
    nobody_left "early$1"
}

signals() {
    local pids=() pid name signal
    for name in "int INT" "term TERM" "hup HUP" "usr1 USR1" "usr2 USR2" "xcpu XCPU" "term-hup TERM HUP"; do
        # shellcheck disable=SC2086
        (asks $name; exit "$failed") & pids+=($!)
        [ $((${#pids[@]} % 4)) != 0 ] || wait "${pids[@]: -4}"
    done
    for signal in 0 0.02 0.05 0.08 0.11 0.14 0.18 0.22 0.27 0.33 0.4 0.6; do
        (early "$signal"; exit "$failed") & pids+=($!)
        [ $((${#pids[@]} % 4)) != 0 ] || wait "${pids[@]: -4}"
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || failed=1
    done
}

# However launch/run ends, its ranks hear of it.
killed() {
    setpriv --pdeathsig USR1 true 2>/dev/null || { echo "left out: no setpriv --pdeathsig"; return; }
    start killed train 2
    ready killed 2
    kill -9 "$job"
    wait "$job" 2>/dev/null
    nobody_left killed
    [ "$(cat "$dir"/killed/weights.* | wc -l)" = 2 ] || wrong "killed: the ranks did not write"
}

# reader NAME PIPE...: 3 ranks talk to a reader that leaves; they come to their end.
reader() {
    local name=$1 code
    shift
    mkdir "$dir/$name"
    { D=$dir/$name "$@" 2>"$dir/$name/err"; echo $? >"$dir/$name/code"; } | head -n 2 >/dev/null
    code=$(cat "$dir/$name/code")
    [ "$code" = 0 ] || wrong "$name: exit code $code: $(grep -v '^warning' "$dir/$name/err" | head -n 3)"
    [ "$(cat "$dir/$name"/done.* | wc -l)" = 3 ] || wrong "$name: the ranks did not come to their end"
}
# shellcheck disable=SC2317
both_streams() {
    "$@" 2>&1
}

readers() {
    local code=0
    reader head "$run" -n 3 --program "$dir/talk"
    reader head-of-both both_streams "$run" -n 3 --program "$dir/talk"
    start pipe train 2
    ready pipe 2
    kill -PIPE "$job"
    sleep 0.5
    kill -0 "$job" 2>/dev/null || wrong "SIGPIPE ended launch/run"
    kill -TERM "$job"
    code_of "$job" 15 || code=$?
    [ "$code" = 130 ] || wrong "pipe: exit code $code"
    nobody_left pipe
}

# expect CODE PATTERN LINES COMMAND...: exit code; standard error has the pattern, and at most so many lines.
expect() {
    local code=$1 pattern=$2 lines=$3 status=0
    shift 3
    "$@" >"$dir/out" 2>"$dir/err" </dev/null || status=$?
    if [ "$status" != "$code" ] || [ "$(wc -l <"$dir/err")" -gt "$lines" ] ||
        { [ -n "$pattern" ] && ! grep -qE -- "$pattern" "$dir/err"; }; then
        wrong "$*: exit code $status, not $code, or not '$pattern' in $lines lines:"
        cat "$dir/err"
    fi
}

starts() {
    local many=$(($(nproc) + 2)) here
    here=$(hostname)
    local slurm=(SLURM_JOB_ID=7 SLURM_NODELIST="$here" SLURM_JOB_NODELIST="$here" SLURM_NNODES=1 SLURM_JOB_NUM_NODES=1
        SLURM_TASKS_PER_NODE=1 SLURM_NTASKS=1 SLURM_JOB_CPUS_PER_NODE=2)
    echo 'localhost slots=1' >"$dir/hosts"
    expect 2 'not enough slots' 60 "$run" -n 2 --program "$dir/quiet" --hostfile "$dir/hosts"
    expect 2 'mpirun cannot start the ranks' 60 env "${slurm[@]}" "$run" -n "$many" --program "$dir/quiet"
    expect 0 '' 0 env SLURM_JOB_ID=7 "$run" -n "$many" --program "$dir/quiet"
    expect 1 'nothing was said' 1 "$run" -n 2 --program "$(type -P false)"
    # shellcheck disable=SC2016
    expect 3 'standard output: cannot be written' 1 bash -c '"$0" -n 1 --program "$1" -- eval >/dev/full' "$run" "$dir/say"
    # shellcheck disable=SC2016
    expect 0 '' 0 bash -c '"$0" -n 1 --program "$1" -- --steps 3 >/dev/full' "$run" "$dir/say"
    # Where the processor is hidden, hwloc speaks in mpirun and in each rank.
    if unshare -m sh -c 'mount -t tmpfs none /sys' 2>/dev/null; then
        # shellcheck disable=SC2016
        expect 0 '' 0 unshare -m sh -c 'mount -t tmpfs none /sys && exec "$0" "$@"' "$run" -n 2 --program "$dir/quiet"
    else
        echo "left out: /sys cannot be hidden here"
    fi
}

# mpirun's own beginning and end, which are too short to be met by chance. In its place a program that catches SIGUSR1 for a
# while, as mpirun does, and takes long to end; it is asked again meanwhile. Its files lie in a folder of this run's alone.
ends_of_mpirun() {
    local code=0 folder
    mkdir "$dir/bin"
    cat >"$dir/bin/mpirun" <<'END'
#!/usr/bin/env python3
import os, signal, sys, time
folder = sys.argv[sys.argv.index("orte_tmpdir_base") + 1]
os.mkdir(os.path.join(folder, "session"))
print(folder, flush=True)
open(os.environ["D"] + "/begun", "w").close()
time.sleep(0.8)  # asked before the first handler is there
asked = []
before = signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
open(os.environ["D"] + "/pid.0", "w").write(str(os.getpid()))
while not asked:
    time.sleep(0.05)
signal.signal(signal.SIGUSR1, before)
time.sleep(1.5)
sys.exit(130)
END
    chmod +x "$dir/bin/mpirun"
    PATH=$dir/bin:$PATH start ends quiet 2
    for _ in $(seq 200); do
        [ ! -e "$dir/ends/begun" ] || break
        sleep 0.05
    done
    kill -TERM "$job"
    code_of "$job" 10 || code=$?
    [[ $code = 130 && ! -s $dir/ends/err ]] || wrong "ends: exit code $code: $(cat "$dir/ends/err")"
    folder=$(cat "$dir/ends/out")
    [[ -n $folder && ! -e $folder ]] || wrong "ends: mpirun's folder '$folder' is left"
}

signals
killed
readers
starts
ends_of_mpirun
exit "$failed"
