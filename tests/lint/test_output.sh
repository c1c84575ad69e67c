#!/usr/bin/env bash
# Libraries neither print nor stop the program: only main.c does, and the watchdog, where main waits for ever. Writing to a FILE that was given is fine,
# and train/ may write to standard output.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"

stops='exit|_exit|_Exit|quick_exit|abort|assert|printf|vprintf|puts|putchar|perror'
unsafe='system|popen|rand|srand|strtok|gets|sprintf'
writes='v?fprintf|fputs|fputc|putc|fwrite|fflush'

check() {
    # shellcheck disable=SC2046
    code $(files src kernels comm -- '*.c' '*.h' '*.cu' '*.cuh' | grep -vE '^src/(main|state/watchdog)\.c$') | {
        # the terminal is the business of train/ (its progress line); errors are main's alone
        grep -P "(?<![\\w.>])($stops|$unsafe)\\s*\\(|\\b($writes)\\s*\\((.*,)?\\s*stderr\\b|^(?!src/train/).*\\b($writes)\\s*\\((.*,)?\\s*stdout\\b"
    } | sed 's/^\([^:]*:[0-9]*\):[ \t]*/\1: not in a library: /'
}

lint
caught src/train/a.c '    printf("%d\n", 1);'
caught src/train/a.c '    exit(1);'
caught kernels/a.c '    abort ();'
caught comm/a.c 'if (a) puts("b");'
caught comm/a.c '    fprintf(stderr, "b");'
caught comm/a.c '    fputs("b", stdout);'
caught src/train/a.c '    fputs("b", stderr);'
accepted src/train/a.c '    fputs("b", stdout);'
accepted src/train/a.c '    fprintf(f, "printf(%d)", 1); snprintf(b, 1, "x"); comm->abort(comm); /* exit(1) */'
accepted src/main.c '    printf("a");'
caught src/state/gather.c '    _exit(6);'
accepted src/state/watchdog.c '    _exit(6);'
accepted comm/comm_mpi.c '    MPI_Abort(a, 6);'
verdict
