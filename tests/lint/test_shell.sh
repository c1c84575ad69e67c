#!/usr/bin/env bash
# The scripts are free of what shellcheck warns of.
# shellcheck source=tests/lint/lint.sh
. "$(dirname "$0")/lint.sh"
shellcheck=$(need shellcheck)

check() {
    # shellcheck disable=SC2046
    "$shellcheck" -x --severity=warning --format=gcc $(
        files . -- '*' | xargs -r grep -lIE -m1 '^#!.*\b(bash|sh)$|shellcheck shell=' || true
    ) </dev/null
}

lint
caught launch/a $'#!/usr/bin/env bash\nif [ $a = 1 ; then echo; fi'
caught launch/a $'#!/usr/bin/env bash\nlocal unused=1'
accepted launch/a $'#!/usr/bin/env bash\necho "$1"'
verdict
