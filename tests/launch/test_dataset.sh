#!/usr/bin/env bash
# launch/dataset: takes a text from a folder or by download, refuses a wrong one, leaves a right one alone.
# Works offline on a copy of launch/ whose expected sum and address are those of a small text made here.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
command -v curl >/dev/null || { echo "skipped: curl is not installed"; exit 77; }
failed=0

# expect CODE PATTERN COMMAND...: its exit code, and its output (both streams) as an extended pattern.
expect() {
    local code=$1 pattern=$2 out status
    shift 2
    out=$("$@" 2>&1 </dev/null)
    status=$?
    if [ "$status" != "$code" ] || ! grep -Eq -- "$pattern" <<<"$out"; then
        printf '%s: gave %s, not %s and "%s":\n%s\n' "$*" "$status" "$code" "$pattern" "$out"
        failed=1
    fi
}

mkdir "$tree/home" "$tree/wrong" "$tree/nowhere"
cp -r "$root/launch" "$tree/launch"
echo "It is a text." >"$tree/home/tinyshakespeare.txt"
echo "It is another." >"$tree/wrong/tinyshakespeare.txt"
sum=$(sha256sum <"$tree/home/tinyshakespeare.txt" | cut -d' ' -f1)
sed -i "s|^sha256_of_tinyshakespeare=.*|sha256_of_tinyshakespeare=$sum|
    s|^url=.*|url=file://$tree/nowhere/text|" "$tree/launch/dataset"
dataset=$tree/launch/dataset
text=$tree/data/tinyshakespeare.txt
unset SWT_DATA_DIR

expect 2 'error: other: no such text; ' "$dataset" other
expect 2 'error: takes one NAME' "$dataset" tinyshakespeare shakespeare
expect 1 'cannot be reached' "$dataset" tinyshakespeare
expect 1 'not the expected text' env SWT_DATA_DIR="$tree/wrong" "$dataset" tinyshakespeare
[ ! -e "$text" ] || { echo "a wrong text was published"; failed=1; }

expect 0 'tinyshakespeare.txt: 14 bytes, from .*/home/' env SWT_DATA_DIR="$tree/home" "$dataset"
cmp -s "$text" "$tree/home/tinyshakespeare.txt" || { echo "the text differs"; failed=1; }
expect 0 'already there' "$dataset"
expect 0 'already there' "$dataset" tinyshakespeare

# a text that was cut short is replaced; here by a download
echo "It" >"$text"
sed -i "s|^url=.*|url=file://$tree/home/tinyshakespeare.txt|" "$dataset"
expect 0 'from its public home, checked' "$dataset"
cmp -s "$text" "$tree/home/tinyshakespeare.txt" || { echo "a broken text stays"; failed=1; }

[ "$(ls -A "$tree/data")" = tinyshakespeare.txt ] || { echo "left behind:"; ls -A "$tree/data"; failed=1; }
exit "$failed"
