#!/usr/bin/env bash
# tests/ptx/long.sh COMMAND...: run a test, but skip it unless the run is a long one (launch/test --long).
if [ "${SWT_LONG:-0}" = 0 ]; then
    echo "skipped: launch/test --long runs it"
    exit 77
fi
exec "$@"
