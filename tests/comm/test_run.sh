#!/usr/bin/env bash
# What launch/run promises: the exit codes, one message, orderly interruption, nobody left behind.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
run=$root/launch/run
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ranks=$dir/ranks
failures=0

cd "$root"
mpicc -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -O1 -Wall -Wextra -Werror -I. -Isrc \
    tests/comm/run_ranks.c comm/comm.c comm/same_call.c comm/comm_self.c comm/comm_mpi.c src/base/status.c src/base/utf8.c src/base/words.c \
    -o "$ranks"

wrong() {
    printf 'FAILED: %s\n' "$*" >&2
    sed 's/^/    stdout: /' "$dir/out" >&2
    sed 's/^/    stderr: /' "$dir/err" >&2
    failures=$((failures + 1))
}

# call CODE ARGUMENT...: launch/run must exit with CODE.
call() {
    local want=$1 got=0
    shift
    rm -f "$dir"/pid.* "$dir/ready" "$dir/weights"
    "$run" "$@" >"$dir/out" 2>"$dir/err" || got=$?
    [ "$got" = "$want" ] || wrong "run $*: exit code $got, not $want"
}

# says FILE TEXT: the last call wrote it there.
says() {
    grep -qF -e "$2" "$dir/$1" || wrong "$1 lacks: $2"
}

says_not() {
    ! grep -qF -e "$2" "$dir/$1" || wrong "$1 has: $2"
}

# Standard error is this line alone (mpirun's explanations do not drown it).
says_only() {
    [ "$(cat "$dir/err")" = "$1" ] || wrong "standard error is not just: $1"
}

# No rank of the last call runs any more; the system may take a moment to end a killed one.
nobody_left() {
    local file pid try
    for file in "$dir"/pid.*; do
        pid=$(cat "$file")
        for try in $(seq 50); do
            grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status" 2>/dev/null || break
            sleep 0.1
        done
        [ "$try" -lt 50 ] || wrong "process $pid of ${file##*/} still runs"
    done
}

usage_errors() {
    call 0 --help
    says out "usage: launch/run"
    call 2
    says err "-n: is missing"
    call 2 -n 0
    call 2 -n 2x
    call 2 -n
    says err "has no value"
    call 2 -n 2 --timeout 1.5 --program "$ranks"
    call 2 -n 2 --hostfile "$dir/none" --program "$ranks"
    says err "$dir/none: cannot be read"
    call 2 -n 2 --experts 4
    says err "after --"
    call 2 -n 2 --build no-such-preset
    says err "cmake --preset no-such-preset"
    call 2 -n 2 --program "$dir/none"
    says err "$dir/none: is not there"

    mkdir -p "$dir/no-mpi"
    local tool
    for tool in bash env dirname id cat; do
        ln -sf "$(command -v $tool)" "$dir/no-mpi/$tool"
    done
    local code=0
    PATH=$dir/no-mpi "$run" -n 2 --program "$ranks" >"$dir/out" 2>"$dir/err" || code=$?
    [ "$code" = 2 ] || wrong "without mpirun: exit code $code"
    says err "openmpi-bin"
}

printed_lines() {
    call 0 -n 1 --program "$ranks" --print -- --data "my text.txt" ''
    says out "$ranks --data my\\ text.txt ''"
    says out "mpirun -n 1 "
    says_not out "--oversubscribe"
    call 0 -n 999 --program "$ranks" --print
    says out "--oversubscribe"
    # A bound on OpenMP's threads says nothing about the cores.
    OMP_NUM_THREADS=1000 call 0 -n 999 --program "$ranks" --print
    says out "--oversubscribe"
    echo "localhost slots=2" >"$dir/hosts"
    call 0 -n 999 --program "$ranks" --print --hostfile "$dir/hosts"
    says out "--hostfile $dir/hosts"
    says_not out "--oversubscribe"
    says_not out "vader"
    # An installed copy finds the installed program.
    mkdir -p "$dir/prefix/share/swt-dist/launch" "$dir/prefix/bin"
    cp "$run" "$dir/prefix/share/swt-dist/launch/run"
    cp "$ranks" "$dir/prefix/bin/swt-dist"
    "$dir/prefix/share/swt-dist/launch/run" -n 2 --print >"$dir/out" 2>"$dir/err" ||
        wrong "the installed copy fails"
    says out "$dir/prefix/bin/swt-dist"
}

exit_codes() {
    local code
    cat >"$dir/stubborn" <<EOF
#!/usr/bin/env bash
trap '' TERM
echo \$\$ >"$dir/pid.\$OMPI_COMM_WORLD_RANK"
[ "\$OMPI_COMM_WORLD_RANK" = 0 ] || { sleep 1; exit 3; }
while :; do sleep 0.2; done
EOF
    chmod +x "$dir/stubborn"
    call 0 -n 3 --program "$ranks" -- "$dir" print "a  b" "*" '' "it's \"\$HOME\""
    printf '%s\n' "<a  b>" "<*>" "<>" "<it's \"\$HOME\">" | cmp -s - "$dir/out" ||
        wrong "the arguments changed on their way"
    call 0 -n 2 --hostfile "$dir/hosts" --program "$ranks" -- "$dir" print x
    says out "<x>"
    for code in 2 3 4 5 6 130; do
        call "$code" -n 2 --program "$ranks" -- "$dir" all "$code"
        says_only "the one message"
        nobody_left
    done
    call 4 -n 3 --program "$ranks" -- "$dir" abort 4
    says_only "the one message"
    nobody_left
    call 6 -n 3 --program "$ranks" -- "$dir" kill 9
    says err "a rank was lost"
    nobody_left
    # A rank that has nothing to do with MPI and does not listen to SIGTERM goes, too.
    call 3 -n 2 --program "$dir/stubborn"
    nobody_left
    call 124 -n 2 --timeout 2 --program "$ranks" -- "$dir" hang
    says err "--timeout"
    nobody_left
}

# interrupt MODE SIGNAL...: to the whole group, as a terminal does it. To the script alone: tests/launch/test_run_signals.sh.
interrupt() {
    local mode=$1 job code=0 signal try
    shift
    rm -f "$dir"/pid.* "$dir/ready" "$dir/weights"
    set -m
    "$run" -n 3 --program "$ranks" -- "$dir" "$mode" >"$dir/out" 2>"$dir/err" &
    job=$!
    set +m
    for try in $(seq 300); do
        [ ! -e "$dir/ready" ] || break
        sleep 0.1
    done
    [ "$try" -lt 300 ] || wrong "the ranks do not start"
    for signal; do
        kill -"$signal" -- "-$job"
        sleep 1
    done
    wait "$job" || code=$?
    [ "$code" = 130 ] || wrong "$mode, SIG$*: exit code $code, not 130"
    nobody_left
}

interruptions() {
    interrupt work INT
    [ -e "$dir/weights" ] || wrong "SIGINT: the ranks were not let finish"
    # Ranks that do not listen end at the second signal.
    interrupt hang INT INT
}

usage_errors
printed_lines
exit_codes
interruptions
[ "$failures" = 0 ] || exit 1
echo "launch/run: all as promised"
