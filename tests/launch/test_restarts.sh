#!/usr/bin/env bash
# launch/run --max-restarts: a training goes on after the loss of a rank, so often and no oftener, on the hosts that are left.
# mpirun is a script here, which notes what it is told: its answers are those of a cluster that this machine is not. With
# the program itself: tests/state/test_restarts.py.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
run=$root/launch/run
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unset SLURM_JOB_ID SLURM_JOB_NODELIST SLURM_NODELIST
failed=0

# mpirun: a host named dead* starts nothing; a run ends with the next code of $D/codes.
mkdir "$dir/bin"
cat >"$dir/bin/mpirun" <<'END'
#!/usr/bin/env bash
if [ "${*: -1}" = true ]; then
    [[ "$*" != *dead* ]]
    exit
fi
echo "${*//$'\n'/ }" >>"$D/told"
echo said >&2
code=$(head -n 1 "$D/codes")
sed -i 1d "$D/codes"
exit "$code"
END
printf '#!/bin/sh\n' >"$dir/program"
chmod +x "$dir/bin/mpirun" "$dir/program"

wrong() {
    printf 'FAILED: %s\n' "$*"
    sed 's/^/    /' "$dir/err"
    failed=1
}

# call CODES WANTED ARGUMENT...: what mpirun will end with, one after the other, and what launch/run must.
call() {
    local code=0 codes=$1 wanted=$2
    shift 2
    tr ' ' '\n' <<<"$codes" >"$dir/codes"
    rm -f "$dir/told"
    touch "$dir/told"
    D=$dir PATH=$dir/bin:$PATH "$run" --program "$dir/program" "$@" >"$dir/out" 2>"$dir/err" </dev/null || code=$?
    [ "$code" = "$wanted" ] || wrong "$*: exit code $code, not $wanted"
}

# runs N: so many starts of ranks. told N PATTERN: the N-th was told so. not_told N PATTERN.
runs() {
    [ "$(wc -l <"$dir/told")" = "$1" ] || wrong "$(wc -l <"$dir/told") starts, not $1"
}
told() {
    sed -n "$1p" "$dir/told" | grep -q -e "$2" || wrong "start $1 was not told $2: $(sed -n "$1p" "$dir/told")"
}
not_told() {
    ! sed -n "$1p" "$dir/told" | grep -q -e "$2" || wrong "start $1 was told $2: $(sed -n "$1p" "$dir/told")"
}
says() {
    grep -q -e "$1" "$dir/err" || wrong "does not say $1"
}

on_this_machine() {
    call "6 137 0" 0 -n 3 --max-restarts 2 -- --out "$dir/a b" --steps 5
    runs 3
    not_told 1 "--run.resume"
    told 2 "-n 3 .* --out $dir/a b --steps 5 --run.resume auto\$"
    told 3 "-n 3 .* --out $dir/a b --steps 5 --run.resume auto\$"
    says "starting again on 3 rank(s) from the newest checkpoint, 1 more time(s) if need be"
    call "6 6 6" 6 -n 3 --max-restarts 1 -- --out=x
    runs 2
    call "6 0" 6 -n 3 -- --out x
    runs 1
    for code in 2 3 4 5 130; do # nothing that a restart would heal
        call "$code 0" "$code" -n 3 --max-restarts 5 -- --out x
        runs 1
    done
    call "6 0" 0 -n 3 --max-restarts 1 -- train --out x --run.resume auto --steps 7
    told 2 "train --out x --run.resume auto --steps 7\$"
}

on_hosts() {
    printf 'alive1 slots=2\n# a comment\n\ndead1 slots=4\nalive2 slots=3 max_slots=8\n' >"$dir/hosts"
    call "6 6 0" 0 -n 9 --max-restarts 2 --hostfile "$dir/hosts" -- --out x
    told 1 "--hostfile $dir/hosts"
    told 2 "-n 5 .*--host alive1:2,alive2:3"
    told 3 "-n 5 .*--host alive1:2,alive2:3"
    call "6 0" 0 -n 2 --max-restarts 2 --host "alive1:4,dead2:4" -- --out x
    told 2 "-n 2 .*--host alive1:4"
    printf 'alive1\ndead1\nalive2\n' >"$dir/hosts" # 7 ranks are 3 a host
    call "6 0" 0 -n 7 --max-restarts 2 --hostfile "$dir/hosts" -- --out x
    told 2 "-n 6 .*--host alive1:3,alive2:3"
    call "6 0" 6 -n 2 --max-restarts 2 --host "dead1:4" -- --out x
    runs 1
    says "none of the hosts answers"
}

refusals() {
    call 0 2 -n 2 --max-restarts x -- --out x
    says "not a number of restarts"
    call 0 2 -n 2 --max-restarts 1 -- --steps 3
    says "add --out DIR"
    call 0 2 -n 2 --max-restarts 1 -- eval --checkpoint x --out x
    says "eval has nothing to go on from"
    call 0 2 -n 2 --host a --hostfile "$dir/hosts" -- --out x
    says "given twice"
}

on_this_machine
on_hosts
refusals
[ "$failed" = 0 ] || exit 1
echo "restarts: all as promised"
